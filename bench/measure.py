"""Interleaved measurements, their statistics, and tables.

A single figure says more about the machine and its other users than about the program.
So everything is measured in turn, A B C A B C ..., and compared within each round: whatever slows
the machine down for a while slows all of them.
"""

from __future__ import annotations

import gc
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Batch = Callable[[], list[float]]
"""Measures a few times, and returns the durations in seconds."""


@dataclass
class Samples:
    """The measurements of a contestant, by round."""

    rounds: list[list[float]] = field(default_factory=list)

    def all(self) -> list[float]:
        return [sample for batch in self.rounds for sample in batch]

    @property
    def median(self) -> float:
        return statistics.median(self.all())

    @property
    def minimum(self) -> float:
        return min(self.all())

    @property
    def p90(self) -> float:
        return percentile(self.all(), 90)

    def round_medians(self) -> list[float]:
        return [statistics.median(batch) for batch in self.rounds]


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that `percent` of all values do not exceed; one of the values, not a mean."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def interleave(contestants: Mapping[str, Batch], rounds: int) -> dict[str, Samples]:
    """Measure all contestants in each round, after a warm-up round.

    Every other round goes backwards, so that a contestant does not always follow the same one.
    """
    samples = {name: Samples() for name in contestants}
    for batch in contestants.values():
        batch()
    names = list(contestants)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            # Collect garbage now, not while the clock runs.
            gc.collect()
            gc.disable()
            try:
                samples[name].rounds.append(contestants[name]())
            finally:
                gc.enable()
    return samples


def compare(title: str, samples: Mapping[str, Samples], baseline: str) -> str:
    """A table in milliseconds, with each contestant's ratio to the baseline."""
    base = samples[baseline]
    rows = []
    for name, contestant in samples.items():
        by_round = [
            own / other
            for own, other in zip(contestant.round_medians(), base.round_medians(), strict=True)
        ]
        ratio = f"{contestant.median / base.median:.3g}"
        spread = f"{min(by_round):.3g} .. {max(by_round):.3g}"
        if contestant is base:
            ratio, spread = "1", "(baseline)"
        rows.append(
            [
                name,
                milliseconds(contestant.median),
                milliseconds(contestant.minimum),
                milliseconds(contestant.p90),
                ratio,
                spread,
                str(len(contestant.all())),
            ]
        )
    heads = [title, "median ms", "min ms", "p90 ms", "ratio", "ratio by round", "samples"]
    return table(heads, rows)


def goal(name: str, samples: Samples, at_most: float) -> str:
    """Print whether the median meets the goal; both in seconds."""
    by_round = samples.round_medians()
    kept = sum(median <= at_most for median in by_round)
    verdict = "met" if samples.median <= at_most else "MISSED"
    return (
        f"goal: {name}: at most {at_most * 1000:g} ms: {verdict}, "
        f"median {milliseconds(samples.median)} ms, in {kept} of {len(by_round)} rounds"
    )


def milliseconds(seconds: float) -> str:
    """Three significant digits, without an exponent."""
    value = seconds * 1000
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text in columns: the first has words, the others figures."""
    lines = [list(heads), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    text = []
    for line in lines:
        figures = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        text.append("  ".join([line[0].ljust(widths[0]), *figures]).rstrip())
    text.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(text)


def memory(pid: int) -> tuple[float, float]:
    """The proportional set size and the private memory, in MiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    sizes = {name: int(size) / 1024 for name, size in re.findall(r"(\w+):\s+(\d+) kB", text)}
    return sizes["Pss"], sizes["Private_Clean"] + sizes["Private_Dirty"]


def machine() -> str:
    """The conditions of the measurement, without the name of the machine."""
    memory = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    kernel = re.match(r"[\d.]+\d", platform.release())
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    facts = [
        f"{len(os.sched_getaffinity(0))} cores ({platform.machine()})",
        f"{int(memory[1]) / (1 << 20):.1f} GiB memory" if memory else "memory unknown",
        f"{platform.system()} {kernel[0] if kernel else ''}".rstrip(),
        f"{platform.python_implementation()} {platform.python_version()}",
        _rust_version(),
    ]
    return f"machine: {', '.join(facts)}; load average at start {load}"


def file_system(folder: str) -> str:
    """The file system type of a folder."""
    command = ["df", "--output=fstype", folder]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]


def _rust_version() -> str:
    try:
        version = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "Rust unknown"
    return "Rust " + version.stdout.split()[1]
