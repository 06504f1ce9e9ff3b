"""Runs whose answers are kept, and sources whose version says what they have read."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builds import Built, build
from conftest import Setting
from pool import PROGRAM

SETUPTOOLS = "setuptools==80.9.0"
SCM = "setuptools-scm==8.3.1"

PROJECT = """\
[build-system]
requires = {requires}
build-backend = "setuptools.build_meta"
"""
SETUP = """\
import glob, os, subprocess, sys
from setuptools import setup


def read(path):
    with open(path) as file:
        return file.read().strip()


def output(*command, **options):
    return subprocess.check_output(command, universal_newlines=True, **options).strip()


setup(name="trap", version=str({version}), py_modules=[])
"""


@dataclass
class Told:
    """What a run told about a source."""

    version: str
    answers: dict[str, str]
    """What became of the answer of each hook: used, kept, wrong, or why it is not kept."""
    result: dict[str, Any]

    @property
    def are_used(self) -> bool:
        """Whether no hook ran."""
        return bool(self.answers) and set(self.answers.values()) == {"used"}

    @property
    def reasons(self) -> str:
        """Why answers are not kept."""
        return " ".join(self.answers.values())


def answer(found: dict[str, Any] | None) -> str:
    """What became of an answer, in one text."""
    if found is None:
        return "none"
    return str(found.get("reason") or found["is"])


def told(result: dict[str, Any]) -> Told:
    """What a result tells."""
    assert result["ok"], result["error"]
    answers = {hook["hook"]: answer(hook["answer"]) for hook in result["hooks"]}
    return Told(result["version"], answers, result)


def run(setting: Setting, *words: object, **options: Any) -> Built:
    """`hookpool metadata` with answers of source trees, too."""
    policy = [] if "--answers" in words else ["--answers", "trees"]
    return build(setting, "metadata", *words, *policy, "--format", "json", **options)


def ask(setting: Setting, source: Path, *flags: object, **options: Any) -> Told:
    """What one run tells about one source."""
    return told(run(setting, source, *flags, **options).result)


def ask_all(setting: Setting, *words: object, **options: Any) -> dict[str, Told]:
    """What one run tells about each source, by the name of the folder that it is in."""
    found = run(setting, *words, **options)
    assert found.code == 0, found.stderr
    return {Path(result["source"]).parent.name: told(result) for result in found.results}


def make_trap(folder: Path, version: str, requires: str = f'["{SETUPTOOLS}"]') -> Path:
    """A source tree of setuptools, whose setup.py computes the version so."""
    write_all(folder, trap_files(version, requires))
    return folder


def trap_files(version: str, requires: str = f'["{SETUPTOOLS}"]') -> dict[str, str]:
    """The files of such a tree."""
    return {
        "pyproject.toml": PROJECT.format(requires=requires),
        "setup.py": SETUP.format(version=version),
    }


def make_archive(path: Path, files: dict[str, str]) -> Path:
    """A source distribution whose size does not depend on what the files say."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=0) as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"trap-1.0/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def write_all(folder: Path, files: dict[str, str]) -> None:
    """Write files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def git(folder: Path, *words: str) -> None:
    """Run git as an author."""
    names = ("AUTHOR", "COMMITTER")
    author = {f"GIT_{name}_{what}": "a@b" for name in names for what in ("NAME", "EMAIL")}
    subprocess.run(
        ["git", "-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main", *words],
        cwd=folder,
        env={**os.environ, **author, "GIT_CONFIG_GLOBAL": "/dev/null"},
        check=True,
        capture_output=True,
    )


def make_repository(folder: Path) -> Path:
    """Commit all that is in a folder, with the tag 1.0."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "--allow-empty", "-m", "first")
    git(folder, "tag", "1.0")
    return folder


def why(setting: Setting, source: Path, *flags: object) -> str:
    """What `hookpool cache why` says."""
    command = [PROGRAM, "cache", "why", str(source), *map(str, flags)]
    found = subprocess.run(command, capture_output=True, text=True, env=setting.env, check=True)
    return found.stdout
