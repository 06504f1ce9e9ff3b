"""A change on the disk between two requests takes effect in the second, and only then."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Setting
from gate import Gate
from packages import Environment, make_wheel
from pool import Pool, Response
from trap_trees import Files, write
from trees import CODE_BACKEND, call, make_tree

# What a hook has imported: with the backend, and later; and what the latter has found.
LOOK = """\
import plain_backend, plain_late
result = [
    plain_backend.VERSION,
    plain_backend.part.VERSION,
    plain_backend.plain_helper.VERSION,
    plain_late.VERSION,
    plain_late.EXTRA,
]
"""
AT_FIRST = ["backend 1", "part 1", "helper 1", "late 1", "absent"]
# At some point the template has learned everything; then nothing may change.
SETTLED = 20
AT_MOST = 300


@pytest.fixture(params=["forkserver", "spawn"])
def start_method(request: pytest.FixtureRequest) -> str:
    """Each start method."""
    return str(request.param)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An environment with a backend, whose hooks run the code of the request, and its modules."""
    environment = Environment(tmp_path / "venv")
    for files in (backend(), helper(), late()):
        environment.write(files)
    return environment


@pytest.fixture
def plain_tree(tmp_path: Path) -> Path:
    """A tree with this backend."""
    return make_plain_tree(tmp_path / "plain-tree")


# The sizes differ: an interpreter's bytecode check compares those, and whole seconds.


def backend(version: str = "1", part: str = "1") -> Files:
    """The backend, a package of two modules."""
    text = f"import plain_helper\nfrom plain_backend import part\nVERSION = 'backend {version}'\n"
    return {
        "plain_backend/__init__.py": text + CODE_BACKEND,
        "plain_backend/part.py": f"VERSION = 'part {part}'\n",
    }


def helper(version: str = "1") -> Files:
    """A module that the backend imports."""
    return {"plain_helper.py": f"VERSION = 'helper {version}'\n"}


def late(version: str = "1") -> Files:
    """A module that hooks import when they run."""
    text = f"""\
VERSION = 'late {version}'
try:
    from plain_extra import VERSION as EXTRA
except ImportError:
    EXTRA = 'absent'
"""
    return {"plain_late/__init__.py": text}


def extra(version: str) -> Files:
    """A module that need not exist."""
    return {"plain_extra.py": f"VERSION = 'extra {version}'\n"}


def make_plain_tree(folder: Path) -> Path:
    """A tree with the backend of the environment."""
    folder.mkdir(parents=True)
    project = '[build-system]\nrequires = []\nbuild-backend = "plain_backend"\n'
    (folder / "pyproject.toml").write_text(project)
    return folder


def look(pool: Pool, tree: Path, **fields: str) -> list[str]:
    """The modules that a hook sees."""
    response = pool.ask(call(tree, LOOK, **fields))
    assert response["ok"], response["error"]
    found: list[str] = response["result"]
    return found


def settle(pool: Pool, tree: Path, code: str = LOOK, **fields: str) -> Response:
    """Send requests until learning no longer changes the worker; returns the last response."""
    in_a_row = 0
    workers = set()
    last: Response | None = None
    for number in range(AT_MOST):
        response = pool.ask(call(tree, code, number, **fields))
        assert response["ok"], response["error"]
        workers.add(response["worker"]["pid"])
        same = last is not None and last["worker"] == response["worker"]
        in_a_row = in_a_row + 1 if same else 0
        last = response
        if in_a_row == SETTLED:
            assert len(workers) <= 5, "it was learned in more than a few steps"
            return response
    raise AssertionError(f"{len(workers)} workers for {AT_MOST} requests, and nothing changed")


@pytest.fixture
def pool(setting: Setting, environment: Environment, start_method: str, isolation: str) -> Pool:
    """A pool in that environment."""
    flags = ["--start-method", start_method, "--isolation", isolation]
    return setting.start(*flags, python=environment.python)


@pytest.mark.exhaustive(start_method="spawn", isolation="hook")
@pytest.mark.exhaustive(start_method="forkserver", isolation="none")
def test_f23_packages_are_upgraded_by_pip(
    pool: Pool, environment: Environment, plain_tree: Path, tmp_path: Path
) -> None:
    for name in ("plain_backend", "plain_late"):
        shutil.rmtree(environment.site / name)
    wheels = tmp_path / "wheels"
    environment.install(
        make_wheel(wheels, "plain_backend", "1", backend()),
        make_wheel(wheels, "plain_late", "1", late()),
    )
    assert settle(pool, plain_tree)["result"] == AT_FIRST
    environment.install(make_wheel(wheels, "plain_late", "2.0", late("2.0")))
    assert look(pool, plain_tree) == [*AT_FIRST[:3], "late 2.0", "absent"]
    environment.install(make_wheel(wheels, "plain_backend", "2.0", backend("2.0", "2.0")))
    second = ["backend 2.0", "part 2.0", "helper 1", "late 2.0"]
    assert look(pool, plain_tree) == [*second, "absent"]
    # A new tree, for which the old version was never imported.
    assert look(pool, make_plain_tree(tmp_path / "other")) == [*second, "absent"]
    environment.install(make_wheel(wheels, "plain_extra", "1", extra("1")))
    assert look(pool, plain_tree) == [*second, "extra 1"]
    environment.uninstall("plain_extra")
    assert look(pool, plain_tree) == [*second, "absent"]
    assert pool.finish() == ([], 0)


def test_f23_one_module_is_edited(pool: Pool, environment: Environment, plain_tree: Path) -> None:
    assert settle(pool, plain_tree)["result"] == AT_FIRST
    environment.write(helper("two"))
    assert look(pool, plain_tree) == ["backend 1", "part 1", "helper two", "late 1", "absent"]
    (environment.site / "plain_backend" / "part.py").write_text("VERSION = 'part two'\n")
    assert look(pool, plain_tree) == ["backend 1", "part two", "helper two", "late 1", "absent"]
    environment.write(late("two"))
    assert look(pool, plain_tree) == ["backend 1", "part two", "helper two", "late two", "absent"]
    assert settle(pool, plain_tree)["result"][1] == "part two"
    assert pool.finish() == ([], 0)


def test_a_module_becomes_a_package(pool: Pool, environment: Environment, plain_tree: Path) -> None:
    assert settle(pool, plain_tree)["result"] == AT_FIRST
    # The old file stays, but a package with its name takes precedence.
    environment.write({"plain_helper/__init__.py": "VERSION = 'helper package'\n"})
    assert look(pool, plain_tree) == [*AT_FIRST[:2], "helper package", "late 1", "absent"]
    assert pool.finish() == ([], 0)


def test_a_package_gets_a_module(pool: Pool, environment: Environment, plain_tree: Path) -> None:
    """A module that the backend looks for when it is imported."""
    text = "try:\n    from plain_late import fast\nexcept ImportError:\n    fast = None\n"
    environment.write({"plain_late/__init__.py": text})
    code = "import plain_late\nresult = [str(plain_late.fast and plain_late.fast.NAME)]\n"
    assert settle(pool, plain_tree, code)["result"] == ["None"]
    environment.write({"plain_late/fast.py": "NAME = 'fast'\n"})
    assert pool.ask(call(plain_tree, code))["result"] == ["fast"]
    (environment.site / "plain_late" / "fast.py").unlink()
    assert pool.ask(call(plain_tree, code))["result"] == ["None"]
    assert pool.finish() == ([], 0)


def test_a_plugin_is_installed(pool: Pool, environment: Environment, plain_tree: Path) -> None:
    """Backends find plugins by their entry points."""
    code = """\
from importlib.metadata import entry_points
found = entry_points()
found = found.get("plain", []) if isinstance(found, dict) else found.select(group="plain")
result = sorted(point.load() for point in found)
"""
    assert settle(pool, plain_tree, code)["result"] == []
    info = "Metadata-Version: 2.1\nName: plain_plugin\nVersion: 1\n"
    plugin = {
        "plain_plugin.py": "NAME, OTHER = 'one', 'another'\n",
        "plain_plugin-1.dist-info/METADATA": info,
        "plain_plugin-1.dist-info/entry_points.txt": "[plain]\none = plain_plugin:NAME\n",
    }
    environment.write(plugin)
    assert settle(pool, plain_tree, code)["result"] == ["one"]
    points = plugin["plain_plugin-1.dist-info/entry_points.txt"] + "two = plain_plugin:OTHER\n"
    environment.write({"plain_plugin-1.dist-info/entry_points.txt": points})
    assert pool.ask(call(plain_tree, code))["result"] == ["another", "one"]
    assert pool.finish() == ([], 0)


def test_a_module_appears_in_front_of_another(
    setting: Setting,
    environment: Environment,
    plain_tree: Path,
    tmp_path: Path,
    start_method: str,
    isolation: str,
) -> None:
    front = tmp_path / "front"
    front.mkdir()
    flags = ["--start-method", start_method, "--isolation", isolation]
    pool = setting.start(*flags, python=environment.python, env={"PYTHONPATH": str(front)})
    assert settle(pool, plain_tree)["result"] == AT_FIRST
    write(front, late("in front"))
    assert look(pool, plain_tree) == [*AT_FIRST[:3], "late in front", "absent"]
    shutil.rmtree(front / "plain_late")
    assert look(pool, plain_tree) == AT_FIRST
    assert pool.finish() == ([], 0)


def test_a_pth_file_is_added_edited_and_removed(
    pool: Pool, environment: Environment, plain_tree: Path, tmp_path: Path
) -> None:
    for version in ("one", "other"):
        write(tmp_path / version, extra(version))
    path_file = environment.site / "more.pth"
    assert settle(pool, plain_tree)["result"][-1] == "absent"
    path_file.write_text(f"{tmp_path / 'one'}\n")
    assert look(pool, plain_tree)[-1] == "extra one"
    path_file.write_text(f"{tmp_path / 'other'}\n")
    assert look(pool, plain_tree)[-1] == "extra other"
    path_file.unlink()
    assert look(pool, plain_tree) == AT_FIRST
    assert pool.finish() == ([], 0)


@pytest.mark.parametrize("kind", ["folder", "finder"])
def test_a_backend_that_is_installed_editable_is_edited(
    pool: Pool, environment: Environment, plain_tree: Path, tmp_path: Path, kind: str
) -> None:
    shutil.rmtree(environment.site / "plain_backend")
    source = tmp_path / "src"
    write(source, backend())
    install_editable(environment, source, kind)
    assert settle(pool, plain_tree)["result"] == AT_FIRST
    write(source, backend("edited"))
    assert look(pool, plain_tree) == ["backend edited", *AT_FIRST[1:]]
    write(source, backend("edited", "edited"))
    assert look(pool, plain_tree) == ["backend edited", "part edited", *AT_FIRST[2:]]
    assert settle(pool, plain_tree)["result"][1] == "part edited"
    assert pool.finish() == ([], 0)


def install_editable(environment: Environment, source: Path, kind: str) -> None:
    """As build backends install them: with a folder on sys.path, or with a finder."""
    if kind == "folder":
        environment.write({"editable.pth": f"{source}\n"})
        return
    finder = f"""\
import importlib.util
import sys


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "plain_backend":
            package = {str(source / "plain_backend")!r}
            return importlib.util.spec_from_file_location(
                name, package + "/__init__.py", submodule_search_locations=[package]
            )
        return None


sys.meta_path.append(Finder)
"""
    environment.write({"editable_finder.py": finder, "editable.pth": "import editable_finder\n"})


def test_the_environment_is_configured_anew(
    pool: Pool, environment: Environment, plain_tree: Path
) -> None:
    code = "import sys\nresult = sys.path\n"
    before = fresh_path(environment)
    assert settle(pool, plain_tree, code)["result"] == before
    configuration = environment.folder / "pyvenv.cfg"
    text = configuration.read_text()
    line = "include-system-site-packages = "
    assert line + "false" in text
    configuration.write_text(text.replace(line + "false", line + "true"))
    assert pool.ask(call(plain_tree, code))["result"] == fresh_path(environment) != before
    assert pool.finish() == ([], 0)


def fresh_path(environment: Environment) -> list[str]:
    """The sys.path of a fresh interpreter."""
    # Isolated from the packages of the user: HOME differs from that of the pool.
    command = [environment.python, "-I", "-c", "import json, sys; print(json.dumps(sys.path))"]
    text = subprocess.run(command, capture_output=True, check=True).stdout
    found: list[str] = json.loads(text)
    return found


def test_f22_in_tree_code_is_edited(
    setting: Setting, start_method: str, isolation: str, tmp_path: Path
) -> None:
    def text(version: str) -> str:
        return (
            "import helper\n"
            "def get_requires_for_build_wheel(config_settings=None):\n"
            "    import late_helper\n"
            f"    return [helper.NAME, late_helper.NAME, {version!r}]\n"
        )

    tree = make_tree(tmp_path / "tree", text("1"))
    write(tree, {"helper.py": "NAME = 'first'\n", "late_helper.py": "NAME = 'late'\n"})
    pool = setting.start("--start-method", start_method, "--isolation", isolation)
    assert settle(pool, tree)["result"] == ["first", "late", "1"]
    write(tree, {"helper.py": "NAME = 'the second'\n"})
    assert pool.ask(call(tree))["result"] == ["the second", "late", "1"]
    write(tree, {"late_helper.py": "NAME = 'later'\n"})
    assert pool.ask(call(tree))["result"] == ["the second", "later", "1"]
    write(tree, {"in_tree_backend.py": text("2.0")})
    assert pool.ask(call(tree))["result"] == ["the second", "later", "2.0"]
    write(tree, {"helper/__init__.py": "NAME = 'a package'\n"})
    assert pool.ask(call(tree))["result"] == ["a package", "later", "2.0"]
    assert settle(pool, tree)["result"] == ["a package", "later", "2.0"]
    assert pool.finish() == ([], 0)


def test_f22_a_module_that_comes_right_after_an_answer(
    setting: Setting, isolation: str, tmp_path: Path
) -> None:
    """The files that a hook has imported are recorded before its response, not after it."""
    tree = make_tree(tmp_path / "tree")
    pool = setting.start("--start-method", "spawn", "--isolation", isolation)
    for number in range(20):
        name = f"helper_{number}"
        code = f"import {name}\nresult = [{name}.NAME]"
        write(tree, {f"{name}.py": "NAME = 'a module'\n"})
        assert pool.ask(call(tree, code, 1))["result"] == ["a module"]
        write(tree, {f"{name}/__init__.py": "NAME = 'a package'\n"})
        assert pool.ask(call(tree, code, 2))["result"] == ["a package"]
    assert pool.finish() == ([], 0)


def test_f21_waiting_requests_see_the_change(
    setting: Setting,
    environment: Environment,
    start_method: str,
    isolation: str,
    tmp_path: Path,
    gate: Gate,
) -> None:
    trees = [make_plain_tree(tmp_path / f"waiting-{number}") for number in range(3)]
    flags = ["--start-method", start_method, "--isolation", isolation]
    pool = setting.start(*flags, python=environment.python, jobs=1)
    for tree in trees:
        assert settle(pool, tree)["result"] == AT_FIRST
    pool.send(call(trees[0], LOOK + gate.code, "first"))
    gate.arrived()
    ids = itertools.count()
    pool.send(*(call(tree, LOOK, next(ids)) for tree in trees * 3))
    for files in (backend("2.0", "2.0"), helper("2.0"), late("2.0")):
        environment.write(files)
    gate.release()
    first, *others = pool.responses(1 + next(ids))
    assert first["id"] == "first"
    assert first["result"] == AT_FIRST
    second = ["backend 2.0", "part 2.0", "helper 2.0", "late 2.0", "absent"]
    assert [response["result"] for response in others] == [second] * len(others)
    assert pool.finish() == ([], 0)


def test_f21_waiting_requests_of_an_in_tree_backend_see_the_change(
    setting: Setting, tree: Path, start_method: str, isolation: str, gates: Callable[[str], Gate]
) -> None:
    gate = gates("edit")
    code = "import helper\nresult = [helper.NAME]\n"
    write(tree, {"helper.py": "NAME = 'first'\n"})
    pool = setting.start("--start-method", start_method, "--isolation", isolation)
    settle(pool, tree, code)
    pool.send(call(tree, code + gate.code, 1), call(tree, code, 2), call(tree, code, 3))
    gate.arrived()
    write(tree, {"helper.py": "NAME = 'the second'\n"})
    gate.release()
    found = [response["result"] for response in pool.responses(3)]
    assert found == [["first"], ["the second"], ["the second"]]
    assert pool.finish() == ([], 0)


def test_without_a_change_nothing_is_restarted(
    pool: Pool, plain_tree: Path, start_method: str, tmp_path: Path
) -> None:
    """The first uses write bytecode into the checked folders: that is not a change."""
    others = [make_tree(tmp_path / "in-tree"), make_plain_tree(tmp_path / "another")]
    for tree in (plain_tree, *others):
        settled = settle(pool, tree, "import json\nresult = []\n")
        assert settled["worker"]["start_method"] == start_method
        for number in range(SETTLED):
            response = pool.ask(call(tree, "import json\nresult = []\n", number))
            assert response["worker"] == settled["worker"]
    assert pool.finish() == ([], 0)


def test_only_what_is_stale_is_restarted(
    pool: Pool, environment: Environment, plain_tree: Path, tmp_path: Path
) -> None:
    """Another environment, and a tree without an edit, keep their workers."""
    other = Environment(tmp_path / "other-venv")
    for files in (backend("other"), helper(), late()):
        other.write(files)
    tree = make_plain_tree(tmp_path / "other-tree")
    settled = settle(pool, tree, python=other.python)
    assert settle(pool, plain_tree)["result"] == AT_FIRST
    environment.write(helper("two"))
    assert look(pool, plain_tree)[2] == "helper two"
    again = pool.ask(call(tree, LOOK, python=other.python))
    assert again["result"] == ["backend other", *AT_FIRST[1:]]
    assert again["worker"] == settled["worker"]
    assert pool.finish() == ([], 0)


def test_without_the_check_a_worker_is_restarted_when_that_is_asked_for(
    setting: Setting, environment: Environment, plain_tree: Path, start_method: str
) -> None:
    """A worker keeps what it has imported until SIGHUP."""
    flags = ["--start-method", start_method, "--isolation", "none", "--no-freshness-check"]
    pool = setting.start(*flags, python=environment.python)
    before = settle(pool, plain_tree)
    environment.write(helper("two"))
    stale = pool.ask(call(plain_tree, LOOK))
    assert stale["result"] == AT_FIRST
    assert stale["worker"] == before["worker"]
    pool.signal(signal.SIGHUP)
    # The signal and the next request arrive independently.
    for number in range(AT_MOST):
        found = pool.ask(call(plain_tree, LOOK, number))
        if found["worker"] != before["worker"]:
            break
    assert found["result"] == [*AT_FIRST[:2], "helper two", *AT_FIRST[3:]]
    assert pool.finish() == ([], 0)


def test_a_learned_list_of_an_earlier_program_is_checked(
    setting: Setting, environment: Environment, plain_tree: Path, start_method: str
) -> None:
    """Learned modules are kept with the environment, and changes to them are detected."""
    flags = ["--start-method", start_method]
    pool = setting.start(*flags, python=environment.python)
    assert settle(pool, plain_tree)["result"] == AT_FIRST
    assert pool.finish() == ([], 0)
    environment.write(late("two"))
    pool = setting.start(*flags, python=environment.python)
    second = [*AT_FIRST[:3], "late two", "absent"]
    assert settle(pool, plain_tree)["result"] == second
    assert pool.finish() == ([], 0)
    # A module that can no longer be imported must not cause another failure.
    environment.write({"plain_late/__init__.py": "raise RuntimeError('broken')\n"})
    code = "result = ['without it']\n"
    pool = setting.start(*flags, python=environment.python)
    assert settle(pool, plain_tree, code)["result"] == ["without it"]
    broken = pool.ask(call(plain_tree, LOOK))
    assert broken["error"]["exception"] == "RuntimeError"
    environment.write(late("mended"))
    assert look(pool, plain_tree) == [*AT_FIRST[:3], "late mended", "absent"]
    assert pool.finish() == ([], 1)
