"""The worker's view of a hook process."""

from __future__ import annotations

import os
import signal

from hookd import retained
from hookd.hook.call import CALLING, IMPORTING, RETURNED
from hookd.hook.process import EXIT_UNREPORTED
from hookd.hook.report_pipes import LENGTH_SIZE, OUTCOME
from hookd.process.children import HAS_WAITID, send_group_signal
from hookd.process.signals import signal_name
from hookd.protocol.failures import HOOK_CRASHED, Failure
from hookd.protocol.outcome import Outcome, read_outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

    from hookd.hook.report_pipes import ReportPipes

READ_SIZE = 1 << 16

PHASES = {
    b"": "before the backend was imported",
    IMPORTING: "while the backend was imported",
    CALLING: "while the hook ran",
    RETURNED: "after the hook had returned, while exit handlers and threads ended",
}

# In bytes. It has room for the longest result and the list of modules.
LONGEST_OUTCOME = 32 << 20

UNREPORTED = (
    ": it could not report its result (it closed or replaced file descriptors, or broke Python's"
    " own modules)"
)


def _small_int(digits: str) -> int:
    # All numbers are times in nanoseconds and sizes. Converting very long ones would take minutes.
    if len(digits) > 20:
        raise ValueError("a number too long")
    return int(digits)


class RunningHook:
    """A hook process and the reading ends of its pipes.

    The hook is over when its outcome has come, or when it has exited. Do not wait for the end of
    the pipe: the hook's descendants may hold it open for as long as they live.
    """

    def __init__(self, pid: int, pipes: ReportPipes, hook: str) -> None:
        self.pid = pid
        self._hook = hook
        self._pipes = pipes
        self.descriptor = pipes.outcome
        self._pipe_ended = False
        self.reaped = False
        self.outcome: Optional[Outcome] = None
        self._received = bytearray()
        self._death: Optional[Dict[str, Any]] = None

    def signal_group(self, number: int) -> None:
        """Signal the hook process and all in its process group."""
        # Once it is reaped, another process may have its pid.
        if not self.reaped:
            send_group_signal(self.pid, number)

    def is_readable(self) -> bool:
        """Whether to wait for `descriptor`. When the outcome is there, or the pipe has ended, such
        a wait would return at once.
        """
        return self.outcome is None and not self._pipe_ended

    def receive(self) -> None:
        """Read what has come of the outcome, without waiting for more.

        A hook that writes without end is stopped by the limit on an outcome's length.
        """
        try:
            while self.outcome is None:
                data = os.read(self.descriptor, READ_SIZE)
                if not data:
                    self._pipe_ended = True
                    return
                self._received += data
                self._parse()
        except BlockingIOError:
            pass

    def _parse(self) -> None:
        if not self._received.startswith(OUTCOME):
            self._set_unreadable()
            return
        start = 1 + LENGTH_SIZE
        if len(self._received) < start:
            return
        end = start + int.from_bytes(self._received[1:start], "big")
        if end > start + LONGEST_OUTCOME:
            self._set_unreadable()
        elif len(self._received) >= end:
            self._read_outcome(bytes(self._received[start:end]))

    def _read_outcome(self, data: bytes) -> None:
        try:
            value = retained.json_loads(data.decode("ascii"), parse_int=_small_int)
            self.outcome = read_outcome(self._hook, value)
        except (ValueError, RecursionError, Failure):
            self._set_unreadable()

    def _set_unreadable(self) -> None:
        # The hook, or a process that it started, has written to the pipe.
        message = "the hook process was given up {}: its result was unreadable"
        failure = Failure(HOOK_CRASHED, message.format(self._phase()), {})
        self.outcome = Outcome(failure=failure)

    def is_over(self) -> bool:
        """Whether there is an outcome. Call it after each SIGCHLD."""
        if self.outcome is not None:
            return True
        if not self._has_exited():
            return False
        # The exit is often noticed before the outcome is read.
        self.receive()
        if self.outcome is None:
            self.outcome = Outcome(failure=self._crash())
        return True

    def _has_exited(self) -> bool:
        """Look, but do not reap: its process group can then still be killed safely."""
        if self._death is not None:
            return True
        if HAS_WAITID:
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            ended = os.waitid(os.P_PID, self.pid, options)
            if ended is None:
                return False
            self._set_death(ended.si_status, killed=ended.si_code != os.CLD_EXITED)
            return True
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return False
        # This platform has no waitid. A process group's number is not used again while the group
        # has members, so only an empty group's number could belong to another by now.
        send_group_signal(self.pid, signal.SIGKILL)
        self.reaped = True
        killed = os.WIFSIGNALED(status)
        self._set_death(os.WTERMSIG(status) if killed else os.WEXITSTATUS(status), killed)
        return True

    def _set_death(self, number: int, killed: bool) -> None:
        self._death = {"signal": signal_name(number)} if killed else {"exit_code": number}

    def _crash(self) -> Failure:
        death = self._death or {}
        if "signal" in death:
            how = "was killed by {}".format(death["signal"])
        else:
            how = "ended with exit code {}, reporting no result,".format(death["exit_code"])
        message = "the hook process {} {}".format(how, self._phase())
        if death.get("exit_code") == EXIT_UNREPORTED:
            message += UNREPORTED
        return Failure(HOOK_CRASHED, message, death)

    def _phase(self) -> str:
        """What the hook process was doing, by its last report."""
        try:
            told = os.read(self._pipes.phase, READ_SIZE)
        except BlockingIOError:
            told = b""
        # The hook can write to this pipe, too.
        return PHASES.get(told[-1:], "at a time that is not known")

    def close(self) -> None:
        """Close the pipes."""
        self._pipes.close_reading()
