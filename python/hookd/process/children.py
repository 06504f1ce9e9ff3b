"""The worker's children: hook processes, and what it adopts as their subreaper.

Every signal to a single process goes to a child that was not reaped, so its pid cannot belong to
another process meanwhile.
"""

from __future__ import annotations

import os
import signal
from time import monotonic, sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional, Set, Tuple

# Fields of /proc/PID/stat, counted from the one after the command's name: proc(5).
STATE, PARENT, SESSION = 0, 1, 3

LONGEST_KILLING = 5.0

HAS_WAITID = hasattr(os, "waitid")

_overlooked: Set[int] = set()

_are_known: Optional[bool] = None


def overlook(pid: int) -> None:
    """Leave out that child, from now on, whenever children are listed."""
    _overlooked.add(pid)


def living_children() -> List[Tuple[int, int]]:
    """Pid and session of our children that have not ended; empty where they are not known.

    One that comes to be our child while this looks may be missed. Who must not miss any looks
    again after each death of a child, since only that gives us new ones.
    """
    return look_at_children(os.getpid())[0]


def look_at_children(parent: int) -> Tuple[List[Tuple[int, int]], Set[int]]:
    """What `living_children` tells, but of any process, and the pids of those that have ended."""
    living: List[Tuple[int, int]] = []
    ended: Set[int] = set()
    for pid in _candidates(parent):
        try:
            fields = _read_stat("/proc/{}/stat".format(pid))
        except OSError:
            ended.add(pid)
            continue
        if int(fields[PARENT]) != parent or pid in _overlooked:
            continue
        if fields[STATE] in (b"Z", b"X"):
            ended.add(pid)
        else:
            living.append((pid, int(fields[SESSION])))
    return living, ended


def are_known() -> bool:
    """Whether /proc tells of processes by the pids that we know them by.

    It may be missing, or that of another pid namespace, in which our numbers are others' processes.
    What is forked inherits the answer, which is the same there: it may not be able to find it out,
    as old C libraries do not ask for the pid after a clone(2) of our own.
    """
    global _are_known  # noqa: PLW0603
    if _are_known is None:
        try:
            _are_known = os.readlink("/proc/self") == str(os.getpid())
        except OSError:
            _are_known = False
    return _are_known


def _candidates(parent: int) -> List[int]:
    if not are_known():
        return []
    try:
        # Not in every kernel (CONFIG_PROC_CHILDREN). Each thread has children of its own; the
        # main one is looked at first, so that what a thread that ends meanwhile leaves to it is
        # not taken for complete.
        threads = os.listdir("/proc/{}/task".format(parent))
        children = _children_of_thread(parent, parent)
        for thread in threads:
            if int(thread) != parent:
                try:
                    children += _children_of_thread(parent, int(thread))
                except OSError:
                    # It has ended, and left its children to another.
                    children += _children_of_thread(parent, parent)
        return list(dict.fromkeys(children))
    except OSError:
        pass
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _children_of_thread(process: int, thread: int) -> List[int]:
    with open("/proc/{}/task/{}/children".format(process, thread), "rb") as file:
        return [int(pid) for pid in file.read().split()]


def is_stopped(process: int) -> bool:
    """Whether no thread of the process runs, so that it starts no other."""
    folder = "/proc/{}/task".format(process)
    try:
        states = {
            _read_stat("{}/{}/stat".format(folder, thread))[STATE] for thread in os.listdir(folder)
        }
    except OSError:
        # A thread has ended just now: whether it had started another is not known.
        return False
    return states <= {b"T", b"t", b"Z", b"X"}


def _read_stat(path: str) -> List[bytes]:
    with open(path, "rb") as file:
        # The name stands in parentheses, and may hold anything, parentheses too.
        return file.read().rpartition(b")")[2].split()


def reap_ended() -> Tuple[Set[int], bool]:
    """Reap all children that have ended. Returns their pids, and whether any child is left."""
    ended: Set[int] = set()
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended, False
        if pid == 0:
            return ended, True
        ended.add(pid)


def reap_others(spared: int) -> None:
    """Reap children that have ended, but not `spared`: as long as it is not reaped, its process
    group can be signalled without a doubt about whose it is.
    """
    if not HAS_WAITID:
        return
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        # Which of several it tells of is not defined. The rest is reaped after the hook's end.
        if ended is None or ended.si_pid == spared:
            return
        os.waitpid(ended.si_pid, 0)


def send_signal(pid: int, number: int) -> bool:
    """Signal a child that was not reaped. False if it cannot be: it runs as another user."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    return True


def send_group_signal(leader: int, number: int) -> None:
    """Signal the process group, and session, of a hook process that was not reaped."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        # Just forked, and not yet the leader of a group.
        send_signal(leader, number)
    except PermissionError:
        # All members run as other users, or macOS: all members are zombies.
        pass


def kill_all(hook: Optional[int] = None, other_threads: bool = False) -> None:
    """SIGKILL every child and whatever becomes our child by that, until none is left.

    `hook` is the hook process, if there is one: where children cannot be listed, it is the only
    one. Where `other_threads` of a hook may start and reap children meanwhile, none is waited for,
    and it is tried for some seconds at most.
    """
    deadline = monotonic() + LONGEST_KILLING
    if hook is not None:
        send_group_signal(hook, signal.SIGKILL)
        os.waitpid(hook, 0)
    while True:
        _, any_left = reap_ended()
        killed = [send_signal(pid, signal.SIGKILL) for pid, _ in living_children()]
        if not any_left and not killed:
            return
        if not any(killed):
            # Waiting for those that we may not kill could take for ever. But one that has ended
            # while we looked may have left us others.
            if not reap_ended()[0]:
                return
        elif not other_threads:
            os.waitpid(-1, 0)
        elif monotonic() < deadline:
            sleep(0.001)
        else:
            return
