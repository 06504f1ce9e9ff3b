"""The trees with Hatch build hooks, and the archives built from them."""

from __future__ import annotations

import email
import shutil
import tarfile
import zipfile
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from builds import Built, build
from conftest import Setting
from pool import REPOSITORY, Pool, Response

TREES = REPOSITORY / "tests" / "trees"
CONSTRAINTS = Path(__file__).with_name("hatch_constraints.txt")
PINNED = ["--build-constraint", str(CONSTRAINTS)]


def tree(name: str, folder: Path) -> Path:
    """A copy of a tree that may be built and changed."""
    return Path(shutil.copytree(TREES / name, folder / name))


def run(setting: Setting, *words: object, **options: Any) -> Built:
    """Run a command with pinned environments; it must succeed."""
    built = build(setting, *words, *PINNED, "--format", "json", **options)
    assert built.code == 0, built.stderr
    return built


def made(setting: Setting, command: str, source: Path, **options: Any) -> Path:
    """The file that a command builds from a tree."""
    out = source.parent / "out"
    return Path(run(setting, command, source, "-o", out, **options).result["file"]["path"])


def ask(pool: Pool, hook: str, source: Path, out: Path | None = None) -> Response:
    """The response of a hook, which must succeed; `out` is its output folder."""
    request: dict[str, Any] = {"id": 1, "tree": str(source), "hook": hook}
    if out is not None:
        out.mkdir(exist_ok=True)
        folder = "sdist_directory" if hook == "build_sdist" else "wheel_directory"
        request[folder] = str(out)
    # The first request may make its environment.
    response = pool.ask(request, timeout=100)
    assert response["ok"], (response["error"], response["stderr"])
    return response


def build_by(pool: Pool, hook: str, source: Path, out: Path) -> Path:
    """The file that a hook builds."""
    return out / str(ask(pool, hook, source, out)["result"])


@dataclass
class Wheel:
    """The content of a wheel."""

    files: dict[str, bytes]

    @classmethod
    def read(cls, path: Path) -> Wheel:
        """Read all members, and check their checksums."""
        with zipfile.ZipFile(path) as archive:
            return cls({name: archive.read(name) for name in archive.namelist()})

    def text(self, name: str) -> str:
        """The text of a file."""
        return self.files[name].decode()

    def info(self, name: str) -> str:
        """The text of a file in its `.dist-info` folder."""
        (full,) = [path for path in self.files if path.endswith(f".dist-info/{name}")]
        return self.text(full)

    @property
    def metadata(self) -> Message:
        """Its core metadata."""
        return email.message_from_string(self.info("METADATA"))


def sdist_files(path: Path) -> dict[str, bytes]:
    """The files of a source distribution, relative to its folder."""
    found = {}
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            content = archive.extractfile(member)
            if content is not None:
                found[member.name.partition("/")[2]] = content.read()
    return found


def edit(path: Path, old: str, new: str) -> None:
    """Change a file.

    The texts must differ in length: Python detects stale bytecode by sizes and whole seconds.
    """
    text = path.read_text()
    assert text.count(old) == 1
    assert len(old) != len(new)
    path.write_text(text.replace(old, new))
