"""The cache folder repairs itself: damaged files are made again."""

from __future__ import annotations

import marshal
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from builds import build, make_project, names
from conftest import BOTH_START_METHODS, BOTH_WAYS, Setting
from other_user import USER
from pool import PROGRAM
from trees import call, make_tree


def cut(path: Path) -> None:
    """Truncated, as on a full disk."""
    os.truncate(path, path.stat().st_size // 2)


def in_place_of(path: Path, make: Callable[[Path], object]) -> None:
    """Replaced by something else."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    make(path)


def full_folder(path: Path) -> None:
    """Replaced by a folder that is not empty."""
    path.mkdir()
    (path / "file").touch()


REPLACEMENTS: dict[str, Callable[[Path], object]] = {
    "a named pipe": os.mkfifo,
    "a link to an endless file": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("/nowhere"),
}
FILE_DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": cut,
    "emptied": lambda path: os.truncate(path, 0),
    # A sparse file: its size is huge, but it takes little space.
    "very long": lambda path: os.truncate(path, 1 << 40),
    "a folder": partial(in_place_of, make=full_folder),
    "closed": lambda path: path.chmod(0),
    **{name: partial(in_place_of, make=make) for name, make in REPLACEMENTS.items()},
}


def other_bytecode(path: Path) -> None:
    """Bytecode that Python accepts, as its head is that of the source, and that is another's."""
    head = path.read_bytes()[:16]
    path.write_bytes(head + marshal.dumps(compile("raise SystemExit('edited')", "edited", "exec")))


def another_users(path: Path) -> None:
    """A file of another user; where we may not give it away, it is cut."""
    if os.geteuid() == 0:
        os.chown(path, USER, USER)
    else:
        cut(path)


# Python ignores empty bytecode, like that of another version.
BYTECODE_DAMAGES = {
    name: FILE_DAMAGES[name]
    for name in ("cut", "a folder", "very long", "a named pipe", "a link to an endless file")
} | {"edited": other_bytecode, "another user's": another_users}
FOLDER_DAMAGES: dict[str, Callable[[Path], object]] = {
    "removed": shutil.rmtree,
    "a file": partial(in_place_of, make=Path.touch),
    "closed": lambda path: path.chmod(0),
    "writable by others": lambda path: path.chmod(0o777),
    **{name: partial(in_place_of, make=make) for name, make in REPLACEMENTS.items()},
}
FILES = [
    "durations.json",
    "learned/*",
    "hookd/*/hookd/**/*.py",
    "environments/1/models/*",
    "environments/1/distributions/lock",
    "environments/1/distributions/ids/*",
    "environments/1/distributions/kept/*.json",
    "environments/1/distributions/kept/*/flit_core/buildapi.py",
    "environments/1/distributions/kept/*/flit_core-*/METADATA",
    "environments/1/contents.lock",
    "environments/1/contents/*",
    "environments/1/resolutions/*.json",
    "environments/1/resolutions/*.lock",
    "environments/1/made/*.json",
    "environments/1/made/*.lock",
]
FOLDERS = [
    "hookd",
    "hookd/*",
    "hookd/*/hookd",
    "hookd/*/hookd/worker",
    "learned",
    "logs",
    "environments",
    "environments/1",
    "environments/1/resolutions",
    "environments/1/contents",
    "environments/1/distributions",
    "environments/1/distributions/ids",
    "environments/1/distributions/kept",
    "environments/1/distributions/kept/*/flit_core",
    "environments/1/made",
    "environments/1/models",
]


@pytest.fixture
def project(setting: Setting, tmp_path: Path) -> Path:
    """A project, and a private cache folder with everything that it can have."""
    setting.env["HOOKPOOL_CACHE_DIR"] = str(tmp_path / "own-cache")
    project = make_project(tmp_path / "project", requires=["flit_core>=3.9"])
    builds_it(setting, project)
    failed = build(setting, "wheel", project, "-o", tmp_path / "out", "-C", "build_wheel=1/0")
    assert failed.code == 1
    return project


def builds_it(setting: Setting, project: Path, *flags: str) -> None:
    """A run with the default settings builds the wheel."""
    out = project.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    built = build(setting, "wheel", project, "-o", out, "--format", "json", *flags)
    assert built.code == 0, built.stderr
    assert "module.py" in names(Path(built.result["file"]["path"]))


def damage_each(
    setting: Setting, project: Path, patterns: list[str], damage: Callable[[Path], object]
) -> None:
    """Damages one file after the other; each run must repair it."""
    cache = Path(setting.env["HOOKPOOL_CACHE_DIR"])
    for pattern in patterns:
        found = list(cache.glob(pattern))
        assert found, pattern
        for path in found:
            damage(path)
        builds_it(setting, project)
    subprocess.run([PROGRAM, "cache", "prune"], env=setting.env, check=True, capture_output=True)


def changed(path: Path, before: os.stat_result) -> bool:
    """Whether the file is another one, whenever it was read."""
    now = path.lstat()
    return (now.st_ino, now.st_mtime_ns, now.st_uid) != (
        before.st_ino,
        before.st_mtime_ns,
        before.st_uid,
    )


@pytest.mark.parametrize("how", BYTECODE_DAMAGES)
def test_f95_bytecode_is_damaged(setting: Setting, project: Path, how: str) -> None:
    cache = Path(setting.env["HOOKPOOL_CACHE_DIR"])
    kept = "environments/1/distributions/kept/*/flit_core/**/*.pyc"
    patterns = ["hookd/*/hookd/**/*.pyc", kept]
    if how in ("edited", "another user's"):
        # The worker's own is looked at for being whole only, in a folder that is ours alone; and
        # the second run seals what the first has made.
        patterns = [kept]
        builds_it(setting, project, "-C", "build_wheel=import flit_core.buildapi")
        builds_it(setting, project, "-C", "build_wheel=import flit_core.buildapi")
    for pattern in patterns:
        found = list(cache.glob(pattern))
        assert len(found) > 5
        for path in found:
            BYTECODE_DAMAGES[how](path)
        damaged = {path: path.lstat() for path in found}
        # The first run removes the file and the second makes it: the disk may be full until then.
        builds_it(setting, project, "-C", "build_wheel=import flit_core.buildapi")
        builds_it(setting, project, "-C", "build_wheel=import flit_core.buildapi")
        mended = [path for path in found if path.is_file() and changed(path, damaged[path])]
        assert mended, "no bytecode is kept any more"


@pytest.mark.parametrize("how", BYTECODE_DAMAGES)
def test_f95_bytecode_is_damaged_that_a_new_environment_shares(
    setting: Setting, project: Path, how: str
) -> None:
    cache = Path(setting.env["HOOKPOOL_CACHE_DIR"])
    # The second run seals what the first has made.
    for _ in range(2):
        builds_it(setting, project, "-C", "build_wheel=import flit_core.buildapi")
    kept = "environments/1/distributions/kept/*/flit_core/__pycache__/*.pyc"
    found = list(cache.glob(kept))
    assert len(found) > 5
    for path in found:
        BYTECODE_DAMAGES[how](path)
    other = make_project(project.parent / "other", requires=["flit_core>=3.9", "packaging"])
    builds_it(setting, other, "-C", "build_wheel=import flit_core.buildapi")


def environment(setting: Setting) -> Path:
    """The folder of the build environment of the project."""
    cache = Path(setting.env["HOOKPOOL_CACHE_DIR"])
    (found,) = (path for path in cache.glob("environments/1/made/*") if path.suffix == "")
    return found


def test_f96_a_hook_removes_its_environment(setting: Setting, project: Path) -> None:
    gone = environment(setting)
    remove = "import shutil, sys; shutil.rmtree(sys.prefix)"
    out = project.parent / "out"
    settings = ["-C", f"build_wheel={remove}", "--format", "json"]
    built = build(setting, "wheel", project, "-o", out, *settings)
    assert built.result["environment"]["modified"]
    assert not (gone / "bin").exists()
    built = build(setting, "wheel", project, "-o", out, "--format", "json")
    assert built.code == 0, built.stderr
    assert built.result["environment"]["made"]
    assert environment(setting) != gone


@pytest.mark.parametrize("how", FOLDER_DAMAGES)
def test_f96_an_environment_is_damaged(setting: Setting, project: Path, how: str) -> None:
    # This checks the existing files as well.
    setting.env["HOOKPOOL_REFRESH"] = str(how == "removed").lower()
    for part in (".", "bin", "lib"):
        FOLDER_DAMAGES[how](environment(setting) / part)
        builds_it(setting, project)
    environment(setting).with_suffix(".json").unlink()
    builds_it(setting, project)


@pytest.mark.parametrize("how", FILE_DAMAGES)
def test_f98_files_of_the_cache_are_damaged(setting: Setting, project: Path, how: str) -> None:
    damage_each(setting, project, FILES, FILE_DAMAGES[how])


@pytest.mark.parametrize("how", FOLDER_DAMAGES)
def test_f98_folders_of_the_cache_are_damaged(setting: Setting, project: Path, how: str) -> None:
    damage_each(setting, project, FOLDERS, FOLDER_DAMAGES[how])


@BOTH_WAYS
@BOTH_START_METHODS
@pytest.mark.parametrize("what", ["", "hookd", "environments", "environments/1/made"])
def test_f97_what_a_program_that_stays_depends_on_is_removed(
    setting: Setting, tree: Path, tmp_path: Path, what: str
) -> None:
    cache = tmp_path / "own-cache"
    setting.env["HOOKPOOL_CACHE_DIR"] = str(cache)
    pool = setting.start()
    assert pool.ask(call(tree, "result = ['1']", 1))["result"] == ["1"]
    shutil.rmtree(cache / what, ignore_errors=True)
    other = make_tree(tmp_path / "other")
    # Both have the same environment; the second has no worker.
    for id_, path in enumerate((tree, other), 2):
        assert pool.ask(call(path, f"result = ['{id_}']", id_))["result"] == [str(id_)]
    # Neither it nor the template uses a removed file.
    shutil.rmtree(cache / what, ignore_errors=True)
    pool.signal(signal.SIGHUP)
    assert pool.ask(call(tree, "result = ['4']", 4))["result"] == ["4"]
    assert pool.finish() == ([], 0)
