"""What is part of the key of a build environment, and what is not."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from build_environments import BuildEnvironments, file_of, versions
from builds import build, make_project
from conftest import Setting
from packages import make_wheel
from trees import call, make_tree

INSTALLERS = pytest.mark.parametrize("installer", ["pip", "uv"])

# The backend of a requirement; it records the compiler flags.
FLAGGED = """\
import os, zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "flagged-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        wheel.writestr("flagged.py", "FLAGS = %r\\n" % os.environ.get("CFLAGS"))
        info = "flagged-1.0.dist-info/"
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: flagged\\nVersion: 1.0\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        record = "flagged.py,sha256=%s,1\\n" % (os.environ.get("CFLAGS") or "none").strip("-")
        wheel.writestr(info + "RECORD", record)
    return name
"""


def make_sdist(folder: Path, name: str, backend: str) -> None:
    """A source distribution with an in-tree backend, version 1.0."""
    folder.mkdir(exist_ok=True)
    table = '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n'
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    files = {"pyproject.toml": table, "own.py": backend, "PKG-INFO": metadata}
    with tarfile.open(folder / f"{name}-1.0.tar.gz", "w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"{name}-1.0/{path}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


@pytest.fixture
def build_environments(setting: Setting, tmp_path: Path) -> BuildEnvironments:
    """An empty cache folder."""
    return BuildEnvironments(setting, tmp_path)


def machine(environment: dict[str, Any]) -> bytes:
    """The machine that its ninja is built for."""
    return machine_of(Path(environment["python"]).with_name("ninja"))


def machine_of(program: Path) -> bytes:
    """The field e_machine of an ELF file."""
    return program.read_bytes()[18:20]


@INSTALLERS
def test_f65_the_platform_that_is_built_for(
    build_environments: BuildEnvironments, installer: str
) -> None:
    flags = ["--installer", installer]
    cross = build_environments.of(
        ["ninja==1.13.0"], *flags, env={"_PYTHON_HOST_PLATFORM": "linux-aarch64"}
    )
    own = build_environments.of(["ninja==1.13.0"], *flags)
    assert machine(own) == machine_of(Path("/bin/sh"))
    # The environment of the first key is still known.
    again = build_environments.of(["ninja==1.13.0"], *flags, "--offline")
    assert (again["made"], again["id"]) == (False, own["id"])
    if installer == "pip":
        assert own["made"]
        assert machine(cross) != machine(own)
    else:
        # It would keep what the interpreter says for other runs, so it does not see the variable.
        assert (own["made"], own["id"]) == (False, cross["id"])


@INSTALLERS
def test_f65_flags_of_compilers(
    build_environments: BuildEnvironments, tmp_path: Path, installer: str
) -> None:
    make_sdist(tmp_path / "wheels", "flagged", FLAGGED)
    flags = ["--installer", installer, "--no-index", "--find-links", tmp_path / "wheels"]
    # The installer's own cache of builds does not matter.
    env = {"PIP_NO_CACHE_DIR": "1", "UV_NO_CACHE": "1"}
    found = []
    for value in ("-O1", "-O2", "-O1"):
        environment = build_environments.of(["flagged"], *flags, env=env | {"CFLAGS": value})
        assert file_of(environment, "flagged.py").read_text() == f"FLAGS = {value!r}\n"
        found.append((environment["made"], environment["id"]))
    assert [made for made, _ in found] == [True, True, False]
    assert found[0][1] == found[2][1] != found[1][1]


@INSTALLERS
def test_what_differs_from_job_to_job_does_not_count(
    build_environments: BuildEnvironments, tmp_path: Path, installer: str
) -> None:
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "tool_one", "1.0", {"tool_one.py": ""})
    flags = ["--installer", installer, "--no-index", "--find-links", wheels]
    for number, name in enumerate(("first", "second")):
        env = {
            "CI_JOB_ID": name,
            "PIP_CACHE_DIR": str(tmp_path / name),
            "UV_CACHE_DIR": str(tmp_path / name),
            "PIP_TIMEOUT": str(20 + number),
            "PIP_EXTRA_INDEX_URL": f"http://user:{name}@127.0.0.1:9/simple",
            "UV_EXTRA_INDEX_URL": f"http://user:{name}@127.0.0.1:9/simple",
        }
        assert build_environments.of(["tool-one"], *flags, env=env)["made"] == (number == 0)
    # With --offline, an environment that was made with the network is found.
    env |= {"UV_OFFLINE": "1"}
    assert not build_environments.of(["tool-one"], *flags, env=env)["made"]


@INSTALLERS
@pytest.mark.parametrize("how", ["flag", "relative", "variable"])
def test_f68_distributions_in_a_folder_change(
    build_environments: BuildEnvironments, tmp_path: Path, installer: str, how: str
) -> None:
    wheels = tmp_path / "wheels"
    flags: list[object] = ["--installer", installer, "--no-index"]
    options: dict[str, Any] = {"cwd": tmp_path}
    if how == "variable":
        name = "PIP_FIND_LINKS" if installer == "pip" else "UV_FIND_LINKS"
        options["env"] = {name: str(wheels)}
    else:
        flags += ["--find-links", wheels if how == "flag" else "wheels"]

    def ask() -> tuple[bool, str, str]:
        environment = build_environments.of(["tool-one"], *flags, **options)
        (version,) = versions(environment).values()
        return environment["made"], version, file_of(environment, "tool_one.py").read_text()

    make_wheel(wheels, "tool_one", "1.0", {"tool_one.py": "BUILD = 1\n"})
    assert ask() == (True, "1.0", "BUILD = 1\n")
    (wheels / "notes.txt").write_text("nothing to install")
    assert ask() == (False, "1.0", "BUILD = 1\n")
    make_wheel(wheels, "tool_one", "1.0", {"tool_one.py": "BUILD = 2\n"})
    assert ask() == (True, "1.0", "BUILD = 2\n")
    make_wheel(wheels, "tool_one", "2.0", {"tool_one.py": "BUILD = 3\n"})
    assert ask() == (True, "2.0", "BUILD = 3\n")
    (wheels / "tool_one-2.0-py3-none-any.whl").unlink()
    assert ask()[1:] == ("1.0", "BUILD = 2\n")


def test_f68_distributions_in_a_folder_change_under_a_program_that_stays(
    setting: Setting, tmp_path: Path
) -> None:
    wheels = tmp_path / "wheels"
    tree = make_tree(tmp_path / "tree")
    flags = ["--no-index", "--find-links", str(wheels), "--cache-dir", str(tmp_path / "own-cache")]
    pool = setting.start(*flags, build_isolation=True)
    for number in ("1", "2"):
        make_wheel(wheels, "tool_one", "1.0", {"tool_one.py": f"BUILD = {number!r}\n"})
        for _ in range(2):
            code = "import tool_one\nresult = [tool_one.BUILD]\n"
            assert pool.ask(call(tree, code, requires=["tool-one"]))["result"] == [number]
    assert pool.finish() == ([], 0)


@INSTALLERS
def test_a_new_working_folder_asks_nothing_new(
    build_environments: BuildEnvironments, tmp_path: Path, installer: str
) -> None:
    """Whatever the configuration of pip and uv, unless it has a relative path."""
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "tool_one", "1.0", {"tool_one.py": ""})
    (tmp_path / "pip.conf").write_text(
        f"[global]\ntimeout = 20\nfind-links = {wheels}\nno-index = yes\n"
    )
    (tmp_path / "uv.toml").write_text(f'no-index = true\nfind-links = ["{wheels}"]\n')
    env = {
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "UV_CONFIG_FILE": str(tmp_path / "uv.toml"),
    }
    for number in range(3):
        cwd = tmp_path / f"cwd-{number}"
        cwd.mkdir()
        environment = build_environments.of(
            ["tool-one"], "--installer", installer, env=env, cwd=cwd
        )
        assert environment["made"] == (number == 0)


def test_what_was_made_and_thrown_away_is_not_counted(
    setting: Setting, build_environments: BuildEnvironments, tmp_path: Path
) -> None:
    make_wheel(tmp_path / "wheels", "tool_one", "1.0", {"tool_one.py": ""})
    flags = ["--no-index", "--find-links", tmp_path / "wheels"]
    assert build_environments.of(["tool-one"], *flags)["made"]
    tree = make_project(tmp_path / "again", requires=["tool-one>=1"])
    again = build(setting, "metadata", tree, *flags, "--cache-dir", build_environments.cache)
    assert "resolved tool-one>=1 in" in again.stderr
    assert "exists already" in again.stderr
    assert "environment made" not in again.stderr
