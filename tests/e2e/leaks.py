"""Finds leaks: processes, files, locks and descriptors that are no longer needed."""

from __future__ import annotations

import time
from pathlib import Path

import processes

# The descriptors of an idle pool: its own, and those for each child. A worker has two
# pipes, a log and a pidfd, a template a socket, a log and a pidfd; each tree has a lock.
OWN_DESCRIPTORS = 24
DESCRIPTORS_OF_A_CHILD = 6


def processes_of(mark: str, seconds: float) -> dict[int, str]:
    """The processes with this mark that are still alive after this many seconds."""
    end = time.monotonic() + seconds
    # An exiting process may be visible for a moment, and its pid is not known here.
    while (left := processes.marked(mark)) and time.monotonic() < end:
        time.sleep(processes.TICK)
    return left


def files(folder: Path) -> list[str]:
    """Everything in a folder that should be empty."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def locks(*folders: Path) -> list[str]:
    """Locked files and folders in these folders."""
    held = set()
    for line in Path("/proc/locks").read_text().splitlines():
        # 1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF
        place = next((field for field in line.split() if field.count(":") == 2), None)
        if place is not None:
            held.add(int(place.rpartition(":")[2]))
    if not held:
        return []
    # Compare inodes only: the kernel may report a different number for the device.
    found = []
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            try:
                if path.lstat().st_ino in held:
                    found.append(str(path))
            except FileNotFoundError:
                continue
    return found


def halves(cache: Path) -> set[str]:
    """Drafts of files, locks of environments that do not exist, and unpacked sources."""
    drafts = ("*/.draft-*", "environments/*/*/.draft-*", "answers/*/*/.draft-*")
    found = {str(path) for pattern in drafts for path in cache.glob(pattern)}
    for lock in (cache / "environments").glob("*/made/*.lock"):
        if not lock.with_suffix("").exists():
            found.add(str(lock))
    for lock in (cache / "sources").glob("*.lock"):
        # One that a wheel with compiled code was built of stays.
        if not lock.with_suffix(".built").exists():
            found.add(str(lock))
    return found


def descriptors(pid: int, seconds: float) -> list[str]:
    """The open files of an idle pool, if there are more than it can need."""
    end = time.monotonic() + seconds
    # Work after a response may take a moment.
    while _too_many(pid):
        if time.monotonic() > end:
            return processes.targets(pid)
        time.sleep(processes.TICK)
    return []


def _too_many(pid: int) -> bool:
    few = OWN_DESCRIPTORS + DESCRIPTORS_OF_A_CHILD
    try:
        count = processes.open_files(pid)
    except OSError:
        # It has ended, or belongs to another user.
        return False
    return count > few and count > OWN_DESCRIPTORS + DESCRIPTORS_OF_A_CHILD * len(
        processes.descendants(pid)
    )
