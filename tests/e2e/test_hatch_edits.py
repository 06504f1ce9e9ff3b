"""The files of Hatch build hooks are edited between two requests: the next build sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Setting
from hatch import PINNED, Wheel, ask, build_by, edit, tree
from pool import Pool

# At some point the templates have learned everything; then nothing may change.
SETTLED = 4
AT_MOST = 100

Build = Callable[[], str]


@pytest.fixture
def pool(setting: Setting, isolation: str) -> Pool:
    """A pool with build environments."""
    return setting.start(*PINNED, "--isolation", isolation, build_isolation=True)


def settle(pool: Pool, source: Path, out: Path) -> int:
    """Build until the worker stays the same; returns its pid."""
    last, in_a_row = 0, 0
    for _ in range(AT_MOST):
        pid: int = ask(pool, "build_wheel", source, out)["worker"]["pid"]
        in_a_row = in_a_row + 1 if pid == last else 0
        last = pid
        if in_a_row == SETTLED:
            return last
    raise AssertionError("workers were replaced all the time")


def check_edits(
    pool: Pool, isolation: str, source: Path, out: Path, read: Build, edits: list[Callable[[], str]]
) -> None:
    """After each edit the next build has the new content; without an edit no worker is replaced."""
    for make_edit in edits:
        worker = settle(pool, source, out)
        expected = make_edit()
        response = ask(pool, "build_wheel", source, out)
        assert read() == expected
        if isolation == "hook" and response["worker"]["start_method"] == "spawn":
            # The worker never imports the code of its tree; its template may have learned a module.
            assert response["worker"]["pid"] == worker
    settle(pool, source, out)
    assert pool.finish() == ([], 0)


@pytest.mark.usefixtures("start_method")
def test_a_hook_its_helper_and_its_configuration(
    pool: Pool, setting: Setting, isolation: str, tmp_path: Path
) -> None:
    source, out = tree("hatch-helper", tmp_path), tmp_path / "out"

    def read() -> str:
        (wheel,) = out.iterdir()
        return Wheel.read(wheel).text("sample/texts.txt")

    def change(name: str, old: str, new: str, expected: str) -> Callable[[], str]:
        def make_edit() -> str:
            edit(source / name, old, new)
            return expected

        return make_edit

    first = ask(pool, "build_wheel", source, out)
    assert first["worker"]["start_method"] == setting.start_method
    assert read() == "hook 1, helper 1, configuration 1"
    edits = [
        change("hatch_build.py", "hook 1", "hook two", "hook two, helper 1, configuration 1"),
        change("helper.py", "helper 1", "helper two", "hook two, helper two, configuration 1"),
        change(
            "pyproject.toml",
            "configuration 1",
            "configuration two",
            "hook two, helper two, configuration two",
        ),
    ]
    check_edits(pool, isolation, source, out, read, edits)


def test_the_module_of_a_build_function(pool: Pool, isolation: str, tmp_path: Path) -> None:
    source, out = tree("hatch-jupyter-builder", tmp_path), tmp_path / "out"
    js = "uses_jupyter_builder/static/index.js"

    def read() -> str:
        (wheel,) = out.iterdir()
        return Wheel.read(wheel).text(js)

    def make_edit() -> str:
        edit(source / "jsbuild.py", "NUMBER = 1\n", "NUMBER = 22\n")
        return "// hello 22 wheel standard\n"

    build_by(pool, "build_wheel", source, out)
    assert read() == "// hello 1 wheel standard\n"
    check_edits(pool, isolation, source, out, read, [make_edit])
