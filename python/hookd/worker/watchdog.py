"""Isolation `none`: seeing the caller's death while the only thread runs a hook.

With --control that is the `sentinel`'s part, where there can be one.
"""

from __future__ import annotations

import _thread
import os
import select
import signal

from hookd.process.children import kill_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, NoReturn


class Watchdog:
    """Kills the worker, with its hook, when the input hangs up while a hook runs.

    A hook runs for as long as the `with` statement. `may_act` is asked first, with whether there
    is input that nobody has read yet: the watchdog itself must not read any.

    The thread is started with the first hook and sleeps for the rest of the worker's life: to
    start one for each hook costs as much as a small hook.
    """

    def __init__(self, input_descriptor: int, may_act: Callable[[bool], bool]) -> None:
        self._input = input_descriptor
        self._may_act = may_act
        self._started = not hasattr(select, "poll")
        self._hook_runs = False
        self._hung_up = False

    def __enter__(self) -> None:
        if not self._started:
            self._start()
        # First the one, then the other, and the thread in the opposite order: so that at least one
        # of the two sees both.
        self._hook_runs = True
        if self._hung_up:
            self._act()

    def __exit__(self, *error: object) -> None:
        self._hook_runs = False

    def dismiss(self) -> None:
        """End it. Nothing to do: the thread ends with its process."""

    def _start(self) -> None:
        self._started = True
        # The thread inherits the mask. Signals are for the main thread: they must interrupt the
        # system call that it is in.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, list(signal.Signals))
        try:
            # Not a threading.Thread, which the hook's own code would see.
            _thread.start_new_thread(self._watch, ())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _watch(self) -> None:
        # Looked at for a hang-up only, which poll() tells unasked.
        poll = select.poll()
        poll.register(self._input, 0)
        poll.poll()
        self._hung_up = True
        if self._hook_runs:
            self._act()

    def _act(self) -> None:
        if self._may_act(self._has_unread_input()):
            end_everything()

    def _has_unread_input(self) -> bool:
        poll = select.poll()
        poll.register(self._input, select.POLLIN)
        return any(event & select.POLLIN for _, event in poll.poll(0))


def end_everything() -> NoReturn:
    """Kill this process and what it has started or adopted, as far as it can be found.

    A supervisor gives each worker a session of its own, so that this is the whole process group.
    """
    try:
        kill_all(other_threads=True)
    except BaseException:
        # A hook may have made anything of Python. What can be killed otherwise, still is.
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)
