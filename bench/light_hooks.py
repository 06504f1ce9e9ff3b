"""Metadata by light backends: what hookpool adds to their hooks, against a plain loop that forks.

Trees are made here. The plain loop is the least that gives each hook a process of its own: Python,
with the backend imported and the garbage collector's objects frozen, forks for each hook, and
waits for it. It checks nothing, keeps nothing apart, and takes no answer back. Most backends import
modules when a hook runs, and hookpool's templates have these, so a second loop imports them before.
"""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import Samples, compare, file_system, goal, machine, table
from programs import HERE, ISOLATIONS, Took, environment, parser, run_to_end

LOOP = "plain loop"
LOOP_WITH_MODULES = "plain loop, with modules"
LOOPS = {LOOP: [], LOOP_WITH_MODULES: ["--modules"]}
"""With the flags of each."""
GOALS = {"hook": 1.4, "none": 1.0}
"""How many times a plain loop's processor time hookpool may take, by isolation."""
LONGEST_AT_SCALE = 0.008
"""The wall time that a tree of flit_core may take, two at a time, in seconds."""


@dataclass(frozen=True)
class Backend:
    """A build backend, and what a project of it needs besides a name and a version."""

    requires: str
    module: str
    project: str = ""


BACKENDS = {
    "flit_core": Backend("flit_core==3.9.0", "flit_core.buildapi"),
    "hatchling": Backend(
        "hatchling==1.25.0",
        "hatchling.build",
        '[tool.hatch.build.targets.wheel]\nonly-include = ["{name}.py"]\n',
    ),
    "poetry-core": Backend("poetry-core==2.1.3", "poetry.core.masonry.api"),
}


def make_trees(folder: Path, backend: Backend, count: int) -> list[Path]:
    """Projects with one module each."""
    trees = []
    for number in range(count):
        name = f"light_{number}"
        tree = folder / name
        tree.mkdir(parents=True)
        (tree / f"{name}.py").write_text(f'"""A module."""\n\n__version__ = "1.{number}"\n')
        project = f'[project]\nname = "{name}"\nversion = "1.{number}"\n'
        project += 'description = "A light project."\ndependencies = ["idna>=3"]\n'
        project += backend.project.format(name=name)
        system = f'requires = ["{backend.requires}"]\nbuild-backend = "{backend.module}"\n'
        (tree / "pyproject.toml").write_text(f"[build-system]\n{system}\n{project}")
        trees.append(tree)
    return trees


class Bench:
    """One backend, and its contestants."""

    def __init__(self, arguments: Namespace, folder: Path, name: str) -> None:
        self._arguments = arguments
        self._folder = folder
        self._backend = BACKENDS[name]
        self._env = {key: value for key, value in environment().items() if key != "PYTHONPATH"}
        self._trees = make_trees(folder / "trees", self._backend, arguments.trees)
        # Makes the environment; the second run has what the first one learned.
        first = self._hookpool("hook").output
        self._hookpool("hook")
        self._python = json.loads(first.splitlines()[0])["environment"]["python"]

    def contestants(self) -> dict[str, Callable[[], Took]]:
        """Each to be run in turn."""
        hookpool = {
            f"isolation {isolation}": partial(self._hookpool, isolation) for isolation in ISOLATIONS
        }
        loops = {loop: partial(self._loop, flags) for loop, flags in LOOPS.items()}
        return {**loops, **hookpool}

    def _hookpool(self, isolation: str) -> Took:
        command = [str(self._arguments.hookpool), "metadata", "--no-static", "--format", "json"]
        command += ["--python", self._arguments.python, "--jobs", str(self._arguments.jobs)]
        command += ["--cache-dir", str(self._folder / "cache"), "--isolation", isolation]
        took = run_to_end([*command, *map(str, self._trees)], self._env)
        if took.output.count('"origin":"prepare_metadata"') != len(self._trees):
            raise RuntimeError(f"not all hooks have run: {took.output[:500]}")
        return took

    def version(self) -> str:
        """That of the interpreter that runs the hooks."""
        command = [self._python, "-c", "import platform; print(platform.python_version())"]
        return run_to_end(command, self._env).output.strip()

    def _loop(self, flags: list[str]) -> Took:
        with TemporaryDirectory(dir=self._folder) as out:
            command = [self._python, str(HERE / "plain_loop.py"), *flags]
            command += [self._backend.module, out, *map(str, self._trees)]
            took = run_to_end(command, self._env)
        if took.output != "done\n":
            raise RuntimeError(f"the plain loop printed {took.output!r}")
        return took


def measure(arguments: Namespace, name: str) -> None:
    """Print the tables of one backend."""
    with TemporaryDirectory(prefix="hookpool-bench-") as folder:
        bench = Bench(arguments, Path(folder), name)
        contestants, python = bench.contestants(), bench.version()
        memory = dict.fromkeys(contestants, 0)
        wall = {contestant: Samples() for contestant in contestants}
        processors = {contestant: Samples() for contestant in contestants}
        for number in range(arguments.rounds):
            names = list(contestants) if number % 2 == 0 else list(reversed(contestants))
            for contestant in names:
                took = contestants[contestant]()
                wall[contestant].rounds.append([took.wall / arguments.trees])
                processors[contestant].rounds.append([took.processors / arguments.trees])
                memory[contestant] = max(memory[contestant], took.memory)
    title = f"{name}, Python {python}, {arguments.trees} trees, -j {arguments.jobs}"
    print(compare(f"{title}: processor time a tree", processors, LOOP), "\n")
    print(compare(f"{title}: wall time a tree", wall, LOOP), "\n")
    rows = [[contestant, f"{used / (1 << 20):.1f}"] for contestant, used in memory.items()]
    print(table([f"{title}: the largest process", "MiB"], rows), "\n")
    for isolation, at_most in GOALS.items():
        for loop in LOOPS:
            ratio = processors[f"isolation {isolation}"].median / processors[loop].median
            verdict = "met" if ratio <= at_most else "MISSED"
            print(f"goal: isolation {isolation}: at most {at_most} of the {loop}: ", end="")
            print(f"{verdict}, {ratio:.2f}")
    if name == "flit_core" and arguments.jobs == 2:
        print(goal("a tree, isolation hook", wall["isolation hook"], LONGEST_AT_SCALE))
    print(flush=True)


def main() -> None:
    flags = parser(__doc__, rounds=5)
    flags.add_argument("--trees", type=int, default=400, help="default: %(default)s")
    flags.add_argument("--jobs", type=int, default=1, help="default: %(default)s")
    flags.add_argument("--backend", choices=BACKENDS, action="append", help="default: all")
    arguments = flags.parse_args()
    print(machine(), f"; temporary files on {file_system(os.environ.get('TMPDIR', '/tmp'))}\n")
    for name in arguments.backend or BACKENDS:
        measure(arguments, name)


if __name__ == "__main__":
    main()
