"""What a person reads of a hook that failed."""

from __future__ import annotations

from pathlib import Path

import pytest
import sdists
from builds import build, make_project
from conftest import Setting

LIST = Path(__file__).with_name("failing_sdists.txt")


@pytest.fixture(scope="module")
def failing(target: Path) -> dict[str, Path]:
    return sdists.fetch_archives(target / "test-sdists", LIST)


def test_an_exception_has_its_name_its_places_and_its_causes(
    setting: Setting, tmp_path: Path
) -> None:
    tree = make_project(tmp_path / "tree")
    (tree / "reading.py").write_text(
        "def read():\n    return {}['version']\n\n\n"
        "def version():\n    try:\n        read()\n"
        "    except KeyError as error:\n        raise AssertionError from error\n"
    )
    code = "import sys; sys.path.insert(0, '.'); import reading; reading.version()"
    flags = [tree, "-o", tmp_path / "out", "-C", f"build_wheel={code}"]
    built = build(setting, "wheel", *flags)
    shown = built.stderr.partition(f"error: build_wheel of {tree}: HookRuntimeError\n")[2]
    assert shown.splitlines()[:7] == [
        "  AssertionError",
        "    at reading.py, line 9, in version",
        "    at <string>, line 1",
        "    at own_backend.py, line 14, in _do",
        "  caused by KeyError: 'version'",
        "    at reading.py, line 2, in read",
        "    at reading.py, line 7, in version",
    ]
    log = Path(shown.partition("full log: ")[2].splitlines()[0])
    assert "Traceback (most recent call last):" not in built.stderr
    assert "Traceback (most recent call last):" in log.read_text()
    assert (
        "    Traceback (most recent call last):\n" in build(setting, "wheel", "-v", *flags).stderr
    )


def test_the_parts_of_an_exception_group_of_a_real_backend(
    setting: Setting, failing: dict[str, Path], tmp_path: Path
) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("scikit-build-core==1.1.2\n")
    wanted = ["metadata", failing["levenshtein"], "--build-constraint", constraints]
    error = build(setting, *wanted, "--format", "json").result["error"]
    message = error["message"].splitlines()
    assert message[0] == "ExceptionGroup: Failed to parse pyproject.toml (1 sub-exception)"
    assert message[1].startswith("  at scikit_build_core/")
    assert "Extra keys present in \"project\": 'Changelog', 'Documentation'" in message[2]
