"""Ten thousand requests: each is answered once, in bounded memory; an idle pool uses no time."""

from __future__ import annotations

import json
import os
import select
import time
from pathlib import Path

import processes
import pytest
from conftest import BOTH_START_METHODS, BOTH_WAYS, Setting
from gate import Gate
from pool import Pool, kind
from trees import ECHO_BACKEND, call, echo, make_tree

MEMORY_LIMIT = 64 * 2**20


def echo_trees(folder: Path, count: int) -> list[Path]:
    """Trees with backends of the same name that return their settings."""
    return [make_tree(folder / f"tree-{number}", ECHO_BACKEND) for number in range(count)]


@pytest.mark.timeout(240)
def test_f37_a_malformed_line_among_ten_thousand(setting: Setting, tmp_path: Path) -> None:
    """Twenty trees: each request has its own result, in bounded memory."""
    folders = echo_trees(tmp_path / "trees", 20)
    requests = [echo(folders[number % 20], number, f"text {number}") for number in range(10_000)]
    lines = [json.dumps(request) for request in requests]
    lines[5678] = '{"id": 5678, "tree":'
    # One process per tree; other tests cover the fork for each hook of isolation `hook`.
    pool = setting.start("--isolation", "none", "--max-workers", "20", build_isolation=True)
    pool.send_bytes(("\n".join(lines) + "\n").encode())
    found = pool.responses(len(lines), timeout=60)
    peak = processes.peak_memory(pool.pid)
    assert pool.finish() == ([], 1)
    (bad,) = [response for response in found if not response["ok"]]
    assert (kind(bad), bad["id"], bad["line"]) == ("InvalidRequest", None, 5679)
    good = [response for response in found if response["ok"]]
    assert sorted(response["id"] for response in good) == [
        number for number in range(10_000) if number != 5678
    ]
    for response in good:
        assert response["result"] == [f"text {response['id']}"]
        assert response["tree"] == str(folders[response["id"] % 20])
    assert peak < MEMORY_LIMIT


@pytest.mark.exhaustive(way="plain")
@BOTH_WAYS
@pytest.mark.timeout(240)
def test_a_thousand_requests_with_a_process_each(setting: Setting, tmp_path: Path) -> None:
    folders = echo_trees(tmp_path / "trees", 100)
    requests = [echo(folders[number // 10], number, f"text {number}") for number in range(1000)]
    pool = setting.start("--max-workers", "8")
    pool.send(*requests)
    found = pool.responses(len(requests), timeout=60)
    assert pool.finish() == ([], 0)
    assert sorted(response["id"] for response in found) == list(range(1000))
    assert all(response["result"] == [f"text {response['id']}"] for response in found)


@pytest.mark.timeout(240)
def test_f35_a_slow_reader_makes_no_memory_grow(setting: Setting, tmp_path: Path) -> None:
    (tree,) = echo_trees(tmp_path / "trees", 1)
    # 2,000 responses of 50 KiB are 100 MB, which must not wait in the supervisor.
    text = "x" * 50_000
    lines = b"".join(
        json.dumps(echo(tree, number, f"{number}{text}")).encode() + b"\n" for number in range(2000)
    )
    pool = setting.start(
        "--isolation", "none", "--queue-size", "16", reading=False, build_isolation=True
    )
    assert pool.process.stdin is not None
    os.set_blocking(pool.process.stdin.fileno(), False)
    descriptor = pool.process.stdin.fileno()
    written = 0
    # Write until the input is no longer read: one second without room shows the backpressure.
    while written < len(lines):
        _, ready, _ = select.select([], [descriptor], [], 1)
        if not ready:
            break
        written += os.write(descriptor, lines[written : written + 65536])
    assert written < len(lines) / 4
    assert processes.peak_memory(pool.pid) < MEMORY_LIMIT
    os.set_blocking(descriptor, True)
    pool.start_reading()
    pool.send_bytes(lines[written:])
    found = pool.responses(2000, timeout=60)
    assert {response["result"][0] for response in found} == {f"{n}{text}" for n in range(2000)}
    assert processes.peak_memory(pool.pid) < MEMORY_LIMIT
    assert pool.finish() == ([], 0)


@pytest.mark.exhaustive(way="plain")
@BOTH_WAYS
@pytest.mark.timeout(240)
def test_f84_few_requests_that_are_long(setting: Setting, tmp_path: Path, gate: Gate) -> None:
    """Two gigabytes of requests, whose number fits into the queue."""
    tree = make_tree(tmp_path / "tree")
    pool = setting.start(jobs=1, reading=False)
    pool.send(call(tree, gate.code, "first"))
    gate.arrived()
    padding = "x" * (4 * 2**20)
    line = json.dumps(call(tree, f"'{padding}'", "long")).encode() + b"\n"
    descriptor = pool.process.stdin.fileno() if pool.process.stdin else -1
    os.set_blocking(descriptor, False)
    written, limit = 0, 500 * len(line)
    while written < limit:
        _, ready, _ = select.select([], [descriptor], [], 1)
        if not ready:
            break
        start = written % len(line)
        written += os.write(descriptor, line[start : start + 65536])
    count = written // len(line)
    assert 10 < count < 30, "the program reads, but not forever"
    assert processes.peak_memory(pool.pid) < 8 * 64 * 2**20
    os.set_blocking(descriptor, True)
    gate.release()
    pool.start_reading()
    pool.send_bytes(line[written % len(line) :])
    assert all(response["ok"] for response in pool.responses(count + 2, timeout=120))
    assert pool.finish() == ([], 0)


def check_idle(pool: Pool) -> list[int]:
    """Wait until no process of the pool uses the processor; returns the processes."""
    end = time.monotonic() + 20
    while True:
        everyone = [pool.pid, *processes.descendants(pool.pid)]
        before = sum(processes.cpu_ticks(pid) for pid in everyone)
        processes.outlast(2)
        if set(everyone) == {pool.pid, *processes.descendants(pool.pid)}:
            after = sum(processes.cpu_ticks(pid) for pid in everyone)
            if after - before <= 1:
                return everyone
        # Work after a response (the end of a hook, learning) may take a moment.
        assert time.monotonic() < end, "the pool does not become idle"


@BOTH_WAYS
@BOTH_START_METHODS
def test_idle_is_idle(setting: Setting, tmp_path: Path, isolation: str) -> None:
    folders = echo_trees(tmp_path / "trees", 3)
    pool = setting.start("--isolation", isolation)
    pool.send(*(echo(folder, number, "") for number, folder in enumerate(folders)))
    pool.responses(3)
    everyone = check_idle(pool)
    templates = processes.templates(pool.pid)
    workers = processes.workers(pool.pid)
    assert len(templates) == (1 if setting.start_method == "forkserver" else 0)
    # With isolation `hook` one may have been moved.
    assert len(workers) == 3 if isolation == "none" else 1 <= len(workers) <= 3
    # With isolation `none` each worker has a sentinel, unless its template watches it.
    sentinels = [child for worker in workers for child in processes.children(worker)]
    assert len(sentinels) == (3 if (isolation, setting.start_method) == ("none", "spawn") else 0)
    assert set(everyone) == {pool.pid, *templates, *workers, *sentinels}
    assert pool.finish() == ([], 0)


@BOTH_WAYS
def test_idle_without_requests_is_idle(setting: Setting) -> None:
    pool = setting.start()
    pool.send_bytes(b"?\n")
    pool.response()
    assert check_idle(pool) == [pool.pid]
    assert pool.finish() == ([], 1)


@BOTH_WAYS
@BOTH_START_METHODS
def test_f01_end_of_input_on_idle_workers(setting: Setting, tmp_path: Path, isolation: str) -> None:
    folders = echo_trees(tmp_path / "trees", 3)
    pool = setting.start("--isolation", isolation, "--grace-period", "60s")
    pool.send(*(echo(folder, number, "") for number, folder in enumerate(folders)))
    pool.responses(3)
    workers = processes.descendants(pool.pid)
    # They do not wait for the grace period, which is longer than this timeout.
    assert pool.finish() == ([], 0)
    assert not any(processes.alive(pid) for pid in workers)


@BOTH_WAYS
def test_end_of_input_answers_what_was_asked(setting: Setting, tree: Path) -> None:
    pool = setting.start(jobs=1)
    pool.send(*(call(tree, f"result = ['{number}']", number) for number in range(50)))
    rest, code = pool.finish()
    assert [response["result"] for response in rest] == [[str(number)] for number in range(50)]
    assert code == 0
