"""A trial: a child of the template in which modules are imported first, to see what that does.

It is a copy of the template, and thrown away in the end: what a module changes there costs nothing,
nor does one that never returns, or takes the process with it.
"""

from __future__ import annotations

import os
import signal
from time import monotonic

from hookd import bound
from hookd.children import send_group_signal
from hookd.signals import WATCHED, signal_name
from hookd.trial_process import run_trial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional

    from hookd.trial_gate import Blame

# In seconds. Whoever takes that long does not return, or is of no use ahead of a hook.
LONGEST_SILENCE = 30.0

# These need not be the module's fault: memory may be short, or somebody has tidied up.
SENT_BY_OTHERS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Trial:
    """The template's end of it. Waits for nothing, except the death of what it has killed."""

    def __init__(self, descriptor: int, pid: int) -> None:
        self.descriptor = descriptor
        self.pid = pid
        self.has_ended = False
        self.has_told = False
        """Whether it has said anything at all."""
        self.failure: Optional[str] = None
        """What went wrong with the trial itself."""
        self._unread = b""
        self._importing: Optional[str] = None
        self._heard_at = monotonic()
        os.set_blocking(descriptor, False)

    def seconds_left(self) -> float:
        """For how long it may stay silent. Call `receive` at the latest then."""
        return max(0.0, self._heard_at + LONGEST_SILENCE - monotonic())

    def receive(self) -> List[Dict[str, Any]]:
        """What has become of modules since the last time: an object with `verified` or `refused`.

        The last one may be of the module that it has ended by.
        """
        is_open = self._read()
        is_late = is_open and not self.seconds_left()
        status = self._end() if is_late or not is_open else self._ended()
        if status is not None:
            # What it wrote in between.
            self._read()
        verdicts = self._verdicts()
        if status is not None:
            verdicts += self._blame(status, is_late)
        return verdicts

    def kill(self) -> None:
        """End it, if it has not ended, and let go of it."""
        if not self.has_ended:
            self._end()
        self.close()

    def close(self) -> None:
        """For who is not its parent, or when it has ended."""
        os.close(self.descriptor)

    def _read(self) -> bool:
        """Read all that is there. False when there will be no more."""
        while True:
            try:
                data = os.read(self.descriptor, 1 << 16)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._heard_at = monotonic()
            self._unread += data

    def _verdicts(self) -> List[Dict[str, Any]]:
        *lines, self._unread = self._unread.split(b"\n")
        messages = [bound.json_loads(line.decode("ascii")) for line in lines]
        if messages:
            self.has_told = True
            self._importing = messages[-1].get("importing")
            self.failure = messages[-1].get("failure")
        return [each for each in messages if "verified" in each or "refused" in each]

    def _ended(self, flags: int = os.WNOHANG) -> Optional[int]:
        """Its wait status, once it has ended. It is reaped by that."""
        try:
            pid, status = os.waitpid(self.pid, flags)
        except ChildProcessError:
            # A module that the template imported has waited for whatever child there was.
            pid, status = self.pid, 0
        self.has_ended = pid != 0
        return status if self.has_ended else None

    def _end(self) -> Optional[int]:
        # With what it has started, unless that moved to sessions of its own: those come to us.
        send_group_signal(self.pid, signal.SIGKILL)
        return self._ended(0)

    def _blame(self, status: int, is_late: bool) -> List[Dict[str, Any]]:
        if self._importing is None:
            return []
        lasting = False
        if is_late:
            reason = "its import took more than {:g} s in a trial".format(LONGEST_SILENCE)
        elif os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            lasting = number not in SENT_BY_OTHERS
            how = "died of " + signal_name(number)
            reason = "the trial process {} while it imported this".format(how)
        else:
            lasting = True
            how = "exited with code {}".format(os.WEXITSTATUS(status))
            reason = "the trial process {} while it imported this".format(how)
        blame = {"reason": reason, "lasting": lasting}
        return [dict(blame, refused=self._importing, blames={self._importing: blame})]


def start_trial(
    names: List[str], blames: Dict[str, Blame], leave_template: Callable[[], None]
) -> Trial:
    """Have these modules imported in a child.

    `blames` are the modules that may not be, as former trials have found. Raises `OSError` if
    there is no process to be had.
    """
    read_end, write_end = os.pipe()
    template = os.getpid()
    # Between the fork and its own handlers a signal must not be taken for the template's.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    try:
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            run_trial(names, blames, template, write_end, leave_template, mask)
    except OSError:
        os.close(read_end)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(write_end)
    return Trial(read_end, pid)
