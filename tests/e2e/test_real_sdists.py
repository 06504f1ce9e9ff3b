"""Real projects: the results are byte for byte those of fresh processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environments
import pytest
import sdists
from conftest import Setting
from pool import kind

HERE = Path(__file__).parent
GET_REQUIRES = "get_requires_for_build_wheel"
PREPARE = "prepare_metadata_for_build_wheel"

# One for each backend, and for each way of requiring setuptools.
WHEELS = {
    "six": "setuptools without pyproject.toml",
    "chardet": "setuptools",
    "pluggy": "setuptools-scm",
    "soupsieve": "hatchling",
    "platformdirs": "hatch-vcs",
    "idna": "flit",
    "tomlkit": "poetry-core",
    "fastapi": "pdm",
    "poetry-core": "in-tree poetry-core",
}


@dataclass(frozen=True)
class Answers:
    """The outcome of one way of running the hooks: results by project, files by path."""

    requires: dict[str, Any]
    metadata_names: dict[str, Any]
    metadata: dict[str, dict[str, bytes]]
    wheels: dict[str, dict[str, bytes]]
    wheel_names: dict[str, Any]


@pytest.fixture(scope="session")
def sources(target: Path) -> dict[str, Path]:
    """The unpacked source distributions by name."""
    return sdists.fetch_all(target / "test-sdists")


@pytest.fixture(scope="session")
def backends_python(target: Path) -> str:
    """The interpreter of an environment with all their build backends."""
    return environments.backends_python(target)


def contents(folder: Path, root: Path) -> dict[str, bytes]:
    """All files below, by relative path; setuptools writes `root` into SOURCES.txt."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes().replace(bytes(root), b"ROOT")
        for path in files
    }


def wheel_contents(path: Path) -> dict[str, bytes]:
    """The members of the wheel in their order, RECORD included."""
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


@dataclass(frozen=True)
class Work:
    """Copies of the sources and output folders, for one way of running the hooks."""

    root: Path
    sources: dict[str, Path]

    def tree(self, name: str, hook: str) -> Path:
        """The copy of this project for one hook."""
        return self.root / hook / name / self.sources[name].name

    def out(self, name: str, hook: str) -> Path:
        """The directory argument of the hook."""
        return self.root / "out" / hook / name

    def prepare(self, wheels: bool) -> list[tuple[str, str]]:
        """Make fresh copies of each project."""
        hooks = [(name, PREPARE) for name in self.sources]
        if wheels:
            hooks += [(name, "build_wheel") for name in WHEELS]
        for name, hook in hooks:
            tree = self.tree(name, hook)
            tree.parent.mkdir(parents=True)
            sdists.copy(self.sources[name], tree)
            self.out(name, hook).mkdir(parents=True)
        return hooks

    def collect(self, results: dict[tuple[str, str], Any]) -> Answers:
        """The results and files of the hooks."""
        prepared = {name: found for (name, hook), found in results.items() if hook == PREPARE}
        built = {name: found for (name, hook), found in results.items() if hook == "build_wheel"}
        return Answers(
            {name: found for (name, hook), found in results.items() if hook == GET_REQUIRES},
            prepared,
            {name: contents(self.out(name, PREPARE), self.root) for name in prepared},
            {
                name: wheel_contents(self.out(name, "build_wheel") / wheel)
                for name, wheel in built.items()
            },
            built,
        )


def expected(work: Work, env: dict[str, str], python: str) -> Answers:
    """The results of pyproject_hooks, two projects at a time."""
    hooks = work.prepare(wheels=True)
    asked: list[tuple[str, str]] = []
    calls: list[tuple[str, str, str, str | None]] = []
    for name, hook in hooks:
        tree = str(work.tree(name, hook))
        if hook == PREPARE:
            asked.append((name, GET_REQUIRES))
            calls.append((tree, python, GET_REQUIRES, None))
        asked.append((name, hook))
        calls.append((tree, python, hook, str(work.out(name, hook))))
    # Whole projects: the two hooks of a project do not run concurrently.
    projects: dict[str, list[int]] = {}
    for place, request in enumerate(calls):
        projects.setdefault(request[0], []).append(place)
    halves: list[list[int]] = [[], []]
    for number, places in enumerate(projects.values()):
        halves[number % 2] += places
    running = []
    for number, half in enumerate(halves):
        requests = work.root / f"requests-{number}.json"
        requests.write_text(json.dumps([calls[place] for place in half]))
        command = [sys.executable, str(HERE / "reference.py"), str(requests)]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, env=env))
    results: dict[tuple[str, str], Any] = {}
    for process, half in zip(running, halves, strict=True):
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 0
        for place, found in zip(half, json.loads(output), strict=True):
            results[asked[place]] = found
    return work.collect(results)


@pytest.fixture(scope="module")
def fresh(
    sources: dict[str, Path], backends_python: str, tmp_path_factory: pytest.TempPathFactory
) -> Answers:
    """The results of fresh processes."""
    root = tmp_path_factory.mktemp("fresh")
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": "",
    }
    return expected(Work(root, sources), env, backends_python)


@pytest.mark.timeout(600)
def test_every_project_as_in_fresh_processes(
    setting: Setting,
    sources: dict[str, Path],
    backends_python: str,
    fresh: Answers,
    tmp_path: Path,
) -> None:
    work = Work(tmp_path / "work", sources)
    requests = []
    for name, hook in work.prepare(wheels=True):
        tree = str(work.tree(name, hook))
        out = str(work.out(name, hook))
        if hook == PREPARE:
            requests.append({"id": f"{name} {GET_REQUIRES}", "tree": tree, "hook": GET_REQUIRES})
            requests.append(
                {"id": f"{name} {hook}", "tree": tree, "hook": hook, "metadata_directory": out}
            )
        else:
            requests.append(
                {"id": f"{name} {hook}", "tree": tree, "hook": hook, "wheel_directory": out}
            )
    env = {"PYTHONHASHSEED": "0"}
    pool = setting.start(python=backends_python, env=env)
    results: dict[tuple[str, str], Any] = {}
    for response in pool.run(requests, timeout=300):
        name, _, hook = response["id"].partition(" ")
        if kind(response) == "UnsupportedHook":
            # The default of PEP 517 for a backend without the hook.
            results[name, hook] = [] if hook == GET_REQUIRES else None
        else:
            assert response["ok"], response
            results[name, hook] = response["result"]
    assert pool.wait() in {0, 1}
    assert len(results) == len(requests) == 2 * len(sources) + len(WHEELS)
    found = work.collect(results)
    assert found.requires == fresh.requires
    assert found.metadata_names == fresh.metadata_names
    assert found.wheel_names == fresh.wheel_names
    for name in sources:
        assert found.metadata[name] == fresh.metadata[name], name
        if found.metadata_names[name] is not None:
            assert f"{found.metadata_names[name]}/METADATA" in found.metadata[name]
    for name, backend in WHEELS.items():
        assert found.wheels[name] == fresh.wheels[name], backend


@pytest.mark.timeout(300)
def test_every_project_with_isolation_none(
    setting: Setting, sources: dict[str, Path], backends_python: str, tmp_path: Path
) -> None:
    """All succeed; the documented differences of reuse are not compared."""
    work = Work(tmp_path / "work", sources)
    requests = [
        {
            "id": name,
            "tree": str(work.tree(name, hook)),
            "hook": hook,
            "metadata_directory": str(work.out(name, hook)),
        }
        for name, hook in work.prepare(wheels=False)
    ]
    pool = setting.start("--isolation", "none", python=backends_python, env={"PYTHONHASHSEED": "0"})
    found = pool.run(requests, timeout=200)
    assert [response["id"] for response in found] == list(sources)
    for response in found:
        assert kind(response) in {None, "UnsupportedHook"}, response
    pool.wait()
