"""`hookpool check`, with backends that behave the same and with others."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import Setting
from packages import Environment
from pool import PROGRAM
from trees import make_tree

# A module of the environment, which a template preloads.
BACKEND = """\
import os


def get_requires_for_build_wheel(config_settings=None):
    {requires}


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    import own_tool

    folder = os.path.join(metadata_directory, "own-1.dist-info")
    os.mkdir(folder)
    with open(os.path.join(folder, "METADATA"), "w") as file:
        file.write("Name: own\\nVersion: " + own_tool.version() + "\\n")
    return "own-1.dist-info"
"""

TOOL = "def version():\n    return '1'\n"

# Whether the worker was forked from a template: it has the command line of one.
IS_WARM = """\
import os


def version():
    with open("/proc/{}/cmdline".format(os.getppid())) as file:
        return str("--template" in file.read())
"""


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An environment with a test backend."""
    environment = Environment(tmp_path / "environment")
    environment.write({"own_backend.py": BACKEND.format(requires="return []"), "own_tool.py": TOOL})
    return environment


def tree(folder: Path) -> Path:
    folder.mkdir()
    pyproject = '[build-system]\nrequires = []\nbuild-backend = "own_backend"\n'
    (folder / "pyproject.toml").write_text(pyproject)
    return folder


def check(
    setting: Setting, environment: Environment, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run `hookpool check`."""
    command = [str(PROGRAM), "check", "--no-build-isolation", "--python", environment.python]
    return subprocess.run(
        [*command, *arguments],
        env=setting.env,
        cwd=setting.root,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_backend_that_is_the_same(
    setting: Setting, environment: Environment, tmp_path: Path
) -> None:
    sources = [tree(tmp_path / "one"), tree(tmp_path / "two")]
    # The hooks of an in-tree backend are compared as well.
    sources.append(make_tree(tmp_path / "in-tree", BACKEND.format(requires="return ['x']")))
    done = check(setting, environment, *map(str, sources))
    expected = [f"{source}: same (2 of 5 hooks give a result)" for source in sources]
    assert (done.stdout.splitlines(), done.returncode) == (expected, 0), done.stderr


def test_a_difference_is_told(setting: Setting, environment: Environment, tmp_path: Path) -> None:
    environment.write({"own_tool.py": IS_WARM})
    source = tree(tmp_path / "one")
    done = check(setting, environment, str(source))
    assert done.stdout.splitlines() == [
        f"{source}: DIFFERENT (2 of 5 hooks give a result)",
        "  prepare_metadata_for_build_wheel, own-1.dist-info/METADATA",
        "    fresh: Version: False",
        "    warm:  Version: True",
    ]
    assert done.returncode == 1


def test_what_differs_anyway_is_told_apart(
    setting: Setting, environment: Environment, tmp_path: Path
) -> None:
    requires = "import time; print(time.time_ns()); return []"
    environment.write({"own_backend.py": BACKEND.format(requires=requires)})
    source = tree(tmp_path / "one")
    done = check(setting, environment, str(source))
    lines = done.stdout.splitlines()
    assert lines[0] == f"{source}: same (2 of 5 hooks give a result)"
    note = "  get_requires_for_build_wheel, stdout (as between two fresh processes)"
    assert note in lines
    assert done.returncode == 0


def test_a_backend_that_fails_fails_the_same(
    setting: Setting, environment: Environment, tmp_path: Path
) -> None:
    environment.write({"own_backend.py": "raise ValueError('broken')\n"})
    source = tree(tmp_path / "one")
    done = check(setting, environment, str(source))
    assert done.stdout.splitlines()[0] == f"{source}: same (0 of 5 hooks give a result)"
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-tree"], '"no-such-tree" does not exist'),
        (["file"], '"file": expected a folder'),
        (["--isolation", "none", "."], "cannot be chosen"),
        (["--start-method", "spawn", "."], "cannot be chosen"),
        ([], "SOURCE"),
    ],
)
def test_bad_usage(
    setting: Setting, environment: Environment, arguments: list[str], message: str
) -> None:
    (setting.root / "file").touch()
    done = check(setting, environment, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
