"""The cost of an idle pool: processor time, wake-ups, memory."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import time
from argparse import Namespace
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import machine, memory, table
from programs import ISOLATIONS, Pool, environment, parser

PINGED = "1s"


@dataclass
class Group:
    """Processes that are measured together: a supervisor and its workers, or an interpreter."""

    name: str
    first: int
    workers: list[int]

    @property
    def pids(self) -> list[int]:
        return [self.first, *self.workers]


def start_pool(arguments: Namespace, folder: Path, name: str, flags: list[str]) -> Pool:
    flags = ["--jobs", "2", "--max-workers", str(arguments.workers), *flags]
    pool = Pool(arguments, folder / name.replace(" ", "-"), arguments.workers, flags)
    pool.warm_up()
    return pool


def group_of(name: str, pool: Pool) -> Group:
    pids = {response["worker"]["pid"] for response in pool.responses}
    if len(pids) != len(pool.trees):
        raise RuntimeError(f"{len(pids)} workers for {len(pool.trees)} trees")
    return Group(name, pool.process.pid, sorted(pids))


def cpu_seconds(pid: int) -> float:
    """User and system time, in clock ticks of usually 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wake_ups(group: Group) -> dict[str, int]:
    """The number of times that each thread was scheduled, even for less than a tick."""
    counts = {}
    for pid in group.pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            # A thread may end before its file is read.
            with suppress(FileNotFoundError, ProcessLookupError):
                switches = re.findall(r"ctxt_switches:\s+(\d+)", status.read_text())
                counts[status.parent.name] = sum(map(int, switches))
    return counts


def watch(groups: list[Group], seconds: float) -> list[list[str]]:
    """Measures all contestants at the same time."""

    def look() -> list[tuple[float, dict[str, int]]]:
        return [(sum(map(cpu_seconds, group.pids)), wake_ups(group)) for group in groups]

    before = look()
    time.sleep(seconds)
    after = look()
    rows = []
    for group, (cpu_was, woken_was), (cpu, woken) in zip(groups, before, after, strict=True):
        # The counters of a thread are lost when it ends.
        lasting = woken.keys() & woken_was.keys()
        woken_since = sum(woken[thread] - woken_was[thread] for thread in lasting)
        ended, begun = len(woken_was.keys() - lasting), len(woken.keys() - lasting)
        figures = [len(group.pids), round((cpu - cpu_was) * 1000), woken_since, ended, begun]
        rows.append([group.name, *map(str, figures)])
    return rows


def print_memory(groups: list[Group]) -> None:
    rows = []
    for group in groups:
        pss, private = memory(group.first)
        figures = [f"{pss:.1f}", f"{private:.1f}"]
        if group.workers:
            sizes = [memory(pid) for pid in group.workers]
            figures += [f"{statistics.median(column):.1f}" for column in zip(*sizes, strict=True)]
        else:
            figures += ["", ""]
        rows.append([group.name, *figures])
    print(table(["memory, MiB", "PSS", "private", "PSS of a worker", "private"], rows))


def main() -> None:
    flags = parser(__doc__, rounds=3)
    flags.add_argument(
        "--workers", type=int, default=8, help="workers per pool (default: %(default)s)"
    )
    flags.add_argument(
        "--seconds",
        type=float,
        default=10,
        help="duration of the measurement (default: %(default)s)",
    )
    arguments = flags.parse_args()
    print(machine(), "", sep="\n")
    with TemporaryDirectory(prefix="hookpool-bench-") as folder, ExitStack() as stack:
        variants = {f"pool, {isolation}": ["--isolation", isolation] for isolation in ISOLATIONS}
        variants[f"pool, hook, pings each {PINGED}"] = ["--health-interval", PINGED]
        groups = []
        for name, pool_flags in variants.items():
            pool = start_pool(arguments, Path(folder), name, pool_flags)
            groups.append(group_of(name, stack.enter_context(pool)))
        command = [arguments.python, "-c", "import sys; sys.stdin.read()"]
        python = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment())
        stack.enter_context(python)
        groups.append(Group("python that reads", python.pid, []))
        # Work that the last hooks have left does not count.
        time.sleep(2)
        for number in range(arguments.rounds):
            seconds = arguments.seconds / arguments.rounds
            heads = [f"round {number + 1}, {seconds:.1f} s idle", "processes", "CPU ms", "wake-ups"]
            heads += ["threads ended", "begun"]
            print(table(heads, watch(groups, seconds)), "\n")
        print_memory(groups)


if __name__ == "__main__":
    main()
