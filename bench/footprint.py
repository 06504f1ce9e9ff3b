"""What runs take besides time: the memory of all their processes, and space on the disk."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from time import sleep

from measure import table
from whole_runs import OURS, Contestant

PAUSE = 0.05
"""Seconds between two looks at the memory."""
BLOCK = 512
"""In bytes: the unit of `st_blocks` (stat(2))."""


def print_footprint(
    title: str, contestants: Mapping[str, Contestant], cache: Path, rounds: int
) -> None:
    """Run all of them in turn. Looking at the memory takes time, so these runs are not timed."""
    peaks = defaultdict[str, list[float]](list)
    for _ in range(rounds):
        for name, contestant in contestants.items():
            contestant.clear()
            peaks[name].append(_peak(contestant))
    rows = [
        [name, *(f"{fold(found) / (1 << 20):.0f}" for fold in (median, min, max))]
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


def _peak(contestant: Contestant) -> int:
    """The most memory that its processes have at once, in bytes."""
    with subprocess.Popen(
        contestant.command,
        env=dict(contestant.env),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(_memory, _tree(process.pid))))
            sleep(PAUSE)
    if process.returncode != 0:
        raise RuntimeError(f"{contestant.command[:3]} exited with {process.returncode}")
    return peak


def _tree(root: int) -> set[int]:
    """A process and its descendants."""
    children = defaultdict[int, list[int]](list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name before, in parentheses, may contain anything.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            # It has ended.
            continue
        children[parent].append(int(stat.parent.name))
    found, pending = set[int](), [root]
    while pending:
        pid = pending.pop()
        found.add(pid)
        pending += children[pid]
    return found


def _memory(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def _space(folder: Path, pattern: str) -> int:
    """What files take on the disk, each once however many names it has."""
    found = (path.lstat() for path in folder.rglob(pattern) if not path.is_dir())
    return sum({(file.st_dev, file.st_ino): file.st_blocks * BLOCK for file in found}.values())
