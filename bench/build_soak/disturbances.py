"""Faults before or during a run."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable

from damage import damage
from disk import SmallDisk
from family import Family
from runs import Place, Run

# The time from the start of a run to the fault. A run that makes environments takes seconds.
LONGEST_WAIT = 4.0
# The free space on a full disk, in bytes.
ROOM = (0, 4 << 10, 100 << 10, 400 << 10, 1 << 20, 2 << 20, 4 << 20, 8 << 20)
ENDS = {0, 1}


class Disturbances:
    """Chooses faults at random."""

    def __init__(self, place: Place, disk: SmallDisk | None) -> None:
        self._place = place
        self._disk = disk
        self.all: dict[str, Callable[[Run, random.Random], tuple[str, list[str]]]] = {
            "children killed": self._kill_children,
            "supervisor killed": self._kill_supervisor,
            "interrupted": self._interrupt,
            "cache damaged": self._damage,
        }
        if disk is not None:
            self.all["disk full"] = self._fill_disk

    def _perhaps_forget(self, chance: random.Random) -> str:
        """Whether the run must make environments."""
        if chance.random() < 0.5:
            return "warm"
        shutil.rmtree(self._place.cache, ignore_errors=True)
        return "cold"

    def _kill_children(self, run: Run, chance: random.Random) -> tuple[str, list[str]]:
        state, killed = self._perhaps_forget(chance), 0
        process = run.start()
        for _ in range(chance.randint(1, 4)):
            if not _outlives(process, chance.random() * LONGEST_WAIT / 2):
                break
            there = Family(process.pid)
            groups = (there.installers, there.guards, there.workers, there.hooks, there.templates)
            if groups := [list(group) for group in groups if group]:
                killed += there.signal(chance.choice(chance.choice(groups)), signal.SIGKILL)
        # The interpreter that is asked for its version may have been killed.
        return f"{state}, {killed} killed", run.end(ENDS | {3})

    def _kill_supervisor(self, run: Run, chance: random.Random) -> tuple[str, list[str]]:
        return self._signal(run, chance, signal.SIGKILL, -signal.SIGKILL)

    def _interrupt(self, run: Run, chance: random.Random) -> tuple[str, list[str]]:
        number = chance.choice((signal.SIGINT, signal.SIGTERM))
        # Before the program handles signals, they end it like any program.
        return self._signal(run, chance, number, 128 + number, -number)

    def _signal(
        self, run: Run, chance: random.Random, number: signal.Signals, *codes: int
    ) -> tuple[str, list[str]]:
        state, wait = self._perhaps_forget(chance), chance.random() * LONGEST_WAIT
        process = run.start()
        if _outlives(process, wait):
            process.send_signal(number)
        return f"{state}, {number.name} after {wait:.2f} s", run.end({*codes, *ENDS})

    def _damage(self, run: Run, chance: random.Random) -> tuple[str, list[str]]:
        done = [damage(self._place.cache, chance) for _ in range(chance.randint(1, 3))]
        # The clean run must cope with it.
        return "; ".join(filter(None, done)), []

    def _fill_disk(self, run: Run, chance: random.Random) -> tuple[str, list[str]]:
        assert self._disk is not None
        state, room = self._perhaps_forget(chance), chance.choice(ROOM)
        self._disk.fill(room)
        try:
            run.start()
            # Without space for its own files the program does not start.
            return f"{state}, {room >> 10} KiB left", run.end(ENDS | {3})
        finally:
            self._disk.clear()


def _outlives(process: subprocess.Popen[str], seconds: float) -> bool:
    """Wait for this long, or until the process ends."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    return process.poll() is None
