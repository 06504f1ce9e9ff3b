"""Tests that repeat what others test, with more of the same: they run with --exhaustive only.

`@pytest.mark.exhaustive` marks such a test, and `@pytest.mark.exhaustive(NAME=VALUE, ...)` its
cases with these parameters.
"""

from __future__ import annotations

import pytest


def add_option(parser: pytest.Parser) -> None:
    """Add the flag `--exhaustive`."""
    parser.addoption(
        "--exhaustive", action="store_true", help="with tests that repeat others with more data"
    )


def add_mark(config: pytest.Config) -> None:
    """Add the mark."""
    config.addinivalue_line("markers", "exhaustive(**parameters): runs with --exhaustive only")


def is_chosen(config: pytest.Config) -> bool:
    """Whether these tests run too."""
    return bool(config.getoption("--exhaustive"))


def is_left_out(config: pytest.Config, item: pytest.Item) -> bool:
    """Whether the test, with its parameters, is such a one, and does not run."""
    own = parameters(item).items()
    return not is_chosen(config) and any(
        mark.kwargs.items() <= own for mark in item.iter_markers("exhaustive")
    )


def parameters(item: pytest.Item) -> dict[str, object]:
    """The parameters of the test and of its fixtures."""
    call = getattr(item, "callspec", None)
    return call.params if call is not None else {}


def leave_out(config: pytest.Config, items: list[pytest.Item], left_out: list[pytest.Item]) -> None:
    """Take tests out of those that were collected."""
    taken = set(left_out)
    items[:] = [item for item in items if item not in taken]
    config.hook.pytest_deselected(items=left_out)
