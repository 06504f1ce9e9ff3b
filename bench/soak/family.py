"""The processes of a pool, found in /proc."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICK = 0.01
SENTINEL = "hookd-sentinel"


def _stat(pid: int) -> tuple[str, str, int] | None:
    """The name, the state and the parent."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    head, _, rest = text.rpartition(")")
    fields = rest.split()
    return head.partition("(")[2], fields[0], int(fields[1])


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def marked(mark: str) -> dict[int, str]:
    """The running processes whose environment contains `mark`, each with its command line."""
    found = {}
    for pid in _pids():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        stat = _stat(pid)
        if mark.encode() in environment and stat is not None and stat[1] not in "ZX":
            found[pid] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def survivors(mark: str, seconds: float) -> dict[int, str]:
    """The processes that are still alive after this many seconds."""
    end = time.monotonic() + seconds
    while (left := marked(mark)) and time.monotonic() < end:
        time.sleep(TICK)
    return left


@dataclass(frozen=True)
class Usage:
    """The resources of a process. Memory is the resident set size, in KiB."""

    memory: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Measure the process."""
        text = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in text.splitlines())
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        return cls(int(fields["VmRSS"].split()[0]), descriptors, int(fields["Threads"]))

    def __str__(self) -> str:
        return (
            f"{self.memory / 1024:.1f} MiB, {self.descriptors} descriptors, {self.threads} threads"
        )


def processor_time(pid: int) -> float:
    """The processor time that a process has used, in seconds, to a hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_state(pid: int, states: str, timeout: float = 10) -> None:
    """Wait until the process is in one of these states. Polls: the kernel has no event for it."""
    end = time.monotonic() + timeout
    while (stat := _stat(pid)) is None or stat[1] not in states:
        if time.monotonic() > end:
            raise TimeoutError(f"process {pid} is in state {stat}, expected one of {states}")
        time.sleep(TICK)


def wait_childless(pid: int, timeout: float = 30) -> None:
    """Wait until the process has no children."""
    end = time.monotonic() + timeout
    while children := [one for one in _pids() if (stat := _stat(one)) and stat[2] == pid]:
        if time.monotonic() > end:
            raise TimeoutError(f"process {pid} has the children {children}")
        time.sleep(TICK)


class Family:
    """The process tree of a pool at one moment."""

    def __init__(self, supervisor: int) -> None:
        self._children: dict[int, list[int]] = {}
        for pid in _pids():
            stat = _stat(pid)
            if stat is not None and stat[0] != SENTINEL and stat[1] not in "ZX":
                self._children.setdefault(stat[2], []).append(pid)
        self.templates = [pid for pid in self._below(supervisor) if _is_template(pid)]
        # Each has an installer or another auxiliary program as its child.
        self.guards = [pid for pid in self._below(supervisor) if _is_guard(pid)]
        above = (supervisor, *self.templates)
        others = {*self.templates, *self.guards}
        self.workers = [pid for parent in above for pid in self._below(parent) if pid not in others]
        # With isolation `none` these are the processes that hooks have started.
        self.hooks = {pid: worker for worker in self.workers for pid in self._below(worker)}
        self.installers = [pid for guard in self.guards for pid in self._below(guard)]

    def _below(self, pid: int) -> list[int]:
        return self._children.get(pid, [])

    def signal(self, pid: int, number: signal.Signals) -> bool:
        """Signal a process of the family, but not another one that has reused its pid."""
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                stat = _stat(pid)
                if stat is None or pid not in self._below(stat[2]):
                    return False
                signal.pidfd_send_signal(descriptor, number)
                return True
            finally:
                os.close(descriptor)
        return False


def _words(pid: int) -> list[bytes]:
    """The command line; None if the process has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return []


def _is_template(pid: int) -> bool:
    with suppress(OSError):
        # Workers were forked with the same command line, but each has changed to its tree.
        return b"--template" in _words(pid) and os.readlink(f"/proc/{pid}/cwd") == "/"
    return False


def _is_guard(pid: int) -> bool:
    return b"--guard" in _words(pid)
