"""Signals to the worker."""

from __future__ import annotations

# `signal` imports `enum`, which takes a guard a quarter of its start. Its functions make members of
# enumerations of the numbers that these take and return, with many calls of Python functions, for
# each hook.
import _signal as signal  # type: ignore[import-not-found]
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, List, NoReturn, Set

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
PAUSE_SIGNALS = (signal.SIGTSTP, signal.SIGCONT)
WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


class SignalWatch:
    """Makes signals readable on a descriptor, so that poll() can wait for them."""

    def __init__(self, told: Iterable[int] = STOP_SIGNALS) -> None:
        """`told` are the signals that `take` returns. SIGCHLD is watched, too."""
        self._told = frozenset(told)
        self.descriptor, self._write_end = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._write_end, False)
        self._taken: List[int] = []
        # A shell starts background jobs with SIGINT ignored, which must stay so: sh(1).
        self._caught = [
            number
            for number in (*self._told, signal.SIGCHLD)
            if number not in STOP_SIGNALS or signal.getsignal(number) != signal.SIG_IGN
        ]
        for number in self._caught:
            signal.signal(number, self._note)
        # The interpreter's handler, in C, writes a byte to the pipe: no poll misses a signal. Our
        # handler records which signal it was, as the pipe may be full.
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)

    def _note(self, number: int, frame: object) -> None:
        if number in self._told:
            self._taken.append(number)

    def take(self) -> List[int]:
        """The signals that came since the last call, when `descriptor` was readable.

        SIGCHLD is not among them: look at the children after each call.
        """
        try:
            while len(os.read(self.descriptor, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass
        taken, self._taken = self._taken, []
        return taken

    def block(self) -> Set[Any]:
        """Block signals around a fork. Returns the previous mask, for `unblock`.

        Between the fork and `restore_defaults`, the hook process has our handlers, and would report
        its own signals to us.
        """
        mask: Set[Any] = signal.pthread_sigmask(signal.SIG_BLOCK, (*self._told, signal.SIGCHLD))
        return mask

    def unblock(self, mask: Iterable[Any]) -> None:
        """Restore the mask that `block` returned."""
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def restore_defaults(self) -> None:
        """Install the handlers of a fresh interpreter, in the hook process."""
        signal.set_wakeup_fd(-1)
        os.close(self.descriptor)
        os.close(self._write_end)
        # We may have inherited an ignored SIGCHLD, which would break subprocess.
        for number in (*self._told, signal.SIGCHLD):
            is_interrupt = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if is_interrupt else signal.SIG_DFL)


def signal_name(number: int) -> str:
    """The name, as ``SIGSEGV``, or the number of a signal that has no name."""
    for name in sorted(dir(signal)):
        if name.startswith("SIG") and name[3] != "_" and getattr(signal, name) == number:
            return name
    return "SIG{}".format(number)


def die_of(number: int) -> NoReturn:
    """Die of that signal, so that the wait status is right."""
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    # Only reached as process 1 of a container, which the kernel protects from signals.
    os._exit(128 + number)
