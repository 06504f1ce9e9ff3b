"""Whole runs of hookpool, uv, build and pip, with what is removed before each."""

from __future__ import annotations

import json
import shlex
import shutil
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from glob import glob
from pathlib import Path
from tempfile import mkdtemp

from measure import Samples, compare
from programs import Took, environment, run_to_end

JOBS = 2
UV = "uv"
BUILD = "python -m build"
PIP = "pip wheel"
PIP_METADATA = "pip install --dry-run"
OURS = "hookpool"
OURS_BY_PIP = "hookpool, installer pip"


class Kept(Enum):
    """What hookpool has kept, and what the installers have downloaded, when a run begins."""

    NOTHING = "all caches empty"
    DOWNLOADS = "the installers' caches full, ours empty"
    DISTRIBUTIONS = "distributions kept, environments new"
    ENVIRONMENTS = "environments kept"
    ANSWERS = "answers kept"


@dataclass(frozen=True)
class Contestant:
    """A command, and what is put in its place before each run."""

    command: list[str]
    env: Mapping[str, str]
    removed: tuple[str, ...]
    """Patterns of what is removed before the clock runs: caches and products."""
    aside: Path
    """A folder where that is moved to. Removing many files makes ext4 slow for minutes."""

    def run(self) -> Took:
        self.clear()
        return run_to_end(self.command, self.env)

    def clear(self) -> None:
        self.aside.mkdir(exist_ok=True)
        for path in (path for pattern in self.removed for path in glob(pattern)):
            Path(path).rename(Path(mkdtemp(dir=self.aside)) / "removed")


@dataclass(frozen=True)
class Goal:
    """How long a contestant may take, in times of another."""

    name: str
    peer: str
    at_most: float
    of_processors: bool = False


class Bench:
    """The folders and the commands."""

    def __init__(self, arguments: Namespace, folder: Path, kept: Kept) -> None:
        self._arguments = arguments
        self._folder = folder
        self._kept = kept
        self._env = {key: text for key, text in environment().items() if key != "PYTHONPATH"}
        self._env |= {"UV_CONCURRENT_BUILDS": str(JOBS), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        # For hookpool.
        self._env["UV"] = str(arguments.uv)

    def wheel(self, archive: Path) -> dict[str, Contestant]:
        """One project, alone."""
        uv = [str(self._arguments.uv), "build", "--wheel", "--quiet", "--no-config"]
        build = [self._arguments.python, "-m", "build", "--wheel"]
        tree = self._unpacked(archive, BUILD)
        return {
            UV: self._uv([*uv, "--python", self._arguments.python, str(archive)]),
            BUILD: self._pip([*build, "--outdir", str(self._out), str(tree)]),
            PIP: self._pip(self._pip_wheel(archive)),
            OURS: self._ours("wheel", "uv", [archive]),
            OURS_BY_PIP: self._ours("wheel", "pip", [archive]),
        }

    def wheels(self, archives: Sequence[Path]) -> dict[str, Contestant]:
        """Many projects: uv builds one at a time, so several of them run at once."""
        uv = [str(self._arguments.uv), "build", "--wheel", "--quiet", "--no-config"]
        uv += ["--python", self._arguments.python, "--out-dir", str(self._out)]
        each = f'printf "%s\\n" "$@" | xargs -P {JOBS} -n 1 ' + " ".join(map(shlex.quote, uv))
        return {
            UV: self._uv(["sh", "-c", each, "sh", *map(str, archives)]),
            OURS: self._ours("wheel", "uv", archives),
        }

    def metadata(self, archives: Sequence[Path], by_hooks: bool = False) -> dict[str, Contestant]:
        """The metadata of many projects, from their archives. Some are static; `by_hooks`: hookpool
        runs the hooks of all."""
        flags = ["--no-static"] if by_hooks else []
        return {
            UV: self._uv_metadata(archives),
            PIP_METADATA: self._pip(self._pip_metadata(archives)),
            OURS: self._ours("metadata", "uv", archives, flags),
            OURS_BY_PIP: self._ours("metadata", "pip", archives, flags),
        }

    def metadata_of_trees(self, archives: Sequence[Path]) -> dict[str, Contestant]:
        """The same of source trees, whose PKG-INFO does not count: both run hooks."""
        trees = {
            name: [self._unpacked(archive, name) for archive in archives]
            for name in (UV, OURS, OURS_BY_PIP)
        }
        return {
            UV: self._uv_metadata(trees[UV]),
            OURS: self._ours("metadata", "uv", trees[OURS]),
            OURS_BY_PIP: self._ours("metadata", "pip", trees[OURS_BY_PIP]),
        }

    def count_hooks(self, contestants: Mapping[str, Contestant]) -> str:
        """For how many sources uv and hookpool run hooks, found in further runs."""
        contestants[UV].run()
        cache = self._folder / "uv-cache"
        by_uv = len(list(cache.glob("sdists-v*/**/metadata.msgpack")))
        results = [json.loads(line) for line in contestants[OURS].run().output.splitlines()]
        ours = sum(result["origin"] != "static" for result in results)
        return f"hooks ran for: {by_uv} sources under uv, {ours} under hookpool"

    def _uv_metadata(self, sources: Sequence[Path]) -> Contestant:
        names = self._folder / "requirements.in"
        names.write_text("".join(f"{_name(path)} @ {path.as_uri()}\n" for path in sources))
        uv = [str(self._arguments.uv), "pip", "compile", "--no-deps", "--no-header", "--no-config"]
        return self._uv([*uv, "--quiet", "--python", self._arguments.python, str(names)])

    def cache(self, installer: str) -> Path:
        """The cache folder of hookpool with this installer."""
        return self._folder / f"cache-{installer}"

    @property
    def _out(self) -> Path:
        return self._folder / "out"

    def _unpacked(self, archive: Path, owner: str) -> Path:
        folder = self._folder / "trees" / owner / archive.name
        if not folder.exists():
            shutil.unpack_archive(archive, folder, filter="data")
        (tree,) = folder.iterdir()
        return tree

    def _pip_wheel(self, archive: Path) -> list[str]:
        command = [self._arguments.python, "-m", "pip", "wheel", "--quiet", "--no-deps"]
        # pip keeps the wheel of an archive, and would build nothing the next time.
        return [*command, "--wheel-dir", str(self._out), "--no-cache-dir", str(archive)]

    def _pip_metadata(self, archives: Sequence[Path]) -> list[str]:
        command = [self._arguments.python, "-m", "pip", "install", "--quiet", "--dry-run"]
        return [*command, "--no-deps", "--ignore-installed", *map(str, archives)]

    def _uv(self, command: list[str]) -> Contestant:
        cache = self._folder / "uv-cache"
        if command[1] == "build":
            command = [*command, "--out-dir", str(self._out)]
        # What it has built before; what it has downloaded stays.
        removed = {
            Kept.NOTHING: [str(cache)],
            Kept.ANSWERS: [],
        }.get(self._kept, [f"{cache}/sdists-v*"])
        env = self._env | {"UV_CACHE_DIR": str(cache)}
        return self._contestant(command, env, removed)

    def _pip(self, command: list[str]) -> Contestant:
        cache = str(self._folder / "pip-cache")
        removed = (cache,) if self._kept is Kept.NOTHING else ()
        return self._contestant(command, self._env | {"PIP_CACHE_DIR": cache}, removed)

    def _ours(
        self, subcommand: str, installer: str, sources: Sequence[Path], flags: Sequence[str] = ()
    ) -> Contestant:
        caches = {name: str(self._folder / f"{name}-cache") for name in ("uv", "pip")}
        cache = self.cache(installer)
        command = [str(self._arguments.hookpool), subcommand, "--quiet", "--jobs", str(JOBS)]
        command += ["--python", self._arguments.python, "--cache-dir", str(cache)]
        command += ["--installer", installer, *flags]
        command += [] if self._kept is Kept.ANSWERS else ["--answers", "none"]
        if subcommand == "wheel":
            command += ["--output-dir", str(self._out)]
        else:
            command += ["--format", "json"]
        env = self._env | {"UV_CACHE_DIR": caches["uv"], "PIP_CACHE_DIR": caches["pip"]}
        folders = ("made", "contents", "resolutions")
        removed = {
            Kept.NOTHING: [str(cache), caches[installer]],
            Kept.DOWNLOADS: [str(cache)],
            Kept.DISTRIBUTIONS: [f"{cache}/environments/*/{name}" for name in folders],
            Kept.ENVIRONMENTS: [],
            Kept.ANSWERS: [],
        }[self._kept]
        return self._contestant([*command, *map(str, sources)], env, removed)

    def _contestant(
        self, command: list[str], env: Mapping[str, str], removed: Sequence[str]
    ) -> Contestant:
        return Contestant(command, env, (str(self._out), *removed), self._folder / "aside")


def _name(archive: Path) -> str:
    return archive.name.rpartition("-")[0]


def measure(
    title: str, contestants: Mapping[str, Contestant], goals: list[Goal], rounds: int
) -> None:
    """Run all of them in turn, after two rounds that fill the caches."""
    wall = {name: Samples() for name in contestants}
    processors = {name: Samples() for name in contestants}
    for contestant in [*contestants.values(), *contestants.values()]:
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
