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


def living_children() -> List[Tuple[int, int]]:
    """Pid and session of our children that have not ended; empty where there is no /proc.

    One that comes to be our child while this looks may be missed. Who must not miss any looks
    again after each death of a child, since only that gives us new ones.
    """
    us = os.getpid()
    children = []
    for pid in _candidates(us):
        try:
            with open("/proc/{}/stat".format(pid), "rb") as file:
                # The name stands in parentheses, and may hold anything, parentheses too.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[PARENT]) == us and fields[STATE] not in (b"Z", b"X"):
            children.append((pid, int(fields[SESSION])))
    return children


def _candidates(us: int) -> List[int]:
    try:
        # Not in every kernel (CONFIG_PROC_CHILDREN). Each thread has children of its own; the
        # main one is looked at first, so that what a thread that ends meanwhile leaves to it is
        # not taken for complete.
        threads = os.listdir("/proc/self/task")
        children = _children_of_thread(us)
        for thread in threads:
            if int(thread) != us:
                try:
                    children += _children_of_thread(int(thread))
                except OSError:
                    # It has ended, and left its children to another.
                    children += _children_of_thread(us)
        return list(dict.fromkeys(children))
    except OSError:
        pass
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _children_of_thread(thread: int) -> List[int]:
    with open("/proc/self/task/{}/children".format(thread), "rb") as file:
        return [int(pid) for pid in file.read().split()]


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
