"""hookd: a worker that runs the build hooks of one source tree (PEP 517, PEP 660).

It reads requests as lines on its standard input and answers on its standard output. It needs
nothing but the standard library, and runs on Python 3.7 and later, CPython and PyPy.

Try it, from the project's folder, with any source tree::

    PYTHONPATH=python/tests/backends python python/hookd TREE < python/example.in

Where things are:

* ``main`` reads the command line (``arguments``) and becomes a worker or a template; ``guard`` is
  run in its place;
* ``worker``: the conversation with the caller (``base``) about the ``tree`` that is served, and
  two kinds of worker: ``forking`` starts a process for each hook, ``in_process`` calls hooks
  itself, watched by its template, a ``sentinel`` or a ``watchdog``;
* ``protocol``: lines (``channel``), ``requests`` and the ``hooks`` that they ask for, ``failures``
  with the text of ``exceptions``, and the ``outcome`` of a hook;
* ``hook``: importing the ``backend`` and making the ``call``, in a ``process`` of its own under
  the worker's ``supervision``; what it prints (``capture``), imports (``modules``) and uses
  (``observer``);
* ``template``: the ``server`` that imports modules ahead (``preload``) and forks ``workers``;
* ``process``: what the operating system gives: ``descriptors``, ``children``, ``signals``,
  ``libc``;
* ``retained``: functions of the standard library that must work whatever a hook has replaced.

The path of a request: ``worker.base`` -> ``protocol.requests`` -> ``worker.forking`` ->
``hook.process`` -> ``hook.call`` -> ``hook.backend``, and back by ``hook.report_pipes`` ->
``hook.supervision`` -> ``protocol.outcome`` -> ``worker.base``.
"""

from __future__ import annotations

__version__ = "0.1.0"
