"""Questions about processes: which are alive, their families, the resources they use."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

TICK = 0.01


def outlast(limit: float) -> None:
    """Wait for longer than a limit of this many seconds.

    Only time can show that something does not happen when it is due. This is reliable:
    a loaded machine makes the wait longer, never shorter.
    """
    time.sleep(limit * 1.05)


def stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def state(pid: int) -> str | None:
    """The letter of the state, such as S, T or Z."""
    fields = stat(pid)
    return None if fields is None else fields[0]


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    return state(pid) not in (None, "Z", "X")


def parent(pid: int) -> int:
    """The parent of the process."""
    fields = stat(pid)
    assert fields is not None, f"process {pid} has ended"
    return int(fields[1])


# The resolution of the times in /proc, in seconds.
CLOCK_TICK = 1 / os.sysconf("SC_CLK_TCK")


def started(pid: int) -> float:
    """When a process was started, in seconds since the system was (starttime in proc(5))."""
    fields = stat(pid)
    assert fields is not None, f"process {pid} is gone"
    return int(fields[19]) * CLOCK_TICK


def cpu_ticks(pid: int) -> int:
    """The processor time used so far, in clock ticks; 0 if the process has ended."""
    fields = stat(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def pids() -> list[int]:
    """All processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def users() -> set[int]:
    """The users that have a process, zombies included."""
    found = set()
    for pid in pids():
        with suppress(FileNotFoundError):
            found.add(os.stat(f"/proc/{pid}").st_uid)
    return found


def parents() -> dict[int, int]:
    """All processes, zombies included, each with its parent."""
    found = {}
    for pid in pids():
        fields = stat(pid)
        if fields is not None:
            found[pid] = int(fields[1])
    return found


def children(pid: int) -> list[int]:
    """The direct children, zombies included."""
    return [child for child, parent in parents().items() if parent == pid]


def descendants(pid: int) -> list[int]:
    """All descendants, zombies included."""
    by_parent: dict[int, list[int]] = {}
    for child, parent in parents().items():
        by_parent.setdefault(parent, []).append(child)
    found = []
    ahead = [pid]
    while ahead:
        below = by_parent.get(ahead.pop(), [])
        found += below
        ahead += below
    return found


def command(pid: int) -> list[str]:
    """The command line; empty if the process has ended."""
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return text.decode(errors="replace").split("\0")


def cwd(pid: int) -> str | None:
    """The working directory; None if the process has ended."""
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return None


def templates(pid: int) -> list[int]:
    """The templates of a supervisor."""
    # Workers were forked with the same command line, but each has changed to its tree.
    return [
        child for child in children(pid) if "--template" in command(child) and cwd(child) == "/"
    ]


def workers(pid: int) -> list[int]:
    """The workers of a supervisor."""
    owners = templates(pid)
    known = parents()
    return [child for child in known if known[child] in (pid, *owners) and child not in owners]


def zombies(pid: int) -> list[int]:
    """Children that the process has not reaped."""
    return [child for child in children(pid) if state(child) == "Z"]


def wait_no_zombies(pid: int, timeout: float = 5) -> None:
    """Wait until the process has reaped all its dead children."""
    end = time.monotonic() + timeout
    while left := zombies(pid):
        assert time.monotonic() < end, f"never reaped: {left}"
        time.sleep(TICK)


def marked(mark: str) -> dict[int, str]:
    """The running processes whose environment contains `mark`, each with its command line."""
    found = {}
    for pid in pids():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in environment and alive(pid):
            found[pid] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def wait_gone(gone: Iterable[int], timeout: float = 10) -> None:
    """Wait until all processes have ended."""
    end = time.monotonic() + timeout
    for pid in gone:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            ready, _, _ = select.select([descriptor], [], [], max(0, end - time.monotonic()))
        finally:
            os.close(descriptor)
        assert ready or not alive(pid), f"process {pid} still runs"


def wait_until(condition: Callable[[], bool], timeout: float = 20) -> None:
    """Wait until this becomes true."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(TICK)


def wait_state(pid: int, states: str, timeout: float = 10) -> None:
    """Wait until the process is in one of these states. Polls: the kernel has no event for it."""
    end = time.monotonic() + timeout
    while (found := state(pid)) is None or found not in states:
        assert time.monotonic() < end, f"process {pid} is {found}, expected one of {states}"
        time.sleep(TICK)


def wait_caught(pid: int, number: int, timeout: float = 10) -> None:
    """Wait until the process has a handler for this signal."""
    end = time.monotonic() + timeout
    while not int(_status_field(pid, "SigCgt"), 16) >> (number - 1) & 1:
        assert time.monotonic() < end, f"process {pid} does not catch signal {number}"
        time.sleep(TICK)


def peak_memory(pid: int) -> int:
    """The largest resident set so far, in bytes."""
    return int(_status_field(pid, "VmHWM").split()[0]) * 1024


def _status_field(pid: int, name: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return line.partition(":")[2].strip()
    raise AssertionError(f"no {name} for process {pid}")


def open_files(pid: int) -> int:
    """The number of descriptors of the process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def targets(pid: int) -> list[str]:
    """The targets of the descriptors of the process."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue
    return sorted(found)
