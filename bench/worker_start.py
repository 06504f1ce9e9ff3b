"""The time to start a worker, compared with a bare interpreter."""

from __future__ import annotations

import subprocess
from argparse import Namespace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from measure import compare, interleave, machine
from programs import ISOLATIONS, BareHookd, Pool, PyprojectHooks, environment, make_trees, parser

PER_ROUND = 4


class Folders:
    """New trees, since a known tree has a worker already."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._count = 0

    def new(self) -> Path:
        self._count += 1
        return self._root / str(self._count)


def interpreter(arguments: Namespace, *flags: str) -> list[float]:
    samples = []
    for _ in range(PER_ROUND):
        start = perf_counter()
        subprocess.run([arguments.python, *flags, "-c", "pass"], check=True, env=environment())
        samples.append(perf_counter() - start)
    return samples


def bare_hookd(arguments: Namespace, folders: Folders, isolation: str) -> list[float]:
    """The time to READY. Includes creating its folders: about 0.1 ms."""
    samples = []
    for _ in range(PER_ROUND):
        folder = folders.new()
        start = perf_counter()
        hookd = BareHookd(arguments, folder, isolation)
        samples.append(perf_counter() - start)
        hookd.stop()
    return samples


def first_requests(
    arguments: Namespace, folders: Folders, isolation: str, only_start: bool
) -> list[float]:
    """The first requests of trees, one at a time, in a pool with room for all of them."""
    flags = ["--isolation", isolation, "--jobs", "1", "--max-workers", str(PER_ROUND + 1)]
    with Pool(arguments, folders.new(), PER_ROUND + 1, flags) as pool:
        # The first request also asks the interpreter for its version.
        pool.request(0)
        whole = [pool.request(number) for number in range(1, PER_ROUND + 1)]
        started = [response["timing"]["start_ms"] / 1000 for response in pool.responses[1:]]
    return started if only_start else whole


def whole_program(arguments: Namespace, folders: Folders) -> list[float]:
    samples = []
    for _ in range(PER_ROUND):
        folder = folders.new()
        start = perf_counter()
        with Pool(arguments, folder, 1, []) as pool:
            pool.request(0)
        samples.append(perf_counter() - start)
    return samples


def main() -> None:
    arguments = parser(__doc__, rounds=12).parse_args()
    print(machine(), "", sep="\n")
    with TemporaryDirectory(prefix="hookpool-bench-") as folder:
        folders = Folders(Path(folder))
        contestants = {
            "python -I -S -c pass": partial(interpreter, arguments, "-I", "-S"),
            "python -c pass": partial(interpreter, arguments),
        }
        for isolation in ISOLATIONS:
            bare = partial(bare_hookd, arguments, folders, isolation)
            start = partial(first_requests, arguments, folders, isolation, True)
            whole = partial(first_requests, arguments, folders, isolation, False)
            contestants[f"bare hookd to READY, {isolation}"] = bare
            contestants[f"start_ms of a new tree, {isolation}"] = start
            contestants[f"first request of a new tree, {isolation}"] = whole
        contestants["hookpool run of one request"] = partial(whole_program, arguments, folders)
        (tree,) = make_trees(folders.new(), 1)
        fresh = PyprojectHooks(arguments, tree)
        contestants["pyproject_hooks, one hook"] = partial(fresh.time_requests, PER_ROUND)
        samples = interleave(contestants, arguments.rounds)
    print(compare("worker start", samples, "python -c pass"))


if __name__ == "__main__":
    main()
