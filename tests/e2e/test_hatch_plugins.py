"""Published plugins with Hatch build hooks: the wheels have what they promise."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from builds import names
from conftest import Setting
from hatch import PINNED, Wheel, ask, made, run, tree
from packages import Environment
from pool import Pool

PLUGINS = ["hatch-autorun", "hatch-jupyter-builder", "hatch-mypyc", "hatch-odoo"]

# Hooks that each of two programs runs while wheels are built.
QUESTIONS = 15
WHEELS = 1

needs_a_compiler = pytest.mark.skipif(
    shutil.which("cc") is None, reason="hatch-mypyc needs a C compiler"
)


@needs_a_compiler
def test_the_wheels_of_all_are_what_they_promise(setting: Setting, tmp_path: Path) -> None:
    """All four are built concurrently, each in its own environment, and installed together."""
    trees = [tree(name, tmp_path / "trees") for name in PLUGINS]
    results = run(setting, "wheel", *trees, "-o", tmp_path / "out").results
    assert len({result["environment"]["id"] for result in results}) == len(PLUGINS)
    wheels = {Path(result["source"]).name: Path(result["file"]["path"]) for result in results}
    environment = Environment(tmp_path / "venv")
    environment.install(*wheels.values())

    def says(code: str) -> str:
        command = [environment.python, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert "hatch_autorun_uses_autorun.pth" in names(wheels["hatch-autorun"])
    assert says("import sys; print(sys.uses_autorun)") == "ran"
    assert says("import uses_mypyc; print(uses_mypyc.double(21), uses_mypyc.__file__)").startswith(
        f"42 {environment.site}/uses_mypyc/__init__.cpython-"
    )
    assert says(
        "from importlib.resources import files;"
        "print((files('uses_jupyter_builder') / 'static' / 'index.js').read_text())"
    ) == ("// hello 1 wheel standard")
    assert says("from odoo.addons.an_addon import NAME; print(NAME)") == "an add-on"
    odoo = Wheel.read(wheels["hatch-odoo"]).metadata
    assert sorted(odoo.get_all("Requires-Dist") or []) == ["iniconfig", "odoo<16.1dev,>=16.0a"]
    # The builds leave nothing where mypyc hides and moves files.
    assert (trees[2] / "pyproject.toml").exists()
    assert not (trees[2] / "pyproject.toml.bak").exists()


@needs_a_compiler
def test_nobody_sees_the_tree_while_mypyc_hides_its_project_file(
    setting: Setting, tmp_path: Path
) -> None:
    """Two programs, many requests, one tree: no other hook runs during a build."""
    source = tree("hatch-mypyc", tmp_path)
    requires = {"id": 0, "tree": str(source), "hook": "get_requires_for_build_wheel"}
    pools = [
        setting.start(*PINNED, "--workers-per-tree", "1", build_isolation=True) for _ in range(2)
    ]
    expected = {"hatch-mypyc"}
    for number, pool in enumerate(pools):
        # The environment exists before the burst of requests, and the templates know the backend.
        assert set(pool.ask(requires, timeout=100)["result"]) == expected
        out = tmp_path / f"out-{number}"
        out.mkdir()
        build = {**requires, "hook": "build_wheel", "wheel_directory": str(out)}
        for request in [build] * WHEELS + [requires] * QUESTIONS:
            pool.send({**request, "id": request["hook"]})
    for pool in pools:
        responses = pool.responses(WHEELS + QUESTIONS, timeout=100)
        assert [response["error"] for response in responses if not response["ok"]] == []
        asked = [
            set(response["result"])
            for response in responses
            if response["hook"] == "get_requires_for_build_wheel"
        ]
        assert asked == [expected] * QUESTIONS
        assert pool.finish() == ([], 0)


def left_over(setting: Setting) -> list[Path]:
    """The files that hatch-odoo keeps in the temporary folder until its process exits."""
    return [path for path in setting.tmp.iterdir() if path.is_file()]


def test_odoo_add_ons_are_linked_and_cleaned_up_after(setting: Setting, tmp_path: Path) -> None:
    source = tree("hatch-odoo", tmp_path)
    wheel = Wheel.read(made(setting, "editable", source))
    assert left_over(setting) == []
    pth = Path(wheel.text("uses-odoo_editable_odoo_addons.pth").strip())
    assert (pth / "odoo" / "addons" / "an_addon" / "__init__.py").is_file()


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_what_a_hook_cleans_up_at_exit_is_gone_with_its_answer(
    setting: Setting, tmp_path: Path, isolation: str, start_method: str
) -> None:
    setting.start_method = start_method
    source = tree("hatch-odoo", tmp_path)
    # The editable wheel needs the requirements of its get_requires hook.
    pool = setting.start(*PINNED, "--isolation", isolation, build_isolation=True)
    build_editable(pool, source, tmp_path / "out")
    # With isolation `none` the hook ends only when the worker exits.
    assert len(left_over(setting)) == (0 if isolation == "hook" else 1)
    assert pool.finish() == ([], 0)
    assert left_over(setting) == []


def build_editable(pool: Pool, source: Path, out: Path) -> None:
    """Run in the given environment."""
    out.mkdir()
    additional = ask(pool, "get_requires_for_build_editable", source)["result"]
    request = {
        "id": 2,
        "tree": str(source),
        "hook": "build_editable",
        "wheel_directory": str(out),
        "requires": ["hatchling", "hatch-odoo", *additional],
    }
    response = pool.ask(request, timeout=100)
    assert response["ok"], response["error"]
