"""Archives that are not valid source distributions; some are harmful."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import signal
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import processes
import pytest
from builds import arguments, build, make_project, names
from conftest import BOTH_POOLS, Setting

# An archive that unpacks to less than this is not a bomb, however small it is.
FLOOR = 256 * 2**20


def tar(folder: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    """A source distribution with a valid member and then these."""
    path = folder / "evil-1.0.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for info, content in [(tarfile.TarInfo("evil-1.0/setup.py"), b""), *members]:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    """A member that is a link."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def file(name: str, content: bytes = b"written") -> tuple[tarfile.TarInfo, bytes]:
    """A member that is a file."""
    return tarfile.TarInfo(name), content


def upwards(folder: Path) -> Path:
    """A path to the parent folder."""
    return tar(folder, file("evil-1.0/../../outside/victim"))


def absolute(folder: Path) -> Path:
    """An absolute path."""
    return tar(folder, file(str(folder / "outside" / "victim")))


def link_out(folder: Path) -> Path:
    """A link out of the archive, and a file through it."""
    out = link("evil-1.0/victim", str(folder / "outside"))
    return tar(folder, out, file("evil-1.0/victim/new"))


def relative_link_out(folder: Path) -> Path:
    """The same with a relative target."""
    return tar(folder, link("evil-1.0/victim", "../../outside/victim"))


def hard_link_out(folder: Path) -> Path:
    """A hard link to a file outside, and new content for it."""
    target = str(folder / "outside" / "victim")
    hard = link("evil-1.0/victim", target, tarfile.LNKTYPE)
    return tar(folder, hard, file("evil-1.0/victim"))


def device(folder: Path) -> Path:
    """A device."""
    return tar(folder, link("evil-1.0/victim", "", tarfile.CHRTYPE))


def upwards_in_a_zip(folder: Path) -> Path:
    """A path to the parent folder."""
    path = folder / "evil-1.0.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("evil-1.0/setup.py", "")
        archive.writestr("evil-1.0/../../outside/victim", "written")
    return path


def bomb(folder: Path) -> Path:
    """A hundred times the size of any source code that compresses to this."""
    path = folder / "evil-1.0.tar.gz"
    info = tarfile.TarInfo("evil-1.0/victim")
    info.size = FLOOR + 2**20
    # A gzip file may have several members, and these are all the same.
    block = gzip.compress(bytes(2**20), compresslevel=9)
    with path.open("wb") as archive:
        archive.write(gzip.compress(info.tobuf()))
        for _ in range(info.size // 2**20):
            archive.write(block)
        archive.write(gzip.compress(bytes(1024)))
    return path


def truncated(folder: Path) -> Path:
    """Ends in the middle of a member."""
    whole = tar(folder, file("evil-1.0/victim", bytes(range(256)) * 1000))
    whole.write_bytes(whole.read_bytes()[:-500])
    return whole


@pytest.mark.parametrize(
    "make",
    [
        upwards,
        absolute,
        link_out,
        relative_link_out,
        hard_link_out,
        device,
        upwards_in_a_zip,
        bomb,
        truncated,
    ],
    ids=lambda make: make.__name__,
)
def test_f45_an_archive_that_would_do_harm(
    setting: Setting, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    good = make_project(tmp_path / "good")
    evil = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    built = build(setting, "metadata", evil, good, "--format", "json", isolated=False)
    assert built.code == 1
    results = {result["source"]: result for result in built.results}
    assert results[str(good)]["ok"]
    refused = results[str(evil)]
    assert refused["hooks"] == []
    assert refused["error"]["kind"] == "InvalidSource"
    assert str(evil) in refused["error"]["message"]
    assert "victim" in refused["error"]["message"]
    assert sorted(tmp_path.iterdir()) == before
    assert [path.name for path in outside.iterdir()] == ["victim"]
    assert (outside / "victim").read_text() == "untouched"


@BOTH_POOLS
@pytest.mark.parametrize("form", ["gztar", "zip"])
def test_an_archive_of_files_without_a_folder(setting: Setting, tmp_path: Path, form: str) -> None:
    tree = make_project(tmp_path / "tree")
    (tree / "sample.egg-info").mkdir()
    (tree / "sample.egg-info" / "PKG-INFO").write_text(
        "Metadata-Version: 2.2\nName: other\nVersion: 9\n"
    )
    archive = shutil.make_archive(str(tmp_path / "sample-1.0"), form, tree)
    out = tmp_path / "out"
    wheel = build(setting, "wheel", archive, "-o", out, "--format", "json").result
    assert wheel["ok"], wheel["error"]
    assert "module.py" in names(out / "sample-1.0-py3-none-any.whl")
    metadata = build(setting, "metadata", archive, "--format", "json").result
    assert (metadata["version"], metadata["origin"]) == ("1.0", "prepare_metadata")


def test_f93_interrupted_while_an_archive_is_unpacked(setting: Setting, tmp_path: Path) -> None:
    many = [(tarfile.TarInfo(f"evil-1.0/{number}"), b"") for number in range(40_000)]
    archive = tar(tmp_path, *many)
    command = arguments(setting, "wheel", archive, "-o", tmp_path / "out", "--format", "json")
    sources = setting.cache / "hookpool" / "sources"
    with subprocess.Popen(command, env=setting.env, stdout=subprocess.PIPE) as run:
        end = time.monotonic() + 30
        while not any(sources.glob("*/tree/evil-1.0/1*")):
            assert time.monotonic() < end, "nothing is unpacked"
            time.sleep(processes.TICK)
        run.send_signal(signal.SIGINT)
        stdout = run.communicate(timeout=30)[0]
    assert run.returncode == 128 + signal.SIGINT
    assert json.loads(stdout)["error"]["kind"] == "Interrupted"


def test_f93_interrupted_while_the_sources_are_read(setting: Setting, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = arguments(setting, "wheel", "--from", "-", "-o", out)
    with subprocess.Popen(command, env=setting.env, stdin=subprocess.PIPE) as run:
        end = time.monotonic() + 30
        # The pipe is empty, so it is being read.
        while not (out.is_dir() and processes.state(run.pid) == "S"):
            assert time.monotonic() < end, "the run does not start"
            time.sleep(processes.TICK)
        run.send_signal(signal.SIGINT)
        assert run.wait(30) == -signal.SIGINT
    assert list(out.iterdir()) == []
