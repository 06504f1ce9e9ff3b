"""The overhead of a request: one at a time, and many concurrently."""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from measure import Batch, Samples, compare, file_system, goal, interleave, machine, table
from programs import ISOLATIONS, MEMORY, BareHookd, Cat, Pool, PyprojectHooks, parser

# Chosen so that a round takes about the same time for each.
PER_ROUND = {"none": 200, "hook": 40}
PER_ROUND_FRESH = 4
PIPELINED = {"none": 800, "hook": 160}
PIPELINED_FRESH = 16
TREES = 8
JOBS = 2
# Creating and removing the two capture files of a hook may cost more than everything else.
VARIANTS = [(isolation, captures) for isolation in ISOLATIONS for captures in ("disk", "memory")]
GOALS = {"none": 0.0004, "hook": 0.005}


def one_at_a_time(arguments: Namespace, folder: Path, memory: Path) -> None:
    pools: dict[str, Pool] = {}
    with ExitStack() as stack:
        contestants: dict[str, Batch] = {
            "cat": partial(stack.enter_context(Cat()).time_requests, 200)
        }
        for isolation, captures in VARIANTS:
            name = variant(isolation, captures)
            at = {"disk": folder, "memory": memory}[captures] / f"{isolation}-captures"
            at.mkdir()
            # Separate folders: the caller of the bare worker removes everything in its folder.
            bare_at, pool_at = at / "bare", at / "pool"
            pool_at.mkdir()
            flags = ["--isolation", isolation, "--jobs", str(JOBS)]
            pool = Pool(arguments, folder / f"pool-{isolation}-{captures}", 1, flags, pool_at)
            bare = BareHookd(arguments, folder / f"bare-{isolation}-{captures}", isolation, bare_at)
            pools[name] = stack.enter_context(pool)
            stack.enter_context(bare)
            count = PER_ROUND[isolation]
            contestants[f"bare hookd, {name}"] = partial(bare.time_requests, count)
            contestants[f"hookpool run, {name}"] = partial(pool.time_requests, count)
        fresh = PyprojectHooks(arguments, pool.trees[0])
        contestants["pyproject_hooks"] = partial(fresh.time_requests, PER_ROUND_FRESH)
        samples = interleave(contestants, arguments.rounds)

    print(compare("one at a time", samples, "pyproject_hooks"), "\n")
    for isolation, captures in VARIANTS:
        name = f"hookpool run, {variant(isolation, captures)}"
        print(goal(name, samples[name], GOALS[isolation]))
    print()
    print_shares(samples, pools)


def variant(isolation: str, captures: str) -> str:
    return f"{isolation}, captures {captures}"


def print_shares(samples: Mapping[str, Samples], pools: Mapping[str, Pool]) -> None:
    """Where the time of a request goes, from the responses of the pool and the bare worker."""
    rows = []
    for name, pool in pools.items():
        whole = samples[f"hookpool run, {name}"].median * 1000
        bare = samples[f"bare hookd, {name}"].median * 1000
        timing = [response["timing"] for response in pool.responses]
        hook = statistics.median(entry["hook_ms"] for entry in timing)
        queued = statistics.median(entry["queued_ms"] for entry in timing)
        figures = [whole, bare, whole - bare, hook, queued]
        rows.append([name, *(f"{figure:.3f}" for figure in figures)])
    heads = ["medians, ms", "whole", "bare hookd", "difference", "hook_ms", "queued_ms"]
    print(table(heads, rows), "\n")


def pipelined(arguments: Namespace, folder: Path, memory: Path) -> None:
    with ExitStack() as stack:
        contestants: dict[str, Batch] = {}
        for isolation, captures in VARIANTS:
            name = variant(isolation, captures)
            at = {"disk": folder, "memory": memory}[captures] / f"{isolation}-captures"
            flags = ["--isolation", isolation, "--jobs", str(JOBS)]
            pool = Pool(arguments, folder / f"pipelined-{isolation}-{captures}", TREES, flags, at)
            stack.enter_context(pool).warm_up()
            count = PIPELINED[isolation]
            contestants[f"hookpool run, {name}"] = partial(pool.time_pipelined, count)
        callers = [PyprojectHooks(arguments, tree) for tree in pool.trees]
        threads = stack.enter_context(ThreadPoolExecutor(JOBS))
        contestants["pyproject_hooks"] = partial(time_threads, callers, threads)
        samples = interleave(contestants, arguments.rounds)
    title = f"per request, {TREES} trees, {JOBS} at once"
    print(compare(title, samples, "pyproject_hooks"), "\n")
    rates = [[name, f"{1 / result.median:.0f}"] for name, result in samples.items()]
    print(table(["throughput", "requests/s"], rates))


def time_threads(callers: list[PyprojectHooks], threads: ThreadPoolExecutor) -> list[float]:
    calls = [callers[number % len(callers)] for number in range(PIPELINED_FRESH)]
    start = perf_counter()
    list(threads.map(PyprojectHooks.call, calls))
    return [(perf_counter() - start) / len(calls)]


def main() -> None:
    arguments = parser(__doc__, rounds=15).parse_args()
    with (
        TemporaryDirectory(prefix="hookpool-bench-") as folder,
        TemporaryDirectory(prefix="hookpool-bench-", dir=MEMORY) as memory,
    ):
        print(machine(), f"temporary folder on {file_system(folder)}", "", sep="\n")
        one_at_a_time(arguments, Path(folder), Path(memory))
        pipelined(arguments, Path(folder), Path(memory))


if __name__ == "__main__":
    main()
