"""The page of failure modes lists exactly the tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

from pool import REPOSITORY

PAGE = REPOSITORY / "docs" / "src" / "design" / "failure-modes.md"
ROW = re.compile(r"\| F(\d\d) \|.*\| (.*) \|")
NAMED = re.compile(r"`(test_\w+)`")
DEFINED = re.compile(r"^def (test_f\d\d_\w+)", re.MULTILINE)


def rows_of(name: str) -> set[int]:
    """The numbers of the failure modes in the name of a test."""
    head = re.match(r"test_((?:f\d\d_)+)", name)
    return {int(row) for row in re.findall(r"f(\d\d)_", head[1])} if head else set()


def test_each_failure_mode_has_its_tests() -> None:
    defined: dict[int, set[str]] = {}
    for path in Path(__file__).parent.glob("test_*.py"):
        for name in DEFINED.findall(path.read_text()):
            for row in rows_of(name):
                defined.setdefault(row, set()).add(name)
    rows = ROW.findall(PAGE.read_text())
    named = {int(row): set(NAMED.findall(tests)) for row, tests in rows}
    numbers = [int(row) for row, _ in rows]
    assert numbers == sorted(set(numbers)), "in order, without duplicates"
    assert len(numbers) > 60
    assert named == defined
