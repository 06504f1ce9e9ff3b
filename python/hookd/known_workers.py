"""The template's children: workers, which the supervisor watches too, and what those left behind.

A worker's pid stays its own until the supervisor has said that it knows of the death: until then
the dead worker is not reaped. All other children are orphans that came to us as their subreaper;
the worker that should have ended them is dead, so they are killed.
"""

from __future__ import annotations

import os
import signal

from hookd.children import _candidates

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Set, Tuple


class KnownWorkers:
    """Which children are workers, and how far each is on its way out. Never waits."""

    def __init__(self) -> None:
        self._alive_or_unacknowledged: Set[int] = set()
        self._acknowledged: Set[int] = set()
        self._ended: Dict[int, Optional[int]] = {}
        """Raw wait statuses of those that were reaped, but not yet told of."""
        self._condemned: Set[int] = set()

    def add(self, pid: int) -> None:
        """This child is a worker."""
        self._alive_or_unacknowledged.add(pid)

    def any_left(self) -> bool:
        """Whether there are workers of whose end the supervisor was not told."""
        return bool(self._alive_or_unacknowledged or self._acknowledged or self._ended)

    def acknowledge(self, pid: int) -> bool:
        """The supervisor knows that this worker is dead. False if there is no such worker."""
        if pid in self._alive_or_unacknowledged:
            self._alive_or_unacknowledged.remove(pid)
            self._acknowledged.add(pid)
            return True
        return pid in self._acknowledged

    def look(self) -> Tuple[List[int], Dict[int, Optional[int]]]:
        """See to all children. Call it after each SIGCHLD and each acknowledgement.

        Returns the orphans that have died of us, and the acknowledged workers with their statuses,
        once there is no orphan left either.
        """
        for pid in list(self._acknowledged):
            ended, status = _reap(pid)
            if ended:
                self._acknowledged.remove(pid)
                self._ended[pid] = status
        killed, any_left = self._sweep()
        if any_left:
            return killed, {}
        told, self._ended = self._ended, {}
        return killed, told

    def _sweep(self) -> Tuple[List[int], bool]:
        """Kill and reap what is no worker. Returns what has died of that, and whether more will."""
        killed: List[int] = []
        while True:
            reaped = alive = False
            for pid in _candidates(os.getpid()):
                if pid in self._alive_or_unacknowledged or pid in self._acknowledged:
                    continue
                try:
                    ended = os.waitpid(pid, os.WNOHANG)[0] != 0
                except ChildProcessError:
                    # No child of ours: not every kernel can list those alone.
                    continue
                if ended:
                    reaped = True
                    if pid in self._condemned:
                        self._condemned.remove(pid)
                        killed.append(pid)
                else:
                    alive = self._kill(pid) or alive
            # The children of one that has died are ours by now.
            if not reaped:
                return killed, alive

    def _kill(self, pid: int) -> bool:
        if pid not in self._condemned:
            try:
                os.kill(pid, signal.SIGKILL)
            except PermissionError:
                # It runs as another user, and is not waited for.
                return False
            self._condemned.add(pid)
        return True


def _reap(pid: int) -> Tuple[bool, Optional[int]]:
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        # A module that was imported has waited for whatever child there was.
        return True, None
    return reaped != 0, status
