"""The pinned source distributions: downloaded from the package index of pip, and unpacked.

`pip download` would run the metadata hooks of all of them, which is what
the tests do. So this uses the simple API of the index
(PEP 503 and PEP 691) with the settings of pip, and checks the hashes.
"""

from __future__ import annotations

import hashlib
import html.parser
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from environments import locked

LIST = Path(__file__).with_name("sdists.txt")
DEFAULT_INDEX = "https://pypi.org/simple"


@dataclass(frozen=True)
class Sdist:
    """One line of the list: `name==version --hash=sha256:...`."""

    name: str
    version: str
    sha256: str

    @property
    def folder(self) -> str:
        """The file name in the folder."""
        return f"{self.name}-{self.version}"


def listed(path: Path = LIST) -> list[Sdist]:
    """The source distributions in the list, in its order."""
    pattern = re.compile(r"([\w.-]+)==(\S+) --hash=sha256:([0-9a-f]{64})")
    lines = [line.strip() for line in path.read_text().splitlines()]
    found = []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        match = pattern.fullmatch(line)
        if match is None:
            raise ValueError(f"{path}: not a pinned sdist: {line}")
        found.append(Sdist(*match.groups()))
    return found


def fetch_all(folder: Path, listed_in: Path = LIST) -> dict[str, Path]:
    """The unpacked trees in `folder` by project name; downloads what is missing."""
    trees = {}
    with locked(folder):
        for sdist in listed(listed_in):
            tree = folder / f"{sdist.folder}-{sdist.sha256[:12]}"
            if not tree.is_dir():
                _unpack(_archive(sdist, folder), tree)
            trees[sdist.name] = tree
    return trees


def fetch_archives(folder: Path, listed_in: Path = LIST) -> dict[str, Path]:
    """The archives by project name; downloads what is missing."""
    with locked(folder):
        return {sdist.name: _archive(sdist, folder) for sdist in listed(listed_in)}


def _archive(sdist: Sdist, folder: Path) -> Path:
    """The archive of a source distribution; created atomically."""
    archive = folder / "archives" / sdist.sha256[:12] / f"{sdist.folder}.tar.gz"
    if archive.exists():
        return archive
    data = _read(_url(sdist))
    found = hashlib.sha256(data).hexdigest()
    if found != sdist.sha256:
        raise ValueError(f"{sdist.folder}: sha256 is {found}, expected {sdist.sha256}")
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as name:
        scratch = Path(name, "sdist")
        scratch.write_bytes(data)
        scratch.rename(archive)
    return archive


def _unpack(archive: Path, tree: Path) -> None:
    """Unpack the only folder of an archive to `tree`, atomically."""
    with tempfile.TemporaryDirectory(dir=tree.parent) as name, tarfile.open(archive) as opened:
        scratch = Path(name)
        opened.extractall(scratch, filter="data")
        (root,) = scratch.iterdir()
        root.rename(tree)


class _Links(html.parser.HTMLParser):
    """Collects the addresses on a PEP 503 page."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self._base = base
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get("href")
        if tag == "a" and address:
            self.addresses.append(urllib.parse.urljoin(self._base, address))


def _url(sdist: Sdist) -> str:
    """The address of the file with this name, version and hash."""
    normalized = re.sub(r"[-_.]+", "-", sdist.name).lower()
    page = f"{_index().rstrip('/')}/{normalized}/"
    accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"
    text = _read(page, {"Accept": accept}).decode()
    if text.lstrip().startswith("{"):
        addresses = [
            urllib.parse.urljoin(page, f"{file['url']}#sha256={file['hashes'].get('sha256')}")
            for file in json.loads(text)["files"]
        ]
    else:
        links = _Links(page)
        links.feed(text)
        addresses = links.addresses
    for address in addresses:
        if address.endswith(f"#sha256={sdist.sha256}"):
            return urllib.parse.urldefrag(address).url
    raise LookupError(f"{page} has no file of {sdist.folder} with sha256 {sdist.sha256}")


def _index() -> str:
    return _pip_setting("index-url") or DEFAULT_INDEX


def _pip_setting(name: str) -> str | None:
    """A setting of pip, from its variable or its configuration files."""
    value = os.environ.get(f"PIP_{name.replace('-', '_').upper()}")
    if value:
        return value
    for section in ("install", "global"):
        command = [sys.executable, "-m", "pip", "config", "get", f"{section}.{name}"]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return found.stdout.strip().strip("'\"") or None
    return None


def _read(url: str, headers: dict[str, str] | None = None) -> bytes:
    context = ssl.create_default_context(cafile=_pip_setting("cert"))
    request = urllib.request.Request(url, headers=headers or {})
    with urllib.request.urlopen(request, context=context, timeout=120) as answer:
        data: bytes = answer.read()
    return data


def copy(tree: Path, to: Path) -> Path:
    """A copy of `tree` that keeps the times of the files, which some builds record."""
    shutil.copytree(tree, to, symlinks=True)
    return to


if __name__ == "__main__":
    fetch_all(Path(sys.argv[1]))
