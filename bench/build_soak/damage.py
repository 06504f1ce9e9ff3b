"""Damages files of the cache."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

NOBODY = 65534


def _kind(path: Path, cache: Path) -> str:
    """The kind of a file, since there are thousands of modules and few manifests."""
    parts = path.relative_to(cache).parts
    if "site-packages" in parts:
        return "bytecode" if path.suffix == ".pyc" else "package"
    if parts[0] == "hookd":
        return "hookd's bytecode" if path.suffix == ".pyc" else "hookd"
    if parts[0] == "environments" and len(parts) > 4:
        return "environment"
    return "/".join(parts[:-1]) + path.suffix


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _write(path: Path, content: bytes) -> None:
    """Replace the file: the old one may be hard-linked to the installer's own cache."""
    mode = path.stat().st_mode
    _remove(path)
    path.write_bytes(content)
    path.chmod(mode)


def _cut(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    _write(path, content[: chance.randrange(len(content) or 1)])


def _link(target: str) -> Callable[[Path, random.Random], None]:
    def replace(path: Path, _: random.Random) -> None:
        _remove(path)
        path.symlink_to(target)

    return replace


def _replace(make: Callable[[Path], None]) -> Callable[[Path, random.Random], None]:
    def replace(path: Path, _: random.Random) -> None:
        _remove(path)
        make(path)

    return replace


Act = Callable[[Path, random.Random], None]

OF_FILES: dict[str, Act] = {
    "cut": _cut,
    "emptied": lambda path, _: _write(path, b""),
    "overwritten": lambda path, chance: _write(path, chance.randbytes(path.stat().st_size)),
}
OF_ALL: dict[str, Act] = {
    "removed": lambda path, _: _remove(path),
    "made a link to nothing": _link("/nonexistent"),
    "made a link to /dev/zero": _link("/dev/zero"),
    "made a FIFO": _replace(os.mkfifo),
    "made a folder": _replace(Path.mkdir),
    "made a file": _replace(Path.touch),
}
OF_ROOT: dict[str, Act] = {
    "given to another user": lambda path, _: os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
}


def damage(cache: Path, chance: random.Random) -> str | None:
    """Damage a file. Returns what was done, or None if there is no file."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(cache.rglob("*")):
        kinds.setdefault(_kind(path, cache), []).append(path)
    if not kinds:
        return None
    path = chance.choice(kinds[chance.choice(sorted(kinds))])
    acts = dict(OF_ALL)
    if path.is_file() and not path.is_symlink():
        acts |= OF_FILES
    if os.geteuid() == 0:
        acts |= OF_ROOT
    name = chance.choice(sorted(acts))
    acts[name](path, chance)
    return f"{path.relative_to(cache)} {name}"
