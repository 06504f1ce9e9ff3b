"""The pipes from a hook process to its worker: one for its outcome, one for its current phase.

The worker waits for the first only. It reads the second if there is no outcome, so it need not wake
up for each new phase.
"""

from __future__ import annotations

import os

# Taken before a hook can replace them.
from os import fstat, getpid, write

from hookd import retained
from hookd.retained import to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hookd.protocol.outcome import Outcome

# What goes through the pipe for the outcome: this byte, a length, and the outcome as JSON.
OUTCOME = b"O"
LENGTH_SIZE = 8

HIGH_DESCRIPTOR = 200


class ReportPipes:
    """Both pipes, made before the fork."""

    __slots__ = ("outcome", "outcome_end", "phase", "phase_end")

    def __init__(self) -> None:
        self.outcome, outcome_end = os.pipe()
        try:
            self.phase, phase_end = os.pipe()
        except BaseException:
            os.close(self.outcome)
            os.close(outcome_end)
            raise
        os.set_blocking(self.outcome, False)
        os.set_blocking(self.phase, False)
        # Nobody reads it while the hook runs: if others fill it, the hook process must not block.
        os.set_blocking(phase_end, False)
        self.outcome_end = _WritingEnd(outcome_end)
        self.phase_end = _WritingEnd(phase_end)

    def close_reading(self) -> None:
        """For the hook process."""
        os.close(self.outcome)
        os.close(self.phase)

    def close_writing(self) -> None:
        """For the worker."""
        self.outcome_end.close()
        self.phase_end.close()


class Report:
    """Reports from the hook process to the worker."""

    def __init__(self, pipes: ReportPipes) -> None:
        self._outcome = pipes.outcome_end
        self._phase = pipes.phase_end
        self._owner = os.getpid()

    def tell(self, phase: bytes) -> None:
        """Report the phase that begins now, as one byte, if that is still possible."""
        try:
            if self.is_ours():
                self._phase.write(phase)
        except OSError:
            # The outcome may fail as well, and that is reported.
            pass

    def is_ours(self) -> bool:
        """Whether this is still the hook process, not one that the hook forked."""
        return getpid() == self._owner

    def send(self, outcome: Outcome) -> None:
        """Send the outcome. What happens to this process afterwards does not matter."""
        data = to_json(outcome.to_json()).encode("ascii")
        self._outcome.write(OUTCOME + len(data).to_bytes(LENGTH_SIZE, "big") + data)


class _WritingEnd:
    """Made before the fork, to run less in the hook process."""

    __slots__ = ("_descriptor", "_identity")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = _out_of_the_way(descriptor)
        self._identity = self._identify()

    def close(self) -> None:
        os.close(self._descriptor)

    def write(self, data: bytes) -> None:
        # A hook may close all descriptors that it does not know, as daemons do when they start, and
        # open its own files under their numbers. We must not write to those.
        if self._identify() != self._identity:
            raise OSError("the hook closed the descriptor for its result")
        view = memoryview(data)
        while view:
            view = view[write(self._descriptor, view) :]

    def _identify(self) -> Any:
        status = fstat(self._descriptor)
        return status.st_dev, status.st_ino


def _out_of_the_way(descriptor: int) -> int:
    """Move a descriptor to a high number, if the limit allows that.

    Some programs close all descriptors up to a fixed number.
    """
    fcntl = retained.fcntl
    try:
        moved: int = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, HIGH_DESCRIPTOR)
    except (AttributeError, OSError):
        return descriptor
    os.close(descriptor)
    return moved
