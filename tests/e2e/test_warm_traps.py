"""Projects made to catch a warm process: every answer is that of a fresh one."""

from __future__ import annotations

import datetime
import email.parser
import itertools
import json
import os
import random
import subprocess
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import environments
import pytest
from conftest import Setting
from pool import PROGRAM, Pool, kind
from trap_trees import (
    BUILD_WHEEL,
    GET_REQUIRES,
    PREPARE,
    TRACES,
    TRAPS,
    UMASK,
    Project,
    Step,
    Trap,
    hatch_helper,
    write,
)

LEGACY = "setuptools.build_meta:__legacy__"
ARGUMENT = {BUILD_WHEEL: "wheel_directory", PREPARE: "metadata_directory"}
SHARED = "backends"
# Until a template is ready, workers are started without it.
AT_MOST = 20


@pytest.fixture(scope="session")
def pythons(target: Path) -> Mapping[str, str]:
    """The interpreter of each environment that traps name."""
    old = Path(environments.__file__).with_name("old_setuptools.txt")
    return {
        SHARED: environments.backends_python(target),
        "old setuptools": environments.python_with(target / "old-setuptools-venv", old),
    }


@pytest.fixture(params=["forkserver", "spawn"])
def start_method(request: pytest.FixtureRequest) -> str:
    """Both start methods."""
    return str(request.param)


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """One that is known, as one of the projects tells it."""
    before = os.umask(UMASK)
    yield
    os.umask(before)


class Trees:
    """The trees of some projects, and what their hooks write."""

    def __init__(self, folder: Path, projects: Iterable[Project]) -> None:
        self._folder = folder
        self._outs = itertools.count()
        self._trees: dict[Project, Path] = {}
        for number, project in enumerate(projects):
            # Traps share projects.
            self._trees[project] = folder / f"{number}-{project.name}"
            write(self._trees[project], project.files)

    def __getitem__(self, project: Project) -> Path:
        return self._trees[project]

    def out(self) -> Path:
        """A new folder for what one hook writes."""
        out = self._folder / "out" / str(next(self._outs))
        out.mkdir(parents=True)
        return out


def answer(tree: Path, hook: str, result: Any, out: Path) -> list[str]:
    """What a hook that gave `result` has answered, see `Step`."""
    if hook == GET_REQUIRES:
        found = list(result)
    elif hook == PREPARE:
        text = (out / result / "METADATA").read_text()
        metadata = email.parser.Parser().parsestr(text)
        found = [f"{metadata['Name']} {metadata['Version']}"]
        if "Summary" in metadata:
            found[0] += f": {metadata['Summary']}"
    else:
        with zipfile.ZipFile(out / result) as wheel:
            modules = [name for name in wheel.namelist() if ".dist-info/" not in name]
        found = [result, *sorted(modules)]
    return found + traces(tree)


def traces(tree: Path) -> list[str]:
    """What a hook has left in the tree to be seen; it is gone afterwards."""
    found = []
    for path in sorted(tree.glob(TRACES)):
        found.append(f"{path.name}: {path.read_text().strip()}")
        path.unlink()
    return found


@dataclass
class Outcome:
    """What came of some hooks: the wrong answers, and how the workers were started."""

    wrong: list[str] = field(default_factory=list)
    methods: set[str] = field(default_factory=set)
    workers: set[int] = field(default_factory=set)

    def compare(self, project: Project, step: Step, found: list[str]) -> None:
        """Keep an answer that is not the right one."""
        if found != step.answer:
            self.wrong.append(f"{project.name}, {step.hook}: {found} is not {step.answer}")


def run_steps(pool: Pool, projects: Sequence[Project], trees: Trees) -> Outcome:
    """Run the hooks in this order, one step of every project at a time."""
    outcome = Outcome()
    for steps in itertools.zip_longest(*(project.steps for project in projects)):
        asked = {}
        for number, (project, step) in enumerate(zip(projects, steps, strict=True)):
            if step is not None:
                write(trees[project], step.edits)
                asked[number] = (project, step, trees.out())
        for number, (project, step, out) in asked.items():
            pool.send(request(trees[project], step.hook, out, number))
        for response in pool.responses(len(asked)):
            project, step, out = asked[response["id"]]
            found = [str(response["error"])]
            if response["ok"]:
                found = answer(trees[project], step.hook, response["result"], out)
            outcome.compare(project, step, found)
            outcome.methods.add(response["worker"]["start_method"])
            outcome.workers.add(response["worker"]["pid"])
    return outcome


def request(tree: Path, hook: str, out: Path, id_: int) -> dict[str, Any]:
    """A request for a hook that writes to `out`."""
    argument = {ARGUMENT[hook]: str(out)} if hook in ARGUMENT else {}
    return {"id": id_, "tree": str(tree), "hook": hook, **argument}


def run_until(start_method: str, pool: Pool, projects: Sequence[Project], trees: Trees) -> None:
    """Run the hooks again and again until all workers were started in this way."""
    methods = set()
    for _ in range(AT_MOST):
        outcome = run_steps(pool, projects, trees)
        assert outcome.wrong == []
        methods = outcome.methods
        if methods == {start_method}:
            return
    raise AssertionError(f"after {AT_MOST} passes some workers were still started by {methods}")


@pytest.mark.exhaustive
@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
@pytest.mark.timeout(300)
def test_a_trap(setting: Setting, pythons: Mapping[str, str], trap: Trap, tmp_path: Path) -> None:
    """In two orders in one program, and again in one that knows what the first has learned."""
    trees = Trees(tmp_path / "trees", trap.projects)
    for _ in range(2):
        pool = setting.start(python=pythons[trap.environment])
        for projects in (trap.projects, trap.projects[::-1]):
            run_until("forkserver", pool, projects, trees)
        assert pool.finish() == ([], 0)


@pytest.mark.exhaustive(start_method="spawn")
@pytest.mark.timeout(300)
def test_all_traps_in_one_pool(
    setting: Setting, pythons: Mapping[str, str], start_method: str, tmp_path: Path
) -> None:
    """Any project after any other."""
    projects = [
        project for trap in TRAPS if trap.environment == SHARED for project in trap.projects
    ]
    trees = Trees(tmp_path / "trees", projects)
    shuffled = random.Random(3)
    pool = setting.start("--start-method", start_method, python=pythons[SHARED])
    for _ in range(3):
        shuffled.shuffle(projects)
        run_until(start_method, pool, projects, trees)
    assert pool.finish() == ([], 0)


def test_a_variable_that_the_backend_reads_when_it_is_imported(
    setting: Setting, pythons: Mapping[str, str], start_method: str, tmp_path: Path
) -> None:
    """With pip's variable hatchling has no hook for metadata: pip builds the wheel anyway."""
    projects = [hatch_helper("first", "1.0"), hatch_helper("second", "2.0")]
    trees = Trees(tmp_path / "trees", projects)
    tracked = {"PIP_BUILD_TRACKER": str(tmp_path)}
    pool = setting.start("--start-method", start_method, python=pythons[SHARED])
    for number in range(3):
        for project in projects if number % 2 == 0 else reversed(projects):
            for env in (tracked, {}):
                out = trees.out()
                response = pool.ask({**request(trees[project], PREPARE, out, 1), "env": env})
                if env:
                    assert kind(response) == "UnsupportedHook"
                else:
                    found = answer(trees[project], PREPARE, response["result"], out)
                    assert found == project.steps[0].answer
    assert response["worker"]["start_method"] == start_method
    assert pool.finish() == ([], 1)


# Each takes the time of the files in a wheel from a variable, and pdm-backend when it is imported.
DATED = ("pdm.backend", "flit_core.buildapi", "hatchling.build", "setuptools.build_meta")


@pytest.mark.parametrize("backend", DATED)
def test_the_date_of_a_build(
    setting: Setting, pythons: Mapping[str, str], start_method: str, backend: str, tmp_path: Path
) -> None:
    """The request's own variables hold for it, and for no other."""
    project = f'[build-system]\nrequires = []\nbuild-backend = "{backend}"\n'
    project += '[project]\nname = "dated"\nversion = "1.0"\ndescription = "dated"\n'
    tree = tmp_path / "tree"
    write(tree, {"pyproject.toml": project, "dated/__init__.py": ""})
    pool = setting.start("--start-method", start_method, python=pythons[SHARED])
    for number in range(4):
        for year in (2001, 2002, None):
            env = {} if year is None else {"SOURCE_DATE_EPOCH": str(seconds(year))}
            out = tmp_path / "out" / str(number) / str(year)
            out.mkdir(parents=True)
            response = pool.ask({**request(tree, BUILD_WHEEL, out, number), "env": env})
            assert response["ok"], response["error"]
            with zipfile.ZipFile(out / response["result"]) as wheel:
                years = {member.date_time[0] for member in wheel.infolist()}
            if year is None:
                assert not years & {2001, 2002}
            else:
                assert years == {year}
    assert pool.finish() == ([], 0)


def seconds(year: int) -> int:
    """The middle of the year, as SOURCE_DATE_EPOCH."""
    return int(datetime.datetime(year, 7, 1, tzinfo=datetime.UTC).timestamp())


class ReusedWorker:
    """One process for the hooks of several projects, as the original hookd could be used.

    Its source tree is a link, which is turned to another project between two requests.
    """

    def __init__(self, setting: Setting, python: str, link: Path) -> None:
        self._link = link
        self._tree = link
        captures = link.with_name("captures")
        captures.mkdir(mode=0o700)
        command = [PROGRAM, "hookd", "--python", python, "--json", "--isolation", "none"]
        command += ["--capture-dir", str(captures), str(link)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=setting.env
        )

    def turn_to(self, tree: Path) -> None:
        """The hooks are those of `tree` from now on."""
        new = self._link.with_name("new-link")
        new.symlink_to(tree)
        new.replace(self._link)
        self._tree = tree

    def ask(self, hook: str, out: Path) -> tuple[bool, Any]:
        """Whether the hook ended well, and what it returned, or what the error was."""
        backend, backend_path = self._backend()
        lines = ["run", backend, *backend_path, "", hook]
        # Settings have a line, and build_wheel's metadata directory has one.
        lines += {GET_REQUIRES: [""], PREPARE: [str(out), ""], BUILD_WHEEL: [str(out), "", ""]}[
            hook
        ]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("".join(f"{line}\n" for line in lines).encode())
        self._process.stdin.flush()
        for line in self._process.stdout:
            message, _, rest = line.decode().partition(" ")
            if message == "OK":
                return True, json.loads(rest)
            if message in {"ERROR", "FATAL"}:
                return False, rest.strip()
        return False, f"the worker ended with {self._process.wait()}"

    def _backend(self) -> tuple[str, list[str]]:
        project = self._tree / "pyproject.toml"
        table = {}
        if project.exists():
            table = tomllib.loads(project.read_text())["build-system"]
        return table.get("build-backend", LEGACY), table.get("backend-path", [])

    def stop(self) -> None:
        """End it."""
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


def reuse(worker: ReusedWorker, projects: Sequence[Project], trees: Trees) -> Outcome:
    """As `run_steps`, in one process for all."""
    outcome = Outcome()
    for steps in itertools.zip_longest(*(project.steps for project in projects)):
        for project, step in zip(projects, steps, strict=True):
            if step is None:
                continue
            write(trees[project], step.edits)
            worker.turn_to(trees[project])
            out = trees.out()
            good, result = worker.ask(step.hook, out)
            found = answer(trees[project], step.hook, result, out) if good else [result]
            outcome.compare(project, step, found)
    return outcome


@pytest.mark.parametrize(
    "trap", [trap for trap in TRAPS if trap.caught_by_reuse], ids=lambda trap: trap.name
)
def test_plain_reuse_is_caught(
    setting: Setting, pythons: Mapping[str, str], trap: Trap, tmp_path: Path
) -> None:
    """One process for the hooks of all projects answers wrong: the traps are some."""
    trees = Trees(tmp_path / "trees", trap.projects)
    worker = ReusedWorker(setting, pythons[trap.environment], tmp_path / "tree")
    try:
        assert reuse(worker, trap.projects, trees).wrong
    finally:
        worker.stop()


def test_isolation_none_is_caught(
    setting: Setting, pythons: Mapping[str, str], start_method: str, tmp_path: Path
) -> None:
    """The same in a pool, where a process serves one tree: its second wheel fails."""
    (trap,) = (trap for trap in TRAPS if trap.name == "a second wheel")
    projects = trap.projects[:1]
    trees = Trees(tmp_path / "trees", projects)
    flags = ["--start-method", start_method, "--isolation", "none"]
    pool = setting.start(*flags, python=pythons[SHARED])
    outcome = run_steps(pool, projects, trees)
    assert outcome.wrong
    assert len(outcome.workers) == 1
    assert pool.finish() == ([], 1)


@pytest.mark.parametrize(
    "trap",
    [trap for trap in TRAPS if trap.caught_by_preload],
    ids=lambda trap: trap.name,
)
def test_careless_preload_is_caught(
    setting: Setting, pythons: Mapping[str, str], trap: Trap, tmp_path: Path
) -> None:
    """Modules that are imported before the hook answer wrong, with a process for each hook, too."""
    folder = tmp_path / "preload"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import pkg_resources, six, toml\n")
    trees = Trees(tmp_path / "trees", trap.projects)
    env = {"PYTHONPATH": str(folder)}
    pool = setting.start("--start-method", "spawn", python=pythons[trap.environment], env=env)
    assert run_steps(pool, trap.projects, trees).wrong
    assert pool.finish() == ([], 0)
