"""Regressions from the time when environments were made before scheduling.

Each test runs with and without build isolation, and with both start methods.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import processes
import pytest
from builds import build, make_project
from conftest import BOTH_START_METHODS, BOTH_WAYS, Setting
from gate import Gate
from hanging import HangingFiles, UnavailableError
from installer import Installer
from other_user import become_other_user, folder_of_other_user
from pool import Pool, kind
from trees import ECHO_BACKEND, call, echo, make_tree

# Threads and descriptors of a busy program, however many requests it has.
MOST_THREADS = 32
MOST_DESCRIPTORS = 64


@contextmanager
def locked(tree: Path) -> Iterator[None]:
    """Hold the lock of the tree, like another process."""
    descriptor = os.open(tree, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def threads(pid: int) -> int:
    """The number of threads of the process."""
    return len(os.listdir(f"/proc/{pid}/task"))


def start_with(setting: Setting, tmp_path: Path, installer: Installer, jobs: int = 2) -> Pool:
    """A pool without environments that uses this installer."""
    cache = str(tmp_path / "own-cache")
    return setting.start("--cache-dir", cache, env=installer.env, build_isolation=True, jobs=jobs)


def has_read_all(pool: Pool, id_: str = "read") -> None:
    """Wait until the program has read all lines."""
    pool.send({"no": "request", "id": id_})
    assert kind(pool.response()) == "InvalidRequest"


def wait_few(pid: int, most_threads: int, most_descriptors: int) -> None:
    """Wait until the process has no more threads and descriptors than this."""
    end = time.monotonic() + 10
    while threads(pid) > most_threads or processes.open_files(pid) > most_descriptors:
        found = (threads(pid), processes.open_files(pid))
        assert time.monotonic() < end, f"threads and descriptors: {found}"
        time.sleep(processes.TICK)


@BOTH_WAYS
@BOTH_START_METHODS
def test_f56_the_order_within_a_tree(setting: Setting, tree: Path) -> None:
    pool = setting.start(jobs=4)
    pool.send(*(call(tree, f"result = ['{n}']", n) for n in range(200)))
    found = pool.responses(200)
    assert [response["id"] for response in found] == list(range(200))
    assert pool.finish() == ([], 0)


@BOTH_WAYS
@BOTH_START_METHODS
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_f57_a_signal_while_a_lock_is_waited_for(
    setting: Setting, tree: Path, how: signal.Signals
) -> None:
    pool = setting.start("-v")
    with locked(tree):
        pool.send(call(tree, "", 1), call(tree, "", 2))
        pool.wait_said("waiting: another process uses the tree")
        pool.signal(how)
        rest = pool.rest()
        assert pool.wait(10) == 128 + how
    assert sorted((response["id"], kind(response)) for response in rest) == [
        (1, "Interrupted"),
        (2, "Interrupted"),
    ]


@BOTH_WAYS
@BOTH_START_METHODS
def test_f58_several_workers_of_a_tree_begin_at_once(
    setting: Setting, tree: Path, gate: Gate
) -> None:
    pool = setting.start("--workers-per-tree", "4", jobs=4)
    pool.send(*(call(tree, gate.code, number) for number in range(4)))
    # Each hook waits until all have arrived.
    hooks = {gate.arrived() for _ in range(4)}
    assert len(hooks) == 4
    gate.release(4)
    found = pool.responses(4)
    assert all(response["ok"] for response in found)
    assert all(response["timing"]["queued_ms"] is not None for response in found)
    assert pool.finish() == ([], 0)


@pytest.mark.exhaustive(way="plain")
@BOTH_WAYS
def test_f59_many_requests_of_a_tree_that_another_process_has(
    setting: Setting, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "tree", ECHO_BACKEND)
    pool = setting.start("--isolation", "none", "-v")
    with locked(tree):
        pool.send(*(echo(tree, n, str(n)) for n in range(4000)))
        has_read_all(pool)
        pool.wait_said("waiting: another process uses the tree")
        assert threads(pool.pid) <= MOST_THREADS
        assert processes.open_files(pool.pid) <= MOST_DESCRIPTORS
    found = pool.responses(4000, timeout=60)
    assert [response["id"] for response in found] == list(range(4000))
    assert pool.finish()[1] == 1


@pytest.mark.exhaustive(way="plain")
@BOTH_WAYS
def test_f60_a_thousand_requests_and_few_descriptors(setting: Setting, tmp_path: Path) -> None:
    folders = [make_tree(tmp_path / f"tree-{n}", ECHO_BACKEND) for n in range(100)]
    few = (512, 512)
    pool = setting.start(
        "--isolation",
        "none",
        preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, few),
    )
    pool.send(*(echo(folders[n % 100], n, str(n)) for n in range(1000)))
    found = pool.responses(1000, timeout=60)
    assert {kind(response) for response in found} == {None}
    assert pool.finish() == ([], 0)


@BOTH_WAYS
def test_f61_cancelled_while_locks_are_waited_for(setting: Setting, tmp_path: Path) -> None:
    folders = [make_tree(tmp_path / f"tree-{n}", ECHO_BACKEND) for n in range(200)]
    idle = make_tree(tmp_path / "idle", ECHO_BACKEND)
    pool = setting.start(jobs=8)
    assert pool.ask(echo(idle, "first", ""))["ok"]
    before = processes.open_files(pool.pid)
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(locked(folder))
        for turn in range(3):
            pool.send(*(echo(folder, f"{turn}-{n}", "") for n, folder in enumerate(folders)))
            has_read_all(pool)
            pool.send(*({"cancel": f"{turn}-{n}"} for n in range(200)))
            found = pool.responses(200)
            assert {kind(response) for response in found} == {"Cancelled"}
        # The watch on the locks stays, with one descriptor, and so do the few threads for files.
        wait_few(pool.pid, MOST_THREADS, before + 2)
    assert pool.finish()[1] == 1


@BOTH_WAYS
@BOTH_START_METHODS
def test_f62_nobody_else_is_blamed(setting: Setting, tree: Path) -> None:
    link = tree.parent / "link"
    link.symlink_to(tree)
    pool = setting.start("--workers-per-tree", "2", "-v", jobs=4)
    pool.send(*(call((tree, link)[n % 2], "", n) for n in range(60)))
    found = pool.responses(60)
    assert {kind(response) for response in found} == {None}, found
    assert pool.finish() == ([], 0)
    assert "another process" not in pool.stderr


@BOTH_WAYS
@BOTH_START_METHODS
def test_f55_a_file_system_that_hangs_costs_its_trees_alone(
    setting: Setting, tmp_path: Path
) -> None:
    """Like a mount that responds quickly once, and then not at all."""
    hung = [make_tree(tmp_path / f"hung-{n}") for n in range(3)]
    good = make_tree(tmp_path / "good")
    pool = setting.start("--startup-timeout", "1500ms", jobs=2)
    assert pool.ask(call(hung[0], "", "before"))["ok"]
    try:
        files = HangingFiles(*(tree / "pyproject.toml" for tree in hung))
    except UnavailableError as error:
        pytest.skip(f"cannot make a file hang: {error}")
    with closing(files):
        pool.send(*(call(tree, "", tree.name) for tree in hung))
        pool.send(*(call(good, "", n) for n in range(20)))
        found = {response["id"]: response for response in pool.responses(23)}
        assert all(found[n]["ok"] for n in range(20))
        for tree in hung:
            refusal = found[tree.name]["error"]
            assert refusal["kind"] == "SystemRefused"
            assert str(tree) in refusal["message"]
            assert "has not responded for" in refusal["message"]
        # It is known to be unresponsive now: no request and no thread waits for it again.
        pool.send(*(call(hung[0], "", n) for n in range(200)))
        assert {kind(response) for response in pool.responses(200)} == {"SystemRefused"}
        assert threads(pool.pid) <= MOST_THREADS
    # It responds again.
    end = time.monotonic() + 10
    while not pool.ask(call(hung[0], "", "after"))["ok"]:
        assert time.monotonic() < end
    assert pool.finish()[1] == 1


@BOTH_WAYS
@pytest.mark.parametrize("signals", [1, 2])
def test_f55_signals_do_not_wait_for_a_file_system(
    setting: Setting, tmp_path: Path, signals: int
) -> None:
    hung, good = make_tree(tmp_path / "hung"), make_tree(tmp_path / "good")
    pool = setting.start(jobs=2)
    assert pool.ask(call(hung, "", "before"))["ok"]
    try:
        files = HangingFiles(hung / "pyproject.toml")
    except UnavailableError as error:
        pytest.skip(f"cannot make a file hang: {error}")
    with closing(files):
        pool.send(call(hung, "", "hung"))
        assert pool.ask(call(good, "", "good"))["ok"]
        for _ in range(signals):
            pool.signal(signal.SIGTERM)
        assert [kind(response) for response in pool.rest()] == ["Interrupted"]
        assert pool.wait(10) == 143


@BOTH_WAYS
def test_f90_a_lock_that_is_kept(setting: Setting, tmp_path: Path) -> None:
    tree, other = make_tree(tmp_path / "tree"), make_tree(tmp_path / "other")
    pool = setting.start("--lock-timeout", "1s")
    with locked(tree):
        pool.send(call(tree, "", "locked"), call(other, "", "other"))
        found = {response["id"]: response for response in pool.responses(2)}
        assert found["other"]["ok"]
        error = found["locked"]["error"]
        assert error["kind"] == "SystemRefused"
        assert f"process {os.getpid()} (" in error["message"]
        assert "has kept the tree locked for 1 s" in error["message"]
        assert "--lock-timeout" in error["hint"]
    assert pool.ask(call(tree, "", "free"))["ok"]
    assert pool.finish() == ([], 1)


def test_f63_environments_are_let_go(setting: Setting, tmp_path: Path, tree: Path) -> None:
    installer = Installer(tmp_path, named_by_requirement=True)
    cache = tmp_path / "own-cache"
    pool = setting.start("--cache-dir", str(cache), env=installer.env, build_isolation=True)

    def held() -> int:
        targets = processes.targets(pool.pid)
        return sum("/environments/" in target and target.endswith(".lock") for target in targets)

    for number in range(24):
        assert pool.ask(call(tree, "", number, requires=[f"tool-{number}==1.0"]))["ok"]
    assert held() <= 17
    # An environment that is no longer held is found again, not made again.
    assert pool.ask(call(tree, "", "again", requires=["tool-0==1.0"]))["ok"]
    assert installer.calls == 24
    assert pool.finish() == ([], 0)


@BOTH_START_METHODS
def test_an_environment_is_made_once_and_beside_hooks(
    setting: Setting, tmp_path: Path, gate: Gate
) -> None:
    installer = Installer(tmp_path, gate)
    folders = [make_tree(tmp_path / f"tree-{n}") for n in range(6)]
    plain = make_tree(tmp_path / "plain")
    pool = start_with(setting, tmp_path, installer, jobs=1)
    needs = {"requires": ["sample-tool==1.0"]}
    pool.send(*(call(tree, "import sample_tool", tree.name, **needs) for tree in folders))
    gate.arrived()
    # uv takes no job slot, and those that wait for it have none.
    assert pool.ask(call(plain, "", "plain"))["ok"]
    gate.release()
    found = pool.responses(6)
    assert {kind(response) for response in found} == {None}
    assert installer.calls == 1
    waited = [response["timing"]["prepare_ms"] for response in found]
    assert all(time is not None for time in waited)
    assert max(waited) > 0
    assert pool.finish() == ([], 0)


def test_a_request_whose_environment_is_made_can_be_cancelled(
    setting: Setting, tmp_path: Path, tree: Path, gate: Gate
) -> None:
    installer = Installer(tmp_path, gate)
    pool = start_with(setting, tmp_path, installer, jobs=1)
    pool.send(call(tree, "", 1, requires=["sample-tool==1.0"]))
    program = gate.arrived()
    pool.send({"cancel": 1})
    assert kind(pool.response()) == "Cancelled"
    # When no request needs it any more, the installation is ended and the slot is free.
    processes.wait_gone([program])
    assert pool.ask(call(tree, "", 2))["ok"]
    assert pool.finish() == ([], 1)


def test_a_failed_environment_is_tried_once_for_all_who_wait(
    setting: Setting, tmp_path: Path, tree: Path, gate: Gate
) -> None:
    installer = Installer(tmp_path, gate, fails=True)
    pool = start_with(setting, tmp_path, installer)
    pool.send(*(call(tree, "", n, requires=["sample-tool==1.0"]) for n in range(50)))
    gate.arrived()
    has_read_all(pool)
    gate.release()
    assert {kind(response) for response in pool.responses(50)} == {"EnvironmentFailed"}
    assert installer.calls == 1
    assert pool.finish()[1] == 1


@pytest.mark.parametrize("flags", [[], ["--no-freshness-check"]], ids=" ".join)
def test_an_interpreter_whose_environment_has_changed(
    setting: Setting, tmp_path: Path, tree: Path, flags: list[str]
) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = str(environment / "bin" / "python")
    pool = setting.start(*flags, build_isolation=True)
    assert pool.ask(call(tree, "", 1, python=python))["ok"]
    with (environment / "pyvenv.cfg").open("a") as configuration:
        configuration.write("# changed\n")
    pool.send(*(call(tree, "", number, python=python) for number in range(2, 5)))
    assert [kind(response) for response in pool.responses(3)] == [None] * 3
    assert pool.finish() == ([], 0)


def test_a_configuration_file_that_is_a_pipe(setting: Setting, tmp_path: Path, tree: Path) -> None:
    """A named pipe without a writer."""
    pipe = tmp_path / "pip.conf"
    os.mkfifo(pipe)
    pool = setting.start(build_isolation=True, env={"PIP_CONFIG_FILE": str(pipe)})
    assert pool.ask(call(tree, ""))["ok"]
    assert pool.finish() == ([], 0)


def test_an_environment_that_the_next_of_the_tree_does_not_want(
    setting: Setting, tmp_path: Path, tree: Path, gate: Gate
) -> None:
    installer = Installer(tmp_path, gate)
    pool = start_with(setting, tmp_path, installer)
    pool.send(call(tree, "", 1, requires=["sample-tool==1.0"]))
    program = gate.arrived()
    pool.send(call(tree, "", 2))
    has_read_all(pool)
    pool.send({"cancel": 1})
    first, second = pool.responses(2)
    assert (first["id"], kind(first)) == (1, "Cancelled")
    assert (second["id"], kind(second)) == (2, None)
    processes.wait_gone([program])
    assert pool.finish() == ([], 1)


def test_f19_an_installer_is_stopped_and_continued(
    setting: Setting, tmp_path: Path, tree: Path, gate: Gate
) -> None:
    installer = Installer(tmp_path, gate)
    pool = start_with(setting, tmp_path, installer)
    pool.send(call(tree, "", requires=["sample-tool==1.0"]))
    program = gate.arrived()
    for _ in range(2):
        pool.signal(signal.SIGTSTP)
        processes.wait_state(pool.pid, "T")
        processes.wait_state(program, "T")
        pool.signal(signal.SIGCONT)
        processes.wait_state(program, "SR")
    gate.release()
    assert pool.response()["ok"]
    assert pool.finish() == ([], 0)


def test_an_installer_is_killed(setting: Setting, tmp_path: Path, tree: Path, gate: Gate) -> None:
    installer = Installer(tmp_path, gate)
    pool = start_with(setting, tmp_path, installer)
    needs = {"requires": ["sample-tool==1.0"]}
    pool.send(call(tree, "", **needs))
    os.kill(gate.arrived(), signal.SIGKILL)
    response = pool.response()
    assert kind(response) == "EnvironmentFailed"
    assert "it died of SIGKILL" in response["error"]["message"]
    # The next request must not fail for it.
    pool.send(call(tree, "import sample_tool", **needs))
    gate.arrived()
    gate.release()
    assert pool.response()["ok"]
    assert pool.finish() == ([], 1)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_an_environment_is_made(
    setting: Setting, tmp_path: Path, tree: Path, gate: Gate, how: signal.Signals
) -> None:
    installer = Installer(tmp_path, gate)
    pool = start_with(setting, tmp_path, installer)
    pool.send(*(call(tree, "", n, requires=["sample-tool==1.0"]) for n in range(3)))
    program = gate.arrived()
    pool.signal(how)
    assert [kind(response) for response in pool.rest()] == ["Interrupted"] * 3
    assert pool.wait(10) == 128 + how
    processes.wait_gone([program])


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A file system of this size."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "hookpool-test", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("cannot mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_f64_a_full_disk_is_not_the_sources_fault(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "sample-1.0", name="sample")
    (tree / "large.bin").write_bytes(os.urandom(16 << 20))
    archive = tmp_path / "sample-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as sdist:
        sdist.add(tree, "sample-1.0")
    with small_disk(tmp_path / "disk", "8m") as disk:
        # Where archives are unpacked.
        cache = disk / "cache"
        wanted = ["wheel", archive, "-o", tmp_path / "out", "--cache-dir", cache]
        built = build(setting, *wanted, "--format", "json")
        error = built.result["error"]
        assert (error["kind"], "No space left" in error["message"]) == ("SystemRefused", True)


def test_f64_a_tree_that_may_not_be_read(setting: Setting) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs another user's files")
    with folder_of_other_user() as (place, own):
        closed, hidden = make_tree(place / "closed"), make_tree(place / "hidden")
        closed.chmod(0)
        (hidden / "pyproject.toml").chmod(0)
        pool = setting.start(env=own, python="/usr/bin/python3", preexec=become_other_user)
        for number, tree in enumerate((closed, hidden)):
            error = pool.ask(call(tree, "", number))["error"]
            assert error["kind"] == "SystemRefused", error
            assert str(tree) in error["message"]
        assert pool.finish() == ([], 1)
