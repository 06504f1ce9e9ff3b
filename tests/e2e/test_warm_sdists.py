"""Real projects, one after any other in the same warm process: METADATA is that of a fresh one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import environments
import pytest
import reference
import sdists
from conftest import Setting
from pool import Pool, kind
from trap_trees import PREPARE, installed_ones, write

SEED = 5
PASSES = 2
# Iterating over a set is another order in another process.
HASHES = {"PYTHONHASHSEED": "0"}

# By project: None for a backend without the hook.
Metadata = dict[str, bytes | None]


@pytest.fixture(scope="session")
def python(target: Path) -> str:
    """The interpreter of the environment with all build backends."""
    return environments.backends_python(target)


@pytest.fixture(scope="session")
def sources(target: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The unpacked sdists, and a project that imports what two of them have in their own trees."""
    project = installed_ones()
    tree = tmp_path_factory.mktemp("sources") / project.name
    write(tree, project.files)
    return {**sdists.fetch_all(target / "test-sdists"), project.name: tree}


@pytest.fixture(scope="module")
def fresh(
    sources: dict[str, Path], python: str, tmp_path_factory: pytest.TempPathFactory
) -> Metadata:
    """What a new process for each hook gives, from two at a time."""
    root = tmp_path_factory.mktemp("fresh")
    trees = copies(root / "trees", sources)
    names = sorted(sources)
    halves = [names[::2], names[1::2]]
    running = [
        start_reference(root / f"{number}", trees, half, python)
        for number, half in enumerate(halves)
    ]
    metadata: Metadata = {}
    for process, (number, half) in zip(running, enumerate(halves), strict=True):
        output, _ = process.communicate(timeout=100)
        assert process.returncode == 0
        for name, result in zip(half, json.loads(output), strict=True):
            metadata[name] = read(root / f"{number}" / name, result)
    return metadata


def copies(folder: Path, sources: dict[str, Path]) -> dict[str, Path]:
    """Trees to run hooks in; each has the name of its sdist, from which some take their own."""
    folder.mkdir()
    return {
        name: sdists.copy(source, folder / name / source.name) for name, source in sources.items()
    }


def start_reference(
    out: Path, trees: dict[str, Path], names: list[str], python: str
) -> subprocess.Popen[bytes]:
    """Run the hooks of some projects by pyproject_hooks, one after the other."""
    out.mkdir()
    requests = []
    for name in names:
        (out / name).mkdir()
        requests.append([str(trees[name]), python, PREPARE, str(out / name)])
    listed = out / "requests.json"
    listed.write_text(json.dumps(requests))
    command = [sys.executable, reference.__file__, str(listed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=clean_environment())


def clean_environment() -> dict[str, str]:
    """Ours, without what changes how interpreters work."""
    own = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    return own | HASHES


def read(out: Path, result: Any) -> bytes | None:
    """The metadata that a hook wrote."""
    return None if result is None else (out / result / "METADATA").read_bytes()


def one_pass(pool: Pool, trees: dict[str, Path], out: Path) -> tuple[Metadata, dict[str, str]]:
    """The metadata of all projects, asked for in this order, and how their workers were started."""
    for name, tree in trees.items():
        (out / name).mkdir(parents=True)
        pool.send(
            {
                "id": name,
                "tree": str(tree),
                "hook": PREPARE,
                "metadata_directory": str(out / name),
            }
        )
    metadata: Metadata = {}
    methods = {}
    for response in pool.responses(len(trees)):
        name = response["id"]
        assert kind(response) in {None, "UnsupportedHook"}, response
        metadata[name] = read(out / name, response["result"])
        methods[name] = response["worker"]["start_method"]
    return metadata, methods


@pytest.mark.exhaustive(start_method="spawn")
@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
@pytest.mark.timeout(300)
def test_metadata_is_that_of_fresh_processes(
    setting: Setting,
    sources: dict[str, Path],
    python: str,
    fresh: Metadata,
    start_method: str,
    tmp_path: Path,
) -> None:
    trees = copies(tmp_path / "trees", sources)
    order = sorted(trees)
    shuffled = random.Random(SEED)
    pool = setting.start("--start-method", start_method, python=python, env=HASHES)
    for number in range(PASSES):
        shuffled.shuffle(order)
        out = tmp_path / f"out-{number}"
        metadata, methods = one_pass(pool, {name: trees[name] for name in order}, out)
        assert [name for name in sources if metadata[name] != fresh[name]] == []
        assert metadata == fresh
    assert [name for name in sources if methods[name] != start_method] == []
    rest, code = pool.finish()
    assert rest == []
    assert code == (1 if None in fresh.values() else 0)


def test_careless_preload_is_caught(
    setting: Setting, sources: dict[str, Path], python: str, fresh: Metadata, tmp_path: Path
) -> None:
    """Modules that were imported before are taken for the trees' own: these sdists show it."""
    folder = tmp_path / "preload"
    write(folder, {"sitecustomize.py": "import six, toml\n"})
    trees = copies(tmp_path / "trees", {name: sources[name] for name in ("six", "toml")})
    env = HASHES | {"PYTHONPATH": str(folder)}
    pool = setting.start("--start-method", "spawn", python=python, env=env)
    metadata, _ = one_pass(pool, trees, tmp_path / "out")
    assert [name for name in trees if metadata[name] == fresh[name]] == []
    assert pool.finish() == ([], 0)


def test_the_fresh_ones_are_their_own(fresh: Metadata) -> None:
    """The environment has other versions of two projects: what their trees must not find."""
    for line in (b"\nName: six\nVersion: 1.16.0\n", b"\nName: toml\nVersion: 0.10.2\n"):
        name = line.split()[1].decode()
        assert line in (fresh[name] or b"")
    assert b"\nVersion: 0.10.1\nSummary: six 1.15.0\n" in (fresh["installed-ones"] or b"")
