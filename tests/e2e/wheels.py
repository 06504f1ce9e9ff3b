"""The contents of wheels, and how those of hookpool differ from those of `python -m build`.

As a program it compares the wheels of all pinned source distributions, which takes minutes:
`wheels.py KEPT SCRATCH`, where KEPT keeps the archives, and the folder SCRATCH is new.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sdists

JOBS = 2


def contents(wheel: Path) -> dict[str, tuple[int, bytes]]:
    """The mode and content of each file, RECORD included."""
    with zipfile.ZipFile(wheel) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        return {
            member.filename: (member.external_attr >> 16, archive.read(member))
            for member in members
        }


def differences(one: Path, other: Path) -> list[str]:
    """The files that differ, and how; times are ignored."""
    ours, theirs = contents(one), contents(other)
    found = [f"only in one: {name}" for name in sorted(ours.keys() ^ theirs.keys())]
    for name in sorted(ours.keys() & theirs.keys()):
        if ours[name][0] != theirs[name][0]:
            found.append(f"mode {ours[name][0]:o}, {theirs[name][0]:o}: {name}")
        if ours[name][1] != theirs[name][1]:
            found.append(f"content: {name}")
    if one.name != other.name:
        found.append(f"named {one.name} and {other.name}")
    return found


def build_references(trees: Mapping[str, Path], folder: Path, env: Mapping[str, str]) -> None:
    """A wheel of each tree in `folder/NAME`, made by `python -m build --wheel`."""

    def build(name: str) -> None:
        tree = sdists.copy(trees[name], folder / "trees" / name / trees[name].name)
        command = [sys.executable, "-m", "build", "--wheel", "--installer", "uv"]
        command += ["--outdir", str(folder / name), str(tree)]
        subprocess.run(command, env=dict(env), check=True, capture_output=True, timeout=300)

    with ThreadPoolExecutor(JOBS) as threads:
        list(threads.map(build, trees))


def only(folder: Path) -> Path:
    """The only wheel in a folder."""
    (wheel,) = folder.glob("*.whl")
    return wheel


def _compare_all(kept: Path, scratch: Path, program: str, flags: Sequence[str]) -> int:
    archives, trees = sdists.fetch_archives(kept), sdists.fetch_all(kept)
    # Some backends iterate over sets, whose order depends on the hash seed.
    env = {**os.environ, "PYTHONHASHSEED": "0"}
    build_references(trees, scratch / "references", env)
    command = [program, "wheel", *map(str, archives.values()), "-o", str(scratch / "ours"), *flags]
    subprocess.run(command, env=env, check=True)
    references = {only(scratch / "references" / name).name: name for name in trees}
    different = 0
    for wheel in sorted((scratch / "ours").glob("*.whl")):
        reference = scratch / "references" / references.pop(wheel.name) / wheel.name
        found = differences(wheel, reference)
        different += bool(found)
        print(f"{wheel.name}: {', '.join(found) or 'the same'}")
    print(f"{different} differ, {len(references)} are missing")
    return 1 if different or references else 0


if __name__ == "__main__":
    flags = ["--python", sys.executable, "--jobs", str(JOBS)]
    kept, scratch = map(Path, sys.argv[1:3])
    sys.exit(_compare_all(kept, scratch, os.environ["HOOKPOOL"], flags))
