"""Which constraints apply to build environments, and which do not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from build_environments import NEWEST_PIP, BuildEnvironments, versions
from conftest import Setting
from environments import python_with
from packages import make_wheel

INSTALLERS = pytest.mark.parametrize("installer", ["pip", "uv"])


@pytest.fixture
def build_environments(setting: Setting, tmp_path: Path) -> BuildEnvironments:
    """An empty cache folder."""
    return BuildEnvironments(setting, tmp_path)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with two versions of a requirement."""
    for version in ("1.0", "2.0"):
        make_wheel(tmp_path / "wheels", "tool_one", version, {"tool_one.py": ""})
    return tmp_path / "wheels"


def project(folder: Path, *lines: str) -> Path:
    """A working directory with settings for uv."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text("\n".join(["[tool.uv]", *lines, ""]))
    return folder


def constraints(path: Path, text: str) -> Path:
    """A constraints file."""
    path.write_text(text + "\n")
    return path


def test_f67_what_constrains_run_time_constrains_no_build_by_uv(
    build_environments: BuildEnvironments, tmp_path: Path, wheels: Path
) -> None:
    file = str(constraints(tmp_path / "run-time.txt", "tool-one<2"))
    cwd = project(
        tmp_path / "cwd",
        'constraint-dependencies = ["tool-one<2"]',
        'override-dependencies = ["tool-one==1.0"]',
        # Constraints for all installations still apply.
        'find-links = ["../wheels"]',
        "no-index = true",
        "[tool.uv.pip]",
        "no-deps = true",
    )
    env = {"UV_CONSTRAINT": file, "UV_OVERRIDE": file}
    environment = build_environments.of(["tool-one"], "--installer", "uv", env=env, cwd=cwd)
    assert versions(environment) == {"tool-one": "2.0"}
    # They are not part of the key of the environment either.
    constraints(Path(file), "tool-one<1.5")
    assert not build_environments.of(["tool-one"], "--installer", "uv", env=env, cwd=cwd)["made"]


def test_f67_what_constrains_run_time_constrains_no_build_by_a_new_pip(
    build_environments: BuildEnvironments, tmp_path: Path, wheels: Path, target: Path
) -> None:
    python = python_with(target / "newest-pip-venv", NEWEST_PIP)
    file = constraints(tmp_path / "run-time.txt", "tool-one<2")
    flags = ["--installer", "pip", "--no-index", "--find-links", wheels]
    config = tmp_path / "pip.conf"
    config.write_text(f"[install]\nconstraint = {file}\n")
    for env in ({"PIP_CONSTRAINT": str(file)}, {"PIP_CONFIG_FILE": str(config)}):
        environment = build_environments.of(
            ["tool-one"], *flags, "--refresh", env=env, python=python
        )
        assert versions(environment) == {"tool-one": "2.0"}


def test_f67_older_pips_have_run_time_constraints_hold_for_builds(
    build_environments: BuildEnvironments, tmp_path: Path, wheels: Path
) -> None:
    file = constraints(tmp_path / "run-time.txt", "tool-one<2")
    flags = ["--installer", "pip", "--no-index", "--find-links", wheels]
    env = {"PIP_CONSTRAINT": str(file)}
    assert versions(build_environments.of(["tool-one"], *flags, env=env)) == {"tool-one": "1.0"}
    constraints(file, "tool-one>1")
    assert versions(build_environments.of(["tool-one"], *flags, env=env)) == {"tool-one": "2.0"}


@INSTALLERS
def test_f67_build_constraints_hold_whatever_installs(
    build_environments: BuildEnvironments, tmp_path: Path, wheels: Path, installer: str
) -> None:
    file = constraints(tmp_path / "included.txt", "tool-one<2")
    outer = str(constraints(tmp_path / "build.txt", "-c included.txt"))
    flags = ["--installer", installer, "--no-index", "--find-links", wheels]
    for env in ({"PIP_BUILD_CONSTRAINT": outer}, {"UV_BUILD_CONSTRAINT": outer}):
        constraints(file, "tool-one<2")
        assert versions(build_environments.of(["tool-one"], *flags, env=env)) == {"tool-one": "1.0"}
        # The content of the files is part of the key.
        constraints(file, "tool-one>1")
        assert versions(build_environments.of(["tool-one"], *flags, env=env)) == {"tool-one": "2.0"}
    cwd = project(tmp_path / "cwd", 'build-constraint-dependencies = ["tool-one<2"]')
    assert versions(build_environments.of(["tool-one"], *flags, cwd=cwd)) == {"tool-one": "1.0"}


@pytest.mark.parametrize("installer", ["pip", "newest pip", "uv"])
def test_build_constraints_with_hashes(
    build_environments: BuildEnvironments,
    tmp_path: Path,
    wheels: Path,
    target: Path,
    installer: str,
) -> None:
    """Not all installed distributions have a hash."""
    make_wheel(wheels, "tool_two", "1.0", {"tool_two.py": ""})
    right = hashlib.sha256((wheels / "tool_one-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    other = hashlib.sha256((wheels / "tool_one-2.0-py3-none-any.whl").read_bytes()).hexdigest()
    options: dict[str, str] = {}
    if installer == "newest pip":
        options["python"] = python_with(target / "newest-pip-venv", NEWEST_PIP)
    flags = ["--installer", installer.rpartition(" ")[2], "--no-index", "--find-links", wheels]
    included = constraints(tmp_path / "more.txt", f"tool-one==1.0 \\\n    --hash=sha256:{right}")
    file = constraints(tmp_path / "build.txt", f"-c {included.name}")
    flags += ["--build-constraint", file]
    environment = build_environments.of(["tool-one", "tool-two"], *flags, **options)
    assert versions(environment) == {"tool-one": "1.0", "tool-two": "1.0"}
    constraints(included, f"tool-one==1.0 --hash=sha256:{other}")
    error = build_environments.result(["tool-one", "tool-two"], *flags, **options)["error"]
    assert error["kind"] == "EnvironmentFailed"
    assert right in error["message"]
    assert other in error["message"]
