"""The sources of build environments: the user's pip, its configuration, its indexes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from build_environments import NEWEST_PIP, BuildEnvironments, file_of
from builds import build, make_project
from conftest import Setting
from environments import python_with
from index import Index
from packages import make_wheel
from trees import call, make_tree


@pytest.fixture
def build_environments(setting: Setting, tmp_path: Path) -> BuildEnvironments:
    """An empty cache folder."""
    return BuildEnvironments(setting, tmp_path)


@pytest.fixture
def own_python(tmp_path: Path) -> Path:
    """The interpreter of a virtual environment with its own pip."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    return tmp_path / "venv" / "bin" / "python"


def configure(python: Path, *lines: str) -> None:
    """As `pip config --site set` does."""
    text = "\n".join(["[global]", *lines, ""])
    (python.parent.parent / "pip.conf").write_text(text)


@pytest.mark.parametrize("installer", ["auto", "pip"])
def test_f66_the_configuration_of_a_virtual_environment(
    build_environments: BuildEnvironments, own_python: Path, tmp_path: Path, installer: str
) -> None:
    """The public index has another distribution with the same name."""
    public, private = tmp_path / "public", tmp_path / "private"
    make_wheel(public, "tool_one", "9.0", {"tool_one.py": "OWNER = 'stranger'\n"})
    make_wheel(private, "tool_one", "1.0", {"tool_one.py": "OWNER = 'we'\n"})
    with Index(public) as stranger, Index(private, password="secret") as ours:
        configure(own_python, f"index-url = {ours.url('user:secret')}")
        env = {"PIP_INDEX_URL": "", "UV_DEFAULT_INDEX": ""}
        flags = ["--installer", installer]
        environment = build_environments.of(["tool-one"], *flags, env=env, python=own_python)
        assert file_of(environment, "tool_one.py").read_text() == "OWNER = 'we'\n"
        # A different key, since the other interpreter prefix has a different configuration.
        env = {"PIP_INDEX_URL": stranger.url()}
        assert build_environments.of(["tool-one"], "--installer", "pip", env=env)["made"]
    folder = Path(environment["python"]).parent.parent
    assert not (folder / "pip.conf").is_symlink(), "the credentials were copied"


def test_f66_a_keyring_beside_the_users_pip(
    build_environments: BuildEnvironments, own_python: Path, tmp_path: Path
) -> None:
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "tool_one", "1.0", {"tool_one.py": ""})
    (site,) = own_python.parent.parent.glob("lib/python*/site-packages")
    (site / "keyring").mkdir()
    (site / "keyring" / "__init__.py").write_text(
        "class Credential:\n    username, password = 'user', 'secret'\n"
        "def get_credential(service, username):\n    return Credential\n"
        "def get_password(service, username):\n    return 'secret'\n"
    )
    with Index(wheels, password="secret") as index:
        flags = ["--installer", "pip", "--index-url", index.url()]
        environment = build_environments.of(["tool-one"], *flags, python=own_python)
    assert file_of(environment, "tool_one.py")


def test_f66_a_newer_pip_is_the_one_that_is_used(
    build_environments: BuildEnvironments, target: Path
) -> None:
    """Older ones do not have its setting `uploaded-prior-to`."""
    python = python_with(target / "newest-pip-venv", NEWEST_PIP)
    env = {"PIP_UPLOADED_PRIOR_TO": "2020-01-01T00:00:00Z"}
    environment = build_environments.of(["wheel"], "--installer", "pip", env=env, python=python)
    assert file_of(environment, "wheel-0.33.6.dist-info").is_dir()


@pytest.mark.parametrize("code", [401, 403])
@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_f66_an_index_that_refuses_is_named(
    build_environments: BuildEnvironments, tmp_path: Path, installer: str, code: int
) -> None:
    with Index(tmp_path, refuses=code) as index:
        flags = ["--installer", installer, "--index-url", index.url("user:secret")]
        error = build_environments.result(["tool-one"], *flags)["error"]
        address = index.url("").partition("//")[2]
    assert error["kind"] == "EnvironmentFailed"
    words = {401: "401 Unauthorized", 403: "403 Forbidden"}[code]
    assert words in error["message"]
    assert address.rstrip("/") in error["message"]
    assert "secret" not in error["message"]
    assert "credentials" in error["hint"]


@pytest.mark.parametrize("by", ["variable", "file"])
def test_that_pip_is_taken_in_place_of_uv_is_said_once(
    setting: Setting, tmp_path: Path, by: str
) -> None:
    wheels = tmp_path / "wheels"
    trees = []
    for name in ("tool_one", "tool_two"):
        make_wheel(wheels, name, "1.0", {f"{name}.py": ""})
        trees.append(make_project(tmp_path / name, name=name, requires=[name]))
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\nfind-links = {wheels}\n")
    env = {"HOOKPOOL_INSTALLER": "auto"}
    env |= {"PIP_FIND_LINKS": str(wheels)} if by == "variable" else {"PIP_CONFIG_FILE": str(config)}
    told_by = "PIP_FIND_LINKS" if by == "variable" else str(config)
    flags = ["--cache-dir", tmp_path / "own-cache"]
    said = build(setting, "metadata", *trees, *flags, env=env).stderr
    assert said.count("pip makes the build environments although uv is faster") == 1
    assert f"{told_by} configures sources of distributions" in said
    # If nothing is made, nothing takes longer.
    assert "pip makes" not in build(setting, "metadata", *trees, *flags, env=env).stderr
    pool = setting.start("--cache-dir", str(tmp_path / "other"), build_isolation=True, env=env)
    tree = make_tree(tmp_path / "tree")
    for number, name in enumerate(("tool-one", "tool-two")):
        assert pool.ask(call(tree, "result = ['done']", number, requires=[name]))["ok"]
    assert pool.finish()[1] == 0
    assert pool.stderr.count("pip makes the build environments") == 1


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_a_home_that_cannot_be_written_to(setting: Setting, tmp_path: Path, installer: str) -> None:
    """A temporary folder takes its place, and logs of failures outlive it."""
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "tool_one", "1.0", {"tool_one.py": ""})
    good = make_project(tmp_path / "good", name="good", requires=["tool-one"])
    del setting.env["XDG_CACHE_HOME"]
    env = {"HOME": "/dev/null"}
    flags = ["--installer", installer, "--no-index", "--find-links", wheels, "--format", "json"]
    assert build(setting, "metadata", good, *flags, env=env).result["ok"]
    assert list(setting.tmp.iterdir()) == []
    code = "prepare=print('last words'); raise OSError('no')"
    failed = build(setting, "metadata", good, *flags, "-C", code, env=env).result
    assert "last words" in Path(failed["log"]).read_text()
    (left,) = setting.tmp.iterdir()
    assert [path.name for path in left.iterdir()] == ["logs"]
    shutil.rmtree(left)


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_an_empty_tmpdir_is_none(setting: Setting, tmp_path: Path, installer: str) -> None:
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "tool_one", "1.0", {"tool_one.py": ""})
    tree = make_project(tmp_path / "tree", requires=["tool-one"])
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    flags = ["--installer", installer, "--no-index", "--find-links", wheels, "--format", "json"]
    built = build(setting, "metadata", tree, *flags, env={"TMPDIR": ""}, cwd=cwd)
    assert built.result["ok"], built.result["error"]
    assert list(cwd.iterdir()) == []
