"""Isolation `none`: a thread that notices the caller's death while the main thread runs a hook.

With --control, the template or the `sentinel` does that, where the platform allows it.
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

    A hook runs during the `with` statement. `may_act` is called first, with whether there is unread
    input: the watchdog itself must not read any.

    The thread is started with the first hook, and sleeps until the worker ends: starting one for
    each hook would cost as much as a small hook.
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
        # We set one flag and then read the other; the thread does so in the opposite order. So at
        # least one of us sees both.
        self._hook_runs = True
        if self._hung_up:
            self._act()

    def __exit__(self, *error: object) -> None:
        self._hook_runs = False

    def dismiss(self) -> None:
        """Nothing to do: the thread ends with its process."""

    def _start(self) -> None:
        self._started = True
        # The thread inherits this mask: signals must reach the main thread, to interrupt its system
        # calls.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, list(signal.Signals))
        try:
            # Not a threading.Thread, which the hook's own code would see.
            _thread.start_new_thread(self._watch, ())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _watch(self) -> None:
        # Only a hang-up is of interest, which poll() reports without being asked.
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
    """Kill this process, and all that it has started or adopted, as far as they can be found.

    If it leads its process group, as every worker of a supervisor does, the group is killed, too.
    """
    try:
        kill_all(other_threads=True)
    except BaseException:
        # A hook may have broken Python's modules. The process group can still be killed.
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)
