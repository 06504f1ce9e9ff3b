"""What interpreters say of themselves is kept, and asked again when it may be different."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from answers import make_archive
from build_environments import BuildEnvironments
from builds import BACKEND, PREPARE, build, make_project
from conftest import INTERPRETERS, Setting
from interpreters import NEWEST
from packages import make_wheel

OTHER = next(
    (
        str(INTERPRETERS[version])
        for version in ("3.13", "3.12", "3.14", "3.10")
        if version in INTERPRETERS and version != "{}.{}".format(*sys.version_info)
    ),
    "",
)
NEEDS_OTHER = pytest.mark.skipif(not OTHER, reason="there is no second interpreter")
OWN_PROJECT = '[build-system]\nrequires = []\nbuild-backend = "own_backend"\nbackend-path = ["."]\n'
# Each start of the interpreter leaves a byte.
COUNT = "import os; os.write(os.open({!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT), b'.')\n"


@dataclass
class Subject:
    """An interpreter, and an archive whose answers are kept with it."""

    setting: Setting
    python: Path
    archive: Path
    starts: Path

    @property
    def prefix(self) -> Path:
        """The folder of the environment."""
        return self.python.parent.parent

    @property
    def packages(self) -> Path:
        """The folder that `site` reads."""
        (folder,) = self.prefix.glob("lib/python3.*/site-packages")
        return folder

    def version(self, **options: Any) -> str:
        """The version of Python that the hook tells."""
        built = build(
            self.setting,
            "metadata",
            self.archive,
            "--format",
            "json",
            python=self.python,
            **options,
        )
        assert built.code == 0, built.stderr
        (line,) = [
            line for line in built.result["metadata"].splitlines() if line.startswith("Summary")
        ]
        return str(line.removeprefix("Summary: "))

    def is_asked(self, **options: Any) -> bool:
        """Whether a run starts the interpreter."""
        before = self._count()
        self.version(**options)
        return self._count() > before

    @property
    def records(self) -> list[Path]:
        """What is kept of interpreters."""
        return list(Path(self.setting.env["HOOKPOOL_CACHE_DIR"]).glob("interpreters/*.json"))

    def uses_record(self) -> bool:
        """Whether a run uses one of them, which gives it another time."""
        for record in self.records:
            os.utime(record, (1, 1))
        before = {path.stat().st_ino for path in self.records}
        self.version()
        return any(
            path.stat().st_mtime > 1 and path.stat().st_ino in before for path in self.records
        )

    def settle(self) -> None:
        """Have what the interpreter says kept."""
        wait_until_old(self.prefix)
        self.version()
        assert not self.is_asked()

    def _count(self) -> int:
        return self.starts.stat().st_size if self.starts.exists() else 0


@pytest.fixture
def subject(setting: Setting, tmp_path: Path, own_cache: Path) -> Subject:
    """A virtual environment that counts its starts."""
    before = "import platform\n"
    more = PREPARE.replace("METADATA)", 'METADATA + "Summary: " + platform.python_version())')
    backend = before + BACKEND.format(name="sample") + more
    files = {"pyproject.toml": OWN_PROJECT, "own_backend.py": backend, "module.py": ""}
    archive = make_archive(tmp_path / "sample.tar.gz", files)
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    subject = Subject(setting, venv / "bin" / "python", archive, tmp_path / "starts")
    (subject.packages / "count.pth").write_text(COUNT.format(str(subject.starts)))
    (subject.packages / "more.pth").write_text(f"{venv / 'later'}\n# one\n")
    return subject


def rewrite(path: Path, text: str) -> None:
    """Other content of the same size, with the same modification time."""
    before = path.stat()
    assert len(text) == before.st_size
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def edit_path_file(subject: Subject) -> None:
    path = subject.packages / "more.pth"
    rewrite(path, path.read_text().replace("# one", "# two"))


def edit_configuration(subject: Subject) -> None:
    path = subject.prefix / "pyvenv.cfg"
    path.write_text(path.read_text().replace("packages = false", "packages = true"))


CHANGES: dict[str, Callable[[Subject], object]] = {
    "a path file": edit_path_file,
    "a new path file": lambda subject: (subject.packages / "new.pth").write_text("/nowhere\n"),
    "sitecustomize": lambda subject: (subject.packages / "sitecustomize.py").write_text(""),
    "a folder that a path file names": lambda subject: subject.prefix.joinpath("later").mkdir(),
    "the configuration of the environment": edit_configuration,
    "the file of the program": lambda subject: os.utime(subject.python),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_has_it_asked_again(subject: Subject, change: Callable[[Subject], object]) -> None:
    if change is CHANGES["the file of the program"]:
        # A copy, since a link leads to the interpreter of all.
        program = subject.python.resolve()
        subject.python.unlink()
        shutil.copy2(program, subject.python)
    subject.settle()
    change(subject)
    assert subject.is_asked()


def test_environment_variables(subject: Subject, tmp_path: Path) -> None:
    subject.settle()
    for name in ("PYTHONPATH", "PYTHONUSERBASE", "HOME", "LD_LIBRARY_PATH", "LC_ALL"):
        folder = tmp_path / name
        folder.mkdir()
        assert subject.is_asked(env={name: str(folder)}), name
    # These differ in each terminal and job.
    assert not subject.is_asked(env={"TERM": "other", "SSH_TTY": "/dev/pts/7", "A_TOKEN": "one"})
    assert not subject.is_asked(cwd=tmp_path)


@NEEDS_OTHER
def test_another_python_behind_the_same_name(subject: Subject, tmp_path: Path) -> None:
    name = tmp_path / "bin" / "python3"
    name.parent.mkdir()
    subject.python = name
    for program in (sys.executable, OTHER, sys.executable):
        name.unlink(missing_ok=True)
        name.symlink_to(Path(program).resolve())
        assert not subject.uses_record()
        assert subject.version() == version_of(program)
        wait_until_old(name.parent)
        assert subject.version() == version_of(program)
        assert subject.uses_record()


@NEEDS_OTHER
@pytest.mark.parametrize("way", ["rename", "overwrite"])
def test_an_interpreter_that_is_upgraded_in_place(
    subject: Subject, tmp_path: Path, way: str
) -> None:
    """Its file is another one with the same times, as package managers leave it."""
    prefix = tmp_path / "prefix"
    (prefix / "lib").mkdir(parents=True)
    (prefix / "bin").mkdir()
    old, new = (Path(program).resolve() for program in (sys.executable, OTHER))
    for program in (old, new):
        for library in program.parent.parent.glob("lib/python3.*"):
            (prefix / "lib" / library.name).symlink_to(library)
    subject.python = prefix / "bin" / "python3"
    shutil.copy2(old, subject.python)
    times = subject.python.stat()
    wait_until_old(prefix)
    assert subject.version() == version_of(str(old))
    assert subject.uses_record()
    if way == "rename":
        shutil.copy2(new, prefix / "bin" / "new")
        os.utime(prefix / "bin" / "new", ns=(times.st_atime_ns, times.st_mtime_ns))
        (prefix / "bin" / "new").rename(subject.python)
    else:
        subject.python.write_bytes(new.read_bytes())
        os.utime(subject.python, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not subject.uses_record()
    assert subject.version() == version_of(str(new))


TELL = """
import json, site, sys, sysconfig
tell = {"executable": sys.executable, "prefix": sys.prefix, "base_prefix": sys.base_prefix}
tell["version"] = list(sys.version_info[:3])
tell["scripts"] = sysconfig.get_path("scripts")
tell["path"] = [entry for entry in sys.path if entry.startswith("/")]
folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
tell["site_folders"] = sorted(set(folders))
json.dump(tell, sys.stdout)
"""


# Of setuptools.
DISTUTILS = (
    "import os; var = 'SETUPTOOLS_USE_DISTUTILS'; "
    "enabled = os.environ.get(var, 'local') == 'local'; "
    "enabled and __import__('_distutils_hack').add_shim(); "
)
TELL_SHIM = """
import json, sys
found = sys.modules.get("_distutils_hack")
json.dump([found.__file__] if found else [], sys.stdout)
"""


# The oldest, the one that runs the tests, and the newest.
ALWAYS = {"3.7", "{}.{}".format(*sys.version_info), *NEWEST}
VERSIONS = [
    pytest.param(version, marks=() if version in ALWAYS else pytest.mark.exhaustive())
    for version in sorted(INTERPRETERS)
]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_new_environment_is_asked_only_if_code_runs_at_its_start(
    setting: Setting, tmp_path: Path, version: str
) -> None:
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "plain_tool", "1.0", {"plain_tool.py": ""})
    make_wheel(wheels, "other_tool", "1.0", {"other_tool.py": ""})
    make_wheel(wheels, "third_tool", "1.0", {"third_tool.py": ""})
    make_wheel(wheels, "path_tool", "1.0", {"path_tool.pth": f"{tmp_path}\n"})
    shim = {"_distutils_hack/__init__.py": "def add_shim(): pass\n"}
    make_wheel(wheels, "shim_tool", "1.0", {"distutils-precedence.pth": DISTUTILS, **shim})
    setting.installs_only_from(wheels)
    environments = BuildEnvironments(setting, tmp_path)
    # At the start of which nothing runs.
    python = tmp_path / "base" / "bin" / "python"
    make_base = [str(INTERPRETERS[version]), "-m", "venv", "--without-pip", str(tmp_path / "base")]
    subprocess.run(make_base, check=True)

    def known(requires: str) -> dict[str, Any]:
        """What hookpool knows of the interpreter, which says the same."""
        environment = environments.of([requires], "--installer", "uv", python=python)
        manifest = Path(environment["python"]).parents[1].with_suffix(".json")
        found: dict[str, Any] = json.loads(manifest.read_text())["interpreter"]
        run = subprocess.run([environment["python"], "-c", TELL], capture_output=True, check=True)
        told = json.loads(run.stdout)
        assert {name: found[name] for name in told} == told
        assert not found["runs_code_at_start"]
        assert found["startup_files"] == json.loads(
            subprocess.check_output([environment["python"], "-c", TELL_SHIM])
        )
        return found

    known("plain-tool")
    # Not what any interpreter says.
    (model,) = environments.cache.glob("environments/*/models/*.json")
    text = model.read_text()
    model.write_text(text.replace('"free_threaded":false', '"free_threaded":true', 1))
    assert known("other-tool")["free_threaded"]
    assert known("shim-tool")["free_threaded"]
    assert not known("path-tool")["free_threaded"]
    # Now the base may run something that no list of files tells of.
    (packages,) = (tmp_path / "base" / "lib").glob("python3.*/site-packages")
    (packages / "a.pth").write_text("import os\n")
    assert not known("third-tool")["free_threaded"]


@NEEDS_OTHER
def test_a_script_is_asked_each_time(subject: Subject, tmp_path: Path) -> None:
    """A shim, as those of pyenv: what it starts depends on what only it knows."""
    subject.python = tmp_path / "bin" / "python3"
    subject.python.parent.mkdir()
    choice = tmp_path / "choice"
    subject.python.write_text(f'#!/bin/sh\nexec "$(cat {choice})" "$@"\n')
    subject.python.chmod(0o700)
    for program in (sys.executable, OTHER):
        choice.write_text(str(Path(program).resolve()))
        assert subject.version() == version_of(program)
        wait_until_old(subject.python.parent)
        assert not subject.uses_record()


def test_damage(subject: Subject) -> None:
    """A record that was cut or changed is not believed, and replaced."""
    subject.settle()
    (record,) = subject.records
    whole = record.read_bytes()
    for content in (b"", b"{}", whole[:-1], whole.replace(b"cpython", b"cpythom")):
        record.write_bytes(content)
        assert subject.is_asked()
        assert not subject.is_asked()


def wait_until_old(folder: Path) -> None:
    """Wait until changes of what is there now would be seen by their times.

    The time of a change of an inode cannot be set, so only the clock helps.
    """
    newest = max(path.lstat().st_ctime for path in [folder, *folder.rglob("*")])
    while time.time() < newest + 2.1:
        time.sleep(0.05)


def version_of(program: str) -> str:
    """The version of an interpreter."""
    code = "import platform; print(platform.python_version())"
    return subprocess.check_output([program, "-c", code], text=True).strip()


def test_venv_runs_once_for_environments_that_are_made_at_once(
    setting: Setting, tmp_path: Path, own_cache: Path
) -> None:
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "tool_one", "1.0", {"tool_one.py": ""})
    setting.installs_only_from(wheels)
    base, starts = tmp_path / "base", tmp_path / "starts"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", base], check=True)
    (packages,) = base.glob("lib/python*/site-packages")
    note = f"import sys; print(sys.orig_argv, file=open({str(starts)!r}, 'a'))\n"
    (packages / "starts.pth").write_text(note)
    # Neither waits for an answer of the index before.
    needs = {"first": ["tool-one"], "second": []}
    trees = [make_project(tmp_path / name, requires=names) for name, names in needs.items()]
    built = build(setting, "metadata", *trees, "-q", python=base / "bin" / "python")
    assert built.code == 0, built.stderr
    # The line is run twice if the packages are in lib64 as well; each run has another folder.
    runs = {line for line in starts.read_text().splitlines() if "EnvBuilder" in line}
    assert len(runs) == 1
