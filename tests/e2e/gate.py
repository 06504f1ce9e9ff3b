"""A point in a hook where it reports its arrival and waits for the test."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path


class Gate:
    """Two named pipes: each hook writes its pid to one and reads one byte from the other.

    The test keeps both open, so that no hook blocks when it opens them, and reads
    with a timeout. Any number of hooks may pass the gate.
    """

    def __init__(self, folder: Path, name: str = "gate") -> None:
        self.arrivals = folder / f"{name}.arrivals"
        self.releases = folder / f"{name}.releases"
        for path in (self.arrivals, self.releases):
            os.mkfifo(path)
        self._arrivals = os.open(self.arrivals, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._releases = os.open(self.releases, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._read = b""

    @property
    def arrive(self) -> str:
        """Code of a hook that reports its pid and continues."""
        return (
            "import os\n"
            f"with open({str(self.arrivals)!r}, 'wb', buffering=0) as arrivals:\n"
            "    arrivals.write(b'%d\\n' % os.getpid())\n"
        )

    @property
    def wait(self) -> str:
        """Code of a hook that waits for the test."""
        return (
            f"with open({str(self.releases)!r}, 'rb', buffering=0) as releases:\n"
            "    releases.read(1)\n"
        )

    @property
    def code(self) -> str:
        """Code of a hook that reports its pid and waits for the test."""
        return self.arrive + self.wait

    def arrived(self, timeout: float = 20) -> int:
        """The pid of the next hook that arrives."""
        end = time.monotonic() + timeout
        while b"\n" not in self._read:
            ready, _, _ = select.select([self._arrivals], [], [], max(0, end - time.monotonic()))
            assert ready, "no hook arrived at the gate"
            self._read += os.read(self._arrivals, 4096)
        line, _, self._read = self._read.partition(b"\n")
        return int(line)

    def nobody(self) -> bool:
        """Whether no further hook has arrived so far."""
        ready, _, _ = select.select([self._arrivals], [], [], 0)
        return not ready and not self._read

    def release(self, hooks: int = 1) -> None:
        """Release this many hooks, including ones that arrive later."""
        os.write(self._releases, b"." * hooks)

    def close(self) -> None:
        """Release all waiting hooks: they read the end of the file."""
        os.close(self._arrivals)
        os.close(self._releases)
