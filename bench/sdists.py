"""Metadata of real source distributions: pyproject_hooks, a cold and a warm hookpool."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import warnings
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from measure import Samples, compare, file_system, interleave, machine, table
from programs import GET_REQUIRES, HERE, PREPARE, Program, environment, parser

# Uses the projects and the environment of the tests. The folder is put last: one of its modules
# has the name of this one.
sys.path.insert(0, str(HERE.parent / "tests" / "e2e"))
import environments
import reference

import sdists

JOBS = 2
FRESH = "pyproject_hooks, 2 threads"
FIRST = "hookpool run, first pass"
SECOND = "hookpool run, second pass"
# Fractions of the time of pyproject_hooks.
GOALS = {FIRST: 1.0, SECOND: 1 / 3}
NO_CHECK = "--no-freshness-check"
# Their backends: flit, hatchling and setuptools.
CHECKED = ("idna", "soupsieve", "six")
CHECKED_PER_ROUND = 30
WARM_UP = 30


@dataclass
class Work:
    """Copies of the projects for a contestant, and new folders for the output of hooks."""

    folder: Path
    trees: dict[str, Path]

    def __post_init__(self) -> None:
        self._outs = count()

    @classmethod
    def make(cls, folder: Path, sources: Mapping[str, Path]) -> Work:
        trees = {
            name: sdists.copy(source, folder / "trees" / name / source.name)
            for name, source in sources.items()
        }
        return cls(folder, trees)

    def outs(self) -> dict[str, Path]:
        """A folder for each project."""
        out = self.folder / "out" / str(next(self._outs))
        for name in self.trees:
            (out / name).mkdir(parents=True)
        return {name: out / name for name in self.trees}


class SdistPool(Program):
    """`hookpool run` with these projects."""

    def __init__(self, arguments: Namespace, python: str, work: Work, *flags: str) -> None:
        self._work = work
        # New for each program, so nothing is known about the environment.
        self._folder = TemporaryDirectory(prefix="pool-", dir=work.folder)
        cache, captures = Path(self._folder.name, "cache"), Path(self._folder.name, "captures")
        for folder in (cache, captures):
            folder.mkdir(mode=0o700)
        command = [str(arguments.hookpool), "run", "--no-build-isolation", "--python", python]
        command += ["--jobs", str(JOBS), "--cache-dir", str(cache), "--capture-dir", str(captures)]
        if arguments.start_method:
            command += ["--start-method", arguments.start_method]
        super().__init__([*command, *flags], os.environ)

    def run_pass(self, outs: Mapping[str, Path]) -> list[dict[str, Any]]:
        """Both hooks of every project."""
        requests = []
        for name, out in outs.items():
            tree = str(self._work.trees[name])
            requests.append({"id": name, "tree": tree, "hook": GET_REQUIRES})
            requests.append(
                {"id": name, "tree": tree, "hook": PREPARE, "metadata_directory": str(out)}
            )
        return self._ask(requests)

    def time_one(self, name: str, times: int) -> list[float]:
        """One request after the other."""
        request = {"id": name, "tree": str(self._work.trees[name]), "hook": GET_REQUIRES}
        samples = []
        for _ in range(times):
            start = perf_counter()
            self._ask([request])
            samples.append(perf_counter() - start)
        return samples

    def _ask(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        # A pipe can hold all of them.
        self.send(b"".join(json.dumps(request).encode() + b"\n" for request in requests))
        answers = b""
        while answers.count(b"\n") < len(requests):
            answers += self.receive()
        responses = [json.loads(line) for line in answers.splitlines()]
        for response in responses:
            # These hooks are optional.
            if not response["ok"] and response["error"]["kind"] != "UnsupportedHook":
                raise RuntimeError(f"a hook failed: {response}")
        return responses

    def stop(self) -> None:
        super().stop()
        self._folder.cleanup()


@dataclass
class Passes:
    """Measure all contestants in turn."""

    arguments: Namespace
    python: str
    fresh: Work
    pooled: Work

    def __post_init__(self) -> None:
        self.samples = {name: Samples() for name in (FRESH, FIRST, SECOND)}
        self.responses: dict[str, list[dict[str, Any]]] = {FIRST: [], SECOND: []}

    def run(self, rounds: int) -> None:
        # Does not count: writes bytecode and the build files of setuptools.
        self._fresh()
        self._both_passes()
        for number in range(rounds):
            if number % 2 == 0:
                fresh = self._fresh()
                passes = self._both_passes()
            else:
                passes = self._both_passes()
                fresh = self._fresh()
            self.samples[FRESH].rounds.append([fresh])
            for name, (seconds, responses) in passes.items():
                self.samples[name].rounds.append([seconds])
                self.responses[name] += responses

    def _fresh(self) -> float:
        outs = self.fresh.outs()

        def both_hooks(name: str) -> None:
            tree = self.fresh.trees[name]
            reference.run(tree, self.python, GET_REQUIRES, None)
            reference.run(tree, self.python, PREPARE, str(outs[name]))

        start = perf_counter()
        with ThreadPoolExecutor(JOBS) as threads:
            list(threads.map(both_hooks, outs))
        return perf_counter() - start

    def _both_passes(self) -> dict[str, tuple[float, list[dict[str, Any]]]]:
        """Measure a pass from a cold start, and a second pass."""
        found = {}
        outs = {name: self.pooled.outs() for name in (FIRST, SECOND)}
        with ExitStack() as stack:
            start = perf_counter()
            pool = stack.enter_context(SdistPool(self.arguments, self.python, self.pooled))
            for name in (FIRST, SECOND):
                responses = pool.run_pass(outs[name])
                end = perf_counter()
                found[name] = (end - start, responses)
                start = perf_counter()
        return found


def passes(arguments: Namespace, python: str, fresh: Work, pooled: Work) -> None:
    measured = Passes(arguments, python, fresh, pooled)
    measured.run(arguments.rounds)
    title = f"{len(fresh.trees)} sdists, 2 hooks each"
    print(compare(title, measured.samples, FRESH), "\n")
    for name, share in GOALS.items():
        print(share_goal(name, measured.samples[name], measured.samples[FRESH], share))
    print("\n" + shares(measured.responses, arguments.rounds), "\n")


def share_goal(name: str, samples: Samples, base: Samples, at_most: float) -> str:
    """Print whether the median is at most a fraction of the baseline's."""
    ratio = samples.median / base.median
    rounds = list(zip(samples.round_medians(), base.round_medians(), strict=True))
    kept = sum(own <= at_most * other for own, other in rounds)
    verdict = "met" if ratio <= at_most else "MISSED"
    return (
        f"goal: {name}: at most {at_most:.3g} of {FRESH}: {verdict}, "
        f"{ratio:.3g}, {1 / ratio:.3g} times as fast, in {kept} of {len(rounds)} rounds"
    )


def shares(responses: Mapping[str, list[dict[str, Any]]], rounds: int) -> str:
    """Where the time goes, from the responses: averages of the sums over a pass."""
    rows = []
    for name, answered in responses.items():
        methods = Counter(response["worker"]["start_method"] for response in answered)
        timing = [response["timing"] for response in answered]
        sums = [sum(entry[key] for entry in timing) / rounds for key in ("hook_ms", "start_ms")]
        rows.append(
            [
                name,
                *(f"{value:.0f}" for value in sums),
                ", ".join(f"{number / rounds:g} {method}" for method, number in methods.items()),
            ]
        )
    return table(["sums of a pass, ms", "hook_ms", "start_ms", "workers"], rows)


def freshness(arguments: Namespace, python: str, pooled: Work) -> None:
    """The cost of the freshness check."""
    command = [str(arguments.hookpool), "run", "--help"]
    if NO_CHECK not in subprocess.run(command, capture_output=True, text=True, check=True).stdout:
        print(f"freshness check: not measured, as the program has no {NO_CHECK}")
        return
    names = {"without the check": [NO_CHECK], "with the check": []}
    with ExitStack() as stack:
        pools = {
            name: stack.enter_context(SdistPool(arguments, python, pooled, *flags))
            for name, flags in names.items()
        }
        for project in CHECKED:
            for pool in pools.values():
                pool.time_one(project, WARM_UP)
            contestants = {
                name: partial(pool.time_one, project, CHECKED_PER_ROUND)
                for name, pool in pools.items()
            }
            samples = interleave(contestants, arguments.rounds)
            print(compare(f"{project}: {GET_REQUIRES}", samples, "without the check"))
            without, checked = (samples[name].round_medians() for name in names)
            more = [own - other for own, other in zip(checked, without, strict=True)]
            print(f"the check of {project}: {statistics.median(more) * 1000:.3f} ms\n")


def main() -> None:
    flags = parser(__doc__, rounds=5)
    flags.add_argument(
        "--start-method", help="start method of the workers (default: that of hookpool)"
    )
    arguments = flags.parse_args()
    # pyproject_hooks passes on warnings of backends, which are not about hookpool.
    warnings.simplefilter("ignore")
    own = environment()
    # The backends have their own environment.
    del own["PYTHONPATH"]
    os.environ.clear()
    os.environ.update(own)
    kept = HERE.parent / "target"
    kept.mkdir(exist_ok=True)
    python = environments.backends_python(kept)
    sources = sdists.fetch_all(kept / "test-sdists")
    with TemporaryDirectory(prefix="hookpool-bench-") as name:
        folder = Path(name)
        fresh, pooled = (Work.make(folder / who, sources) for who in ("fresh", "pooled"))
        print(machine(), f"temporary folder on {file_system(name)}", "", sep="\n")
        passes(arguments, python, fresh, pooled)
        freshness(arguments, python, pooled)


if __name__ == "__main__":
    main()
