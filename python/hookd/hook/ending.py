"""Ending a hook process as the interpreter would, but 20 ms faster.

The order is that of Py_FinalizeEx: threads, exit handlers, open files. The rest of it, which
destroys modules and frees memory, is left out.
"""

from __future__ import annotations

import gc
import io
import sys
from os import _exit

from hookd import retained
from hookd.process import libc
from hookd.process.descriptors import flush, flush_standard_streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, NoReturn

    from hookd.protocol.outcome import Outcome


def end_tidily() -> None:
    """Wait for threads, run exit handlers, flush files.

    An exception in one step prevents neither the other steps nor the report of the hook's result:
    in a fresh process it would come too late for that, too.
    """
    for step in (_join_threads, _run_exit_handlers, _flush_files, _flush_c_stdio):
        _shielded(step)


def end_worker() -> None:
    """The same for a worker that ran hooks itself, but without waiting for their threads, which
    could keep a worker that was told to end.
    """
    for step in (_run_exit_handlers, _flush_files, _flush_c_stdio):
        _shielded(step)


def end_copy(outcome: Outcome) -> NoReturn:
    """End a process that the hook forked, and that has returned from the hook, too.

    It ends as it would have in a fresh process, and reports nothing.
    """
    failure = outcome.failure
    if failure is not None and failure.exit_code:
        sys.stderr.write(failure.traceback or failure.message)
    end_tidily()
    leave_copy(outcome)


def leave_copy(outcome: Outcome) -> NoReturn:
    """The same for a process that an exit handler forked."""
    failure = outcome.failure
    _exit(failure.exit_code if failure is not None else 0)


def _shielded(step: Callable[[], None]) -> None:
    try:
        step()
    except BaseException:
        # Exit handlers and threads have printed their own tracebacks.
        pass


def _join_threads() -> None:
    threading = sys.modules.get("threading")
    if threading is not None:
        # This also runs what concurrent.futures has registered to be run before threads end.
        threading._shutdown()


def _run_exit_handlers() -> None:
    # There is no public function for this. weakref.finalize, logging, multiprocessing and some
    # build backends depend on their exit handlers.
    retained.run_exit_functions()


def _flush_files() -> None:
    """Flush all open files, as the end of the interpreter would."""
    flush_standard_streams()
    objects = gc.get_objects()
    # There may be 100,000 objects, so look at their types first, which takes a tenth of the time.
    # Not by isinstance(), which asks proxies for their __class__ and so may run any code.
    types = set(map(type, objects))
    # Text files first, as they flush into the binary files below them.
    for kind in (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom):
        kinds = {candidate for candidate in types if issubclass(candidate, kind)}
        if kinds:
            for candidate in objects:
                if type(candidate) in kinds:
                    flush(candidate)


def _flush_c_stdio() -> None:
    libc.flush_stdio()
