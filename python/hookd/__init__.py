"""hookd: a worker that runs the build hooks of one source tree (PEP 517, PEP 660).

It reads requests as lines on its standard input and answers on its standard output. It needs
nothing but the standard library, and runs on Python 3.7 and later, CPython and PyPy.

Try it, from the project's folder, with any source tree::

    PYTHONPATH=python/tests/backends python python/hookd TREE < python/example.in

The path of a request through the modules:

``__main__`` -> ``main`` (command line, descriptors) -> ``worker`` (what is common to both
isolations) -> ``requests`` (reading one request, checked by ``hooks``) -> one of

* ``isolation_hook``: forks a hook process (``hook_process``) for each hook, and watches it
  through a ``running_hook``;
* ``isolation_none``: calls the hook in the worker itself, with a ``sentinel`` or a ``watchdog``
  beside it;

both of which end in ``running``, that imports the ``backend`` and calls the hook.
"""

from __future__ import annotations

__version__ = "0.1.0"
