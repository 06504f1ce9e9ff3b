"""First runs, as in continuous integration: nothing of ours is kept, against uv, build and pip.

Three projects are built alone, as wheels; of all projects of the tests the metadata are asked for.
What the installers have downloaded is there, where nothing else is said.
"""

from __future__ import annotations

import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import Samples, compare, file_system, machine
from programs import HERE, Took, environment, parser, run_to_end

sys.path.insert(0, str(HERE.parent / "tests" / "e2e"))
import sdists

JOBS = 2
PROJECTS = {"setuptools": "six", "flit": "idna", "hatchling": "urllib3"}
"""The project of each backend that is built alone."""
UV = "uv"
BUILD = "python -m build"
PIP = "pip wheel"
OURS = "hookpool"
OURS_BY_PIP = "hookpool, installer pip"


@dataclass(frozen=True)
class Contestant:
    """A command, and what is put in its place before each run."""

    command: list[str]
    env: Mapping[str, str]
    removed: tuple[str, ...]
    """Patterns of what is removed before the clock runs: caches and products."""

    def run(self) -> Took:
        for path in (path for pattern in self.removed for path in glob(pattern)):
            shutil.rmtree(path)
        return run_to_end(self.command, self.env)


@dataclass(frozen=True)
class Goal:
    """How long a contestant may take, in times of another."""

    name: str
    peer: str
    at_most: float
    of_processors: bool = False


class Bench:
    """The folders and the commands."""

    def __init__(self, arguments: Namespace, folder: Path) -> None:
        self._arguments = arguments
        self._folder = folder
        self._env = {key: text for key, text in environment().items() if key != "PYTHONPATH"}
        self._env |= {"UV_CONCURRENT_BUILDS": str(JOBS), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def wheel(self, archive: Path) -> dict[str, Contestant]:
        """One project, alone."""
        uv = [str(self._arguments.uv), "build", "--wheel", "--quiet", "--no-config"]
        build = [self._arguments.python, "-m", "build", "--wheel"]
        tree = self._unpacked(archive)
        return {
            UV: self._uv([*uv, "--python", self._arguments.python, str(archive)]),
            BUILD: self._pip([*build, "--outdir", str(self._out), str(tree)]),
            PIP: self._pip(self._pip_wheel(archive)),
            OURS: self._ours("wheel", "uv", [archive]),
            OURS_BY_PIP: self._ours("wheel", "pip", [archive]),
        }

    def metadata(self, archives: list[Path]) -> dict[str, Contestant]:
        """All projects."""
        names = self._folder / "requirements.in"
        names.write_text("".join(f"{_name(path)} @ {path.as_uri()}\n" for path in archives))
        uv = [str(self._arguments.uv), "pip", "compile", "--no-deps", "--no-header", "--no-config"]
        uv += ["--quiet", "--python", self._arguments.python, str(names)]
        return {
            UV: self._uv(uv),
            OURS: self._ours("metadata", "uv", archives),
            OURS_BY_PIP: self._ours("metadata", "pip", archives),
        }

    @property
    def _out(self) -> Path:
        return self._folder / "out"

    def _unpacked(self, archive: Path) -> Path:
        folder = self._folder / "trees" / archive.name
        if not folder.exists():
            shutil.unpack_archive(archive, folder, filter="data")
        (tree,) = folder.iterdir()
        return tree

    def _pip_wheel(self, archive: Path) -> list[str]:
        command = [self._arguments.python, "-m", "pip", "wheel", "--quiet", "--no-deps"]
        # pip keeps the wheel of an archive, and would build nothing the next time.
        return [*command, "--wheel-dir", str(self._out), "--no-cache-dir", str(archive)]

    def _uv(self, command: list[str]) -> Contestant:
        cache = self._folder / "uv-cache"
        if command[1] == "build":
            command = [*command, "--out-dir", str(self._out)]
        # What it has built before; what it has downloaded stays.
        removed = (str(self._out), f"{cache}/sdists-v*")
        return Contestant(command, self._env | {"UV_CACHE_DIR": str(cache)}, removed)

    def _pip(self, command: list[str]) -> Contestant:
        env = self._env | {"PIP_CACHE_DIR": str(self._folder / "pip-cache")}
        return Contestant(command, env, (str(self._out),))

    def _ours(self, subcommand: str, installer: str, archives: list[Path]) -> Contestant:
        cache = self._folder / "cache"
        command = [str(self._arguments.hookpool), subcommand, "--quiet", "--jobs", str(JOBS)]
        command += ["--python", self._arguments.python, "--cache-dir", str(cache)]
        command += ["--installer", installer]
        if subcommand == "wheel":
            command += ["--output-dir", str(self._out)]
        else:
            command += ["--no-static", "--format", "json"]
        env = self._env | {
            "UV_CACHE_DIR": str(self._folder / "uv-cache"),
            "PIP_CACHE_DIR": str(self._folder / "pip-cache"),
        }
        return Contestant([*command, *map(str, archives)], env, (str(self._out), str(cache)))


def _name(archive: Path) -> str:
    return archive.name.rpartition("-")[0]


def measure(
    title: str, contestants: Mapping[str, Contestant], goals: list[Goal], rounds: int
) -> None:
    """Run all of them in turn, after one round that fills the installers' caches."""
    wall = {name: Samples() for name in contestants}
    processors = {name: Samples() for name in contestants}
    for contestant in contestants.values():
        contestant.run()
    for number in range(rounds):
        names = list(contestants) if number % 2 == 0 else list(reversed(contestants))
        for name in names:
            took = contestants[name].run()
            wall[name].rounds.append([took.wall])
            processors[name].rounds.append([took.processors])
    print(compare(f"{title}: wall time", wall, UV), "\n")
    print(compare(f"{title}: processor time", processors, UV), "\n")
    for goal in goals:
        samples = processors if goal.of_processors else wall
        ratio = samples[goal.name].median / samples[goal.peer].median
        verdict = "met" if ratio <= goal.at_most else "MISSED"
        what = "processor time" if goal.of_processors else "time"
        at_most = f"at most {goal.at_most:.3g} of the {what} of {goal.peer}"
        print(f"goal: {goal.name}: {at_most}: {verdict}, {ratio:.2f}")
    print(flush=True)


def main() -> None:
    flags = parser(__doc__, rounds=5)
    flags.add_argument("--uv", default=Path(sys.executable).with_name("uv"), help="its program")
    only = ("wheels", "metadata")
    flags.add_argument("--only", choices=only, action="append", help="default: both")
    arguments = flags.parse_args()
    print(machine(), f"; temporary files on {file_system(os.environ.get('TMPDIR', '/tmp'))}\n")
    kept = HERE.parent / "target" / "test-sdists"
    archives = sdists.fetch_archives(kept / "archives")
    parts: dict[str, Callable[[Bench], None]] = {
        "wheels": lambda bench: _wheels(bench, archives, arguments.rounds),
        "metadata": lambda bench: _metadata(bench, archives, arguments.rounds),
    }
    for part in arguments.only or only:
        with TemporaryDirectory(prefix="hookpool-bench-") as folder:
            parts[part](Bench(arguments, Path(folder)))


def _wheels(bench: Bench, archives: Mapping[str, Path], rounds: int) -> None:
    goals = [Goal(OURS, UV, 0.8), Goal(OURS, BUILD, 0.35), Goal(OURS_BY_PIP, PIP, 1.2)]
    for backend, project in PROJECTS.items():
        measure(f"wheel of {project} ({backend})", bench.wheel(archives[project]), goals, rounds)


def _metadata(bench: Bench, archives: Mapping[str, Path], rounds: int) -> None:
    goals = [Goal(OURS, UV, 1 / 2.5), Goal(OURS, UV, 0.5, of_processors=True)]
    contestants = bench.metadata(list(archives.values()))
    measure(f"metadata of {len(archives)} archives", contestants, goals, rounds)


if __name__ == "__main__":
    main()
