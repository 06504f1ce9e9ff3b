"""What runs take besides time: the memory of all their processes, and space on the disk."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median
from time import sleep

from measure import memory, table
from programs import HERE
from whole_runs import OURS, Contestant

sys.path.insert(0, str(HERE.parent / "tests" / "e2e"))
import processes

ROUNDS = 2

PAUSE = 0.05
"""Seconds between two looks at the memory."""
BLOCK = 512
"""In bytes: the unit of `st_blocks` (stat(2))."""


def print_footprint(title: str, contestants: Mapping[str, Contestant], cache: Path) -> None:
    """Run all of them in turn. Looking at the memory takes time, so these runs are not timed."""
    peaks = defaultdict[str, list[float]](list)
    for _ in range(ROUNDS):
        for name, contestant in contestants.items():
            contestant.clear()
            peaks[name].append(_peak(contestant))
    rows = [
        [name, *(f"{fold(found):.0f}" for fold in (median, min, max))]
        for name, found in peaks.items()
    ]
    heads = ["proportional set size of all processes, the most at once", "median MiB", "min", "max"]
    print(f"{title}: memory\n{table(heads, rows)}\n")
    if OURS in contestants:
        environments = len(list(cache.glob("environments/*/made/*.json")))
        bytecode = _space(cache, "*.pyc") / (1 << 20)
        space = f"{_space(cache, '*') / (1 << 20):.0f} MiB, {bytecode:.0f} MiB of it bytecode"
        print(
            f"{title}: the cache folder takes {space}, for {environments} environments\n",
            flush=True,
        )


def _peak(contestant: Contestant) -> float:
    """The most memory that its processes have at once, in MiB."""
    with subprocess.Popen(
        contestant.command,
        env=dict(contestant.env),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        peak = 0.0
        while process.poll() is None:
            running = [process.pid, *processes.descendants(process.pid)]
            peak = max(peak, sum(map(_memory, running)))
            sleep(PAUSE)
    if process.returncode != 0:
        raise RuntimeError(f"{contestant.command[:3]} exited with {process.returncode}")
    return peak


def _memory(pid: int) -> float:
    # It may end before its file is read, or while it is.
    with suppress(OSError, KeyError):
        return memory(pid)[0]
    return 0.0


def _space(folder: Path, pattern: str) -> int:
    """What files take on the disk, each once however many names it has."""
    found = (path.lstat() for path in folder.rglob(pattern) if not path.is_dir())
    return sum({(file.st_dev, file.st_ino): file.st_blocks * BLOCK for file in found}.values())
