"""Low limits of descriptors and processes; planned replacement of workers."""

from __future__ import annotations

import os
import resource
import subprocess
from collections import Counter
from pathlib import Path

import processes
import pytest
from conftest import BOTH_START_METHODS, BOTH_WAYS, Setting
from gate import Gate
from other_user import become_other_user, folder_of_other_user
from pool import kind
from trees import ECHO_BACKEND, call, echo, make_tree

pytestmark = BOTH_WAYS


def limited(number: int, soft: int, hard: int) -> None:
    """Set a limit for the process that will be started."""
    resource.setrlimit(number, (soft, hard))


@BOTH_START_METHODS
def test_f33_few_descriptors(setting: Setting, tmp_path: Path) -> None:
    folders = [make_tree(tmp_path / f"{number}", ECHO_BACKEND) for number in range(60)]
    pool = setting.start(
        "--max-workers",
        "60",
        jobs=8,
        preexec=lambda: limited(resource.RLIMIT_NOFILE, 64, 64),
    )
    pool.send(*(echo(folders[n % 60], n, str(n)) for n in range(240)))
    found = pool.responses(240)
    assert sorted(response["id"] for response in found) == list(range(240))
    good = [response for response in found if response["ok"]]
    assert all(response["result"] == [str(response["id"])] for response in good)
    bad = {kind(response) for response in found} - {None}
    assert bad <= {"WorkerStartFailed", "Quarantined"}
    assert len(good) >= 8
    assert processes.open_files(pool.pid) < 64
    # The program continues.
    assert pool.finish()[1] in {0, 1}


@BOTH_START_METHODS
def test_f33_the_soft_limit_is_raised_for_us_and_restored_for_hooks(
    setting: Setting, tree: Path
) -> None:
    pool = setting.start(preexec=lambda: limited(resource.RLIMIT_NOFILE, 100, 1000))
    code = "import resource\nresult = [str(resource.getrlimit(resource.RLIMIT_NOFILE))]"
    assert pool.ask(call(tree, code))["result"] == ["(100, 1000)"]
    limits = Path(f"/proc/{pool.pid}/limits").read_text()
    (line,) = (line for line in limits.splitlines() if line.startswith("Max open files"))
    assert line.split()[3:5] == ["1000", "1000"]
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_nothing_grows_with_requests(setting: Setting, tmp_path: Path) -> None:
    folders = [make_tree(tmp_path / f"{number}", ECHO_BACKEND) for number in range(10)]
    pool = setting.start("--max-workers", "2")
    pool.send(*(echo(folders[n % 10], n, "") for n in range(20)))
    pool.responses(20)
    before = processes.open_files(pool.pid)
    pool.send(*(echo(folders[n % 10], n, "") for n in range(100)))
    pool.responses(100)
    assert processes.open_files(pool.pid) <= before + 4
    processes.wait_no_zombies(pool.pid)
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_f34_no_more_processes(setting: Setting) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs a user that has no other processes")
    with folder_of_other_user() as (place, own):
        folders = [make_tree(place / f"{number}", ECHO_BACKEND) for number in range(13)]
        pool = setting.start(
            "--max-workers",
            "12",
            env=own,
            python="/usr/bin/python3",
            jobs=12,
            preexec=become_other_user,
        )

        def limit_processes(soft: int) -> None:
            for pid in {pool.pid, *processes.descendants(pool.pid)}:
                order = ["prlimit", "--pid", str(pid), f"--nproc={soft}:"]
                subprocess.run(order, preexec_fn=become_other_user, check=False)

        # How many threads the start needs depends on how busy the machine is, so the limit comes
        # after it.
        assert not pool.ask(echo(place / "missing", 0, ""))["ok"]
        limit_processes(len(os.listdir(f"/proc/{pool.pid}/task")) + 12)
        pool.send(*(echo(folders[n % 12], n, str(n)) for n in range(48)))
        found = pool.responses(48)
        assert sorted(response["id"] for response in found) == list(range(48))
        for response in found:
            assert not response["ok"] or response["result"] == [str(response["id"])]
            # The error depends on which fork met the limit.
            assert response["ok"] or "Resource temporarily unavailable" in str(response["error"])
        assert not all(response["ok"] for response in found)
        limit_processes(1000)
        assert pool.ask(echo(folders[12], 48, "after"))["result"] == ["after"]
        assert pool.finish() == ([], 1)
        assert list((place / "tmp").iterdir()) == []


@BOTH_START_METHODS
def test_f24_replacement_with_a_backlog(setting: Setting, tree: Path) -> None:
    pool = setting.start("--max-requests", "10")
    pool.send(*(call(tree, f"result = ['{n}']", n) for n in range(60)))
    found = pool.responses(60)
    assert [response["result"] for response in found] == [[str(n)] for n in range(60)]
    workers = [(r["worker"]["generation"], r["worker"]["pid"]) for r in found]
    assert workers == sorted(workers, key=lambda worker: worker[0])
    uses = Counter(workers)
    assert len(uses) >= 5
    # Ten, with 10 % jitter.
    assert all(9 <= uses[worker] <= 11 for worker in list(uses)[:-1])
    assert [generation for generation, _ in uses] == list(range(1, len(uses) + 1))
    assert pool.finish() == ([], 0)


def test_f25_workers_do_not_reach_their_limit_together(setting: Setting, tmp_path: Path) -> None:
    folders = [make_tree(tmp_path / f"{number}", ECHO_BACKEND) for number in range(12)]
    pool = setting.start("--isolation", "none", "--max-requests", "50", "--max-workers", "12")
    pool.send(*(echo(folder, n, "") for n in range(60) for folder in folders))
    uses: Counter[tuple[str, int]] = Counter()
    for response in pool.responses(60 * 12):
        assert response["ok"]
        uses[response["tree"], response["worker"]["generation"]] += 1
    first = [uses[str(folder), 1] for folder in folders]
    assert all(45 <= count <= 55 for count in first)
    assert len(set(first)) > 1
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_idle_timeout(setting: Setting, tree: Path, gate: Gate) -> None:
    other = make_tree(tree.parent / "other")
    pool = setting.start("--idle-timeout", "300ms", jobs=2)
    pool.send(call(other, gate.code, "busy"))
    gate.arrived()
    first = pool.ask(call(tree, "", 1))["worker"]
    processes.wait_gone([first["pid"]])
    second = pool.ask(call(tree, "", 2))
    assert second["ok"]
    assert second["worker"]["generation"] == first["generation"] + 1
    # A busy worker is not idle, however long it runs.
    gate.release()
    assert pool.response()["ok"]
    assert pool.finish() == ([], 0)


def test_max_lifetime(setting: Setting, tree: Path) -> None:
    pool = setting.start("--max-lifetime", "300ms")
    first = pool.ask(call(tree, "import time\ntime.sleep(0.5)\nresult = ['whole']", 1))
    # The worker ends its hook first.
    assert first["result"] == ["whole"]
    second = pool.ask(call(tree, "", 2))
    assert second["worker"]["pid"] != first["worker"]["pid"]
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_f27_health_checks_on_a_loaded_machine(setting: Setting, tmp_path: Path) -> None:
    folders = [make_tree(tmp_path / f"{number}") for number in range(8)]
    pool = setting.start(
        "--health-interval", "100ms", "--health-timeout", "5s", "--max-workers", "16", jobs=8
    )
    busy = "import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass\n"
    pool.send(*(call(folder, "", n) for n, folder in enumerate(folders)))
    before = {response["tree"]: response["worker"] for response in pool.responses(8)}
    pool.send(*(call(folder, busy, n) for n, folder in enumerate(folders[:6])))
    assert all(response["ok"] for response in pool.responses(6))
    pool.send(*(call(folder, "", n) for n, folder in enumerate(folders)))
    assert {r["tree"]: r["worker"] for r in pool.responses(8)} == before
    assert pool.finish() == ([], 0)
