"""The worker's children: hook processes, and orphans that it adopts as a subreaper.

Signals are sent only to children that are not reaped yet, whose pid cannot belong to another
process.
"""

from __future__ import annotations

# See `signals`.
import _signal as signal  # type: ignore[import-not-found]
import os
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
    """Leave that child out whenever children are listed."""
    _overlooked.add(pid)


def living_children() -> List[Tuple[int, int]]:
    """Pid and session of our children that have not ended. Empty where they cannot be listed.

    A process that becomes our child during the look may be missed. To miss none, look again after
    each death of a child, which is when orphans come to us.
    """
    return look_at_children(os.getpid())[0]


def look_at_children(parent: int) -> Tuple[List[Tuple[int, int]], Set[int]]:
    """The living children of any process, as `living_children`, and the pids of ended ones."""
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
    """Whether /proc shows the processes of our own pid namespace.

    It may be missing, or belong to another namespace, where our pids mean other processes. Forked
    processes inherit the answer, since old C libraries return a cached pid after our own clone(2).
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
        # Not every kernel has these files (CONFIG_PROC_CHILDREN). Each thread has its own children.
        # A thread that ends leaves them to another thread, so the main thread is read again then.
        threads = os.listdir("/proc/{}/task".format(parent))
        children = _children_of_thread(parent, parent)
        for thread in threads:
            if int(thread) != parent:
                try:
                    children += _children_of_thread(parent, int(thread))
                except OSError:
                    # The thread has ended.
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
    """Whether no thread of the process runs, so that it can start no other process."""
    folder = "/proc/{}/task".format(process)
    try:
        states = {
            _read_stat("{}/{}/stat".format(folder, thread))[STATE] for thread in os.listdir(folder)
        }
    except OSError:
        # A thread has just ended, and may have started another before.
        return False
    return states <= {b"T", b"t", b"Z", b"X"}


def _read_stat(path: str) -> List[bytes]:
    with open(path, "rb") as file:
        # The name stands in parentheses and may itself hold parentheses.
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
    """Reap children that have ended, except `spared`, whose process group can only be signalled
    safely until it is reaped.
    """
    if not HAS_WAITID:
        return
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        # It may return `spared` although others have ended. These are reaped after the hook's end.
        if ended is None or ended.si_pid == spared:
            return
        os.waitpid(ended.si_pid, 0)


def send_signal(pid: int, number: int) -> bool:
    """Signal a child that is not reaped. False if that is not permitted: another user's process."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    return True


def send_group_signal(leader: int, number: int) -> None:
    """Signal the process group of a hook process that is not reaped."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        # It was just forked, and leads no group yet.
        send_signal(leader, number)
    except PermissionError:
        # All members run as other users; or, on macOS, all are zombies.
        pass


def kill_all(hook: Optional[int] = None, other_threads: bool = False) -> None:
    """Kill all children, and the orphans that come to us by that, until none is left.

    `hook` is the hook process, if there is one; where children cannot be listed, only it is killed.
    With `other_threads`, which may start and reap children meanwhile, this waits for no child, and
    gives up after some seconds.
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
            # Those that we are not permitted to kill may never end. But if a child has ended since
            # the look, it may have left us others.
            if not reap_ended()[0]:
                return
        elif not other_threads:
            os.waitpid(-1, 0)
        elif monotonic() < deadline:
            sleep(0.001)
        else:
            return
