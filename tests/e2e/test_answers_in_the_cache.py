"""What `hookpool cache` shows and removes of answers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from builds import build, make_project
from conftest import Setting
from pool import PROGRAM


def cache(setting: Setting, *words: str) -> str:
    """The output of a subcommand."""
    command = [PROGRAM, "cache", *words, "--cache-dir", str(setting.root / "own")]
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=setting.env, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def number(text: str, words: str) -> int:
    """The number after these words at the start of a line."""
    found = re.search(rf"^{words}: (\d+)", text, re.MULTILINE)
    assert found is not None, text
    return int(found[1])


@pytest.fixture
def archives(setting: Setting, tmp_path: Path) -> list[Path]:
    """Two source distributions."""
    trees = [make_project(tmp_path / name, name=name) for name in ["one", "two"]]
    built = build(setting, "sdist", *trees, "--output-dir", tmp_path / "sdists")
    assert built.code == 0, built.stderr
    return sorted((tmp_path / "sdists").iterdir())


def metadata(setting: Setting, *archives: Path) -> None:
    own = ["--cache-dir", setting.root / "own"]
    built = build(setting, "metadata", *archives, *own)
    assert built.code == 0, built.stderr


def test_hits_are_counted_and_old_answers_go(setting: Setting, archives: list[Path]) -> None:
    assert number(cache(setting, "show"), "answers") == 0
    metadata(setting, *archives)
    first = cache(setting, "show")
    kept = number(first, "answers")
    assert (number(first, "kept"), number(first, "misses"), number(first, "hits")) == (
        kept,
        kept,
        0,
    )
    metadata(setting, *archives)
    second = cache(setting, "show")
    assert (number(second, "hits"), number(second, "misses")) == (kept, kept)
    # Nothing is that old.
    assert "answer" not in cache(setting, "prune")
    assert number(cache(setting, "show"), "answers") == kept
    # Of what is used at the same time, some goes.
    assert "answers" in cache(setting, "prune", "--max-size", "20K")
    assert number(cache(setting, "show"), "answers") < kept
    metadata(setting, *archives)
    assert number(cache(setting, "show"), "answers") == kept
    cache(setting, "clean")
    cleaned = cache(setting, "show")
    assert (number(cleaned, "answers"), number(cleaned, "hits")) == (0, 0)
    metadata(setting, *archives)
    assert number(cache(setting, "show"), "kept") == kept
