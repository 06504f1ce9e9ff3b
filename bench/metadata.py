"""The metadata of real source trees by hooks: uv against hookpool, with build environments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from argparse import Namespace
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from time import perf_counter
from typing import Any

from measure import Samples, compare, file_system, machine
from programs import (
    GET_REQUIRES,
    HERE,
    PREPARE,
    Program,
    environment,
    parser,
    run_to_end,
    service,
)

# Uses the projects of the tests. The folder is put last: one of its modules has the name of a
# module here.
sys.path.insert(0, str(HERE.parent / "tests" / "e2e"))
import sdists

JOBS = 2
UV = "uv pip compile --no-deps"
HOOKPOOL = "hookpool metadata --no-static"
SERVED = "hookpool metadata, by a service"
STAYING = "hookpool run, which stays"
GOAL = 3.5
GOAL_SERVED = 6.5
BUILD = "build_wheel"


@dataclass
class Contestant:
    """A program with its own copies of the projects."""

    folder: Path
    sources: Mapping[str, Path]
    arguments: Namespace
    env: dict[str, str]
    trees: dict[str, Path] = field(init=False)

    def __post_init__(self) -> None:
        self.trees = {
            name: sdists.copy(source, self.folder / "trees" / name / source.name)
            for name, source in self.sources.items()
        }

    def prepare(self) -> None:
        """Prepare a run, before the clock runs."""

    def command(self, first: bool) -> list[str]:
        raise NotImplementedError

    def check(self, output: str, first: bool) -> None:
        """Raise an error if the work was not done correctly."""
        raise NotImplementedError

    def run(self, first: bool = False) -> tuple[float, float | None]:
        """The time of a run, and its processor time if known, in seconds."""
        self.prepare()
        took = run_to_end(self.command(first), self.env)
        self.check(took.output, first)
        return took.wall, took.processors


class Uv(Contestant):
    """uv, with a cache of everything that it downloads and nothing that it builds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.built: set[int] = set()
        self._cache = self.folder / "cache"
        self._list = self.folder / "requirements.in"
        lines = [f"{name} @ {tree.as_uri()}\n" for name, tree in self.trees.items()]
        self._list.write_text("".join(lines))
        self.env |= {"UV_CACHE_DIR": str(self._cache), "UV_CONCURRENT_BUILDS": str(JOBS)}

    def prepare(self) -> None:
        # Removing many files makes ext4 slow for minutes.
        for bucket in self._cache.glob("sdists-v*"):
            bucket.rename(Path(mkdtemp(dir=self.folder)) / "built")

    def command(self, first: bool) -> list[str]:
        command = [self.arguments.uv, "pip", "compile", "--no-deps", "--no-header", "--no-config"]
        command += ["--python", self.arguments.python, str(self._list)]
        # Everything is cached, so no time goes into checks for newer versions.
        return command if first else [*command, "--offline"]

    def check(self, output: str, first: bool) -> None:
        listed = [line for line in output.splitlines() if " @ file://" in line]
        if len(listed) != len(self.trees):
            raise RuntimeError(f"it found {len(listed)} projects: {output}")
        # One line for each tree whose hooks have run.
        self.built.add(len(list(self._cache.glob("sdists-v*/**/metadata.msgpack"))))


class Hookpool(Contestant):
    """hookpool, in a new process each time, with existing environments."""

    def command(self, first: bool) -> list[str]:
        command = [str(self.arguments.hookpool), "metadata", "--no-static", "--format", "json"]
        command += ["--python", self.arguments.python, "--jobs", str(JOBS)]
        command += ["--cache-dir", str(self.folder / "cache"), "--installer", "uv"]
        return [*command, *map(str, self.trees.values())]

    def check(self, output: str, first: bool) -> None:
        results = [json.loads(line) for line in output.splitlines()]
        if len(results) != len(self.trees):
            raise RuntimeError(f"it found {len(results)} projects: {output}")
        for result in results:
            if result["origin"] not in ("prepare_metadata", "built_wheel"):
                raise RuntimeError(f"no hook ran: {result}")
            if result["environment"]["made"] and not first:
                raise RuntimeError(f"an environment was made: {result}")


class Served(Hookpool):
    """The same, with a service that does the work: its templates are warm."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._socket = self.folder / "socket"

    def service(self) -> AbstractContextManager[int]:
        """The service, by its process."""
        command = [str(self.arguments.hookpool), "serve", "--python", self.arguments.python]
        command += ["--jobs", str(JOBS), "--cache-dir", str(self.folder / "cache")]
        return service([*command, "--installer", "uv"], self._socket, self.env)

    def command(self, first: bool) -> list[str]:
        command = super().command(first)
        place = command.index("--jobs")
        return [*command[:place], "--service", str(self._socket), *command[place + 2 :]]

    def run(self, first: bool = False) -> tuple[float, float | None]:
        # The processor time of the command is not that of the service.
        return super().run(first)[0], None


class Staying(Contestant):
    """hookpool in one process for all runs, as a resolver would keep it, with warm templates."""

    def __post_init__(self) -> None:
        super().__post_init__()
        command = [str(self.arguments.hookpool), "run", "--python", self.arguments.python]
        command += ["--jobs", str(JOBS), "--cache-dir", str(self.folder / "cache")]
        self.program = Program([*command, "--installer", "uv"], self.env)
        self._runs = count()

    def run(self, first: bool = False) -> tuple[float, float | None]:
        outs = self.folder / "out" / str(next(self._runs))
        for name in self.trees:
            (outs / name).mkdir(parents=True)
        start = perf_counter()
        for name in self.trees:
            self._ask(name, GET_REQUIRES)
        unread, waiting = b"", len(self.trees)
        while waiting:
            *lines, unread = (unread + self.program.receive()).split(b"\n")
            waiting -= sum(self._go_on(json.loads(line), outs) for line in lines)
        return perf_counter() - start, None

    def _go_on(self, response: dict[str, Any], outs: Path) -> bool:
        """Send the next request for a tree; returns whether it is done."""
        name, hook = response["id"], response["hook"]
        lacks_hook = not response["ok"] and response["error"]["kind"] == "UnsupportedHook"
        if not response["ok"] and not lacks_hook:
            raise RuntimeError(f"a hook failed: {response}")
        if hook == GET_REQUIRES:
            more = [] if lacks_hook else response["result"]
            # If everything is installed already, the environment stays the same.
            requires = {"requires": [*_requires(self.trees[name]), *more]} if more else {}
            self._ask(name, PREPARE, metadata_directory=str(outs / name), **requires)
        elif lacks_hook:
            self._ask(name, BUILD, wheel_directory=str(outs / name))
        return hook != GET_REQUIRES and not lacks_hook

    def _ask(self, name: str, hook: str, **arguments: object) -> None:
        request = {"id": name, "tree": str(self.trees[name]), "hook": hook, **arguments}
        self.program.send(json.dumps(request).encode() + b"\n")


def _requires(tree: Path) -> list[str]:
    """The build requirements of the tree, or the defaults of PEP 518."""
    try:
        pyproject = tomllib.loads((tree / "pyproject.toml").read_text("utf-8"))
    except FileNotFoundError:
        pyproject = {}
    requires: list[str] = pyproject.get("build-system", {}).get("requires", ["setuptools>=40.8.0"])
    return requires


def measure(contestants: Mapping[str, Contestant], rounds: int) -> None:
    times = {name: Samples() for name in contestants}
    used = {name: Samples() for name in contestants}
    for contestant in contestants.values():
        # The first run fills the caches, compiles bytecode, and leaves build files in each tree;
        # from the second the templates learn the imports of hooks.
        contestant.run(first=True)
        contestant.run()
    for number in range(rounds):
        names = list(contestants) if number % 2 == 0 else list(reversed(contestants))
        for name in names:
            seconds, processors = contestants[name].run()
            times[name].rounds.append([seconds])
            if processors is not None:
                used[name].rounds.append([processors])
    print(compare(f"{len(contestants[UV].trees)} trees", times, UV), "\n")
    known = {name: samples for name, samples in used.items() if samples.rounds}
    print(compare("processor time", known, UV), "\n")
    by_round = [
        other / own
        for own, other in zip(
            times[HOOKPOOL].round_medians(), times[UV].round_medians(), strict=True
        )
    ]
    ratio = times[UV].median / times[HOOKPOOL].median
    kept = sum(factor >= GOAL for factor in by_round)
    verdict = "met" if ratio >= GOAL else "MISSED"
    print(
        f"goal: at least {GOAL} times as fast as {UV}: {verdict}, {ratio:.3g} times, "
        f"{min(by_round):.3g} .. {max(by_round):.3g} by round, in {kept} of {rounds} rounds"
    )
    served = times[UV].median / times[SERVED].median
    verdict = "met" if served >= GOAL_SERVED else "MISSED"
    print(f"goal: {SERVED}: at least {GOAL_SERVED} times as fast: {verdict}, {served:.3g} times")
    staying = times[UV].median / times[STAYING].median
    print(f"for comparison: {STAYING}: {staying:.3g} times as fast as {UV}")


def main() -> None:
    flags = parser(__doc__, rounds=5)
    default = str(Path(sys.executable).with_name("uv"))
    flags.add_argument("--uv", default=default, help="default: beside the interpreter")
    arguments = flags.parse_args()
    own = {
        name: value
        for name, value in environment().items()
        if not name.startswith("UV_") and name != "PYTHONPATH"
    }
    own["PATH"] = f"{Path(arguments.uv).parent}{os.pathsep}{own['PATH']}"
    sources = sdists.fetch_all(HERE.parent / "target" / "test-sdists")
    version = subprocess.run([arguments.uv, "--version"], capture_output=True, text=True)
    with TemporaryDirectory(prefix="hookpool-bench-") as name:
        folder = Path(name)
        print(
            machine(), f"{version.stdout.split(' (')[0].strip()}; {JOBS} builds at once", sep="\n"
        )
        print(f"temporary folder on {file_system(name)}\n")
        uv = Uv(folder / "uv", sources, arguments, dict(own))
        hookpool = Hookpool(folder / "hookpool", sources, arguments, dict(own))
        staying = Staying(folder / "staying", sources, arguments, dict(own))
        served = Served(folder / "served", sources, arguments, dict(own))
        contestants = {UV: uv, HOOKPOOL: hookpool, SERVED: served, STAYING: staying}
        with staying.program, served.service():
            measure(contestants, arguments.rounds)
        built = " or ".join(map(str, sorted(uv.built)))
        print(
            f"\nhooks ran for: {built} trees under uv, which reads the others' metadata in "
            f"pyproject.toml; {len(hookpool.trees)} under hookpool"
        )


if __name__ == "__main__":
    main()
