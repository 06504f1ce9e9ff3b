"""Many trees: the flags bound the resources of the pool, whatever the number of requests."""

from __future__ import annotations

import os
from pathlib import Path

import processes
import pytest
from conftest import Setting
from test_many_requests import MEMORY_LIMIT
from trees import ECHO_BACKEND, echo, make_tree

# The failure mode says ten thousand, which take minutes; this test takes seconds.
TREES = int(os.environ.get("E2E_TREES", "1000"))
WORKERS = 64
# The program's own, and four per worker: two pipes, a log and a pidfd.
DESCRIPTORS = 64 + 4 * WORKERS


@pytest.mark.exhaustive(isolation="none")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("isolation", ["none", "hook"])
def test_f48_many_trees(setting: Setting, tmp_path: Path, isolation: str) -> None:
    """With isolation `hook`, a few workers are moved from tree to tree."""
    first = make_tree(tmp_path / "first", ECHO_BACKEND)
    folders = [tmp_path / "trees" / str(number) for number in range(TREES)]
    (tmp_path / "trees").mkdir()
    for folder in folders:
        folder.mkdir()
        for path in first.iterdir():
            (folder / path.name).hardlink_to(path)
    pool = setting.start("--isolation", isolation, "--max-workers", str(WORKERS))
    most = 0
    found = []
    step = 500
    for start in range(0, TREES, step):
        numbers = range(start, start + step)
        pool.send(*(echo(folders[number], number, f"text {number}") for number in numbers))
        found += pool.responses(step, timeout=60)
        most = max(most, processes.open_files(pool.pid))
        assert len(processes.workers(pool.pid)) <= WORKERS
    assert sorted(response["id"] for response in found) == list(range(TREES))
    assert all(response["result"] == [f"text {response['id']}"] for response in found)
    assert processes.peak_memory(pool.pid) < MEMORY_LIMIT
    assert most <= DESCRIPTORS
    assert pool.finish() == ([], 0)
