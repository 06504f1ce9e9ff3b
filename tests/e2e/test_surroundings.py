"""Unusual surroundings: as process 1, with another /proc, few threads, ignored signals."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import processes
import pytest
from builds import make_project
from conftest import BOTH_WAYS, Setting
from gate import Gate
from other_user import USER, become_other_user, folder_of_other_user, wait_no_processes
from pool import PROGRAM, Pool
from trees import call

NAMESPACES = ["unshare", "--pid", "--fork", "--kill-child"]


def in_namespace(*words: str) -> list[str]:
    """The start of a command line that creates namespaces; skips if that is not permitted."""
    command = [*NAMESPACES, *words]
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare(1)")
    attempt = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if attempt.returncode != 0:
        pytest.skip(f"namespaces cannot be made: {attempt.stderr.strip()}")
    return command


def start_in(setting: Setting, command: list[str], log: Path, *flags: str) -> Pool:
    """Start `hookpool run` through another program, which the pool waits for."""
    pool = Pool(
        ["-v", "--python", sys.executable, "--jobs", "2", *flags],
        setting.env,
        log,
        command=[*command, PROGRAM],
    )
    setting.pools.append(pool)
    return pool


# The locks of the shared cache folder name processes of another namespace.
@pytest.mark.usefixtures("own_cache")
def test_f85_process_one_goes_on_after_ctrl_z(
    setting: Setting, tree: Path, tmp_path: Path, gate: Gate
) -> None:
    """The system does not stop process 1 of a namespace, unlike other processes."""
    pool = start_in(setting, in_namespace("--mount-proc"), tmp_path / "log")
    pool.send(call(tree, gate.code, 1))
    gate.arrived()
    (hookpool,) = processes.children(pool.pid)
    os.kill(hookpool, signal.SIGTSTP)
    pool.wait_said("all hooks are stopped")
    gate.release()
    assert pool.response()["ok"]
    assert pool.ask(call(tree, "", 2))["ok"]
    assert pool.finish() == ([], 0)


# The locks of the shared cache folder name processes of another namespace.
@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("proc", ["another", "none"])
def test_f86_a_proc_that_does_not_tell_of_us(
    setting: Setting, tree: Path, tmp_path: Path, proc: str
) -> None:
    command = in_namespace()
    if proc == "none":
        command = in_namespace("--mount")
        command += ["sh", "-c", 'umount -l /proc && exec "$@"', "sh"]
    # A worker waits this long for processes that nobody can find.
    pool = start_in(setting, command, tmp_path / "log", "--health-timeout", "2s")
    pool.wait_said("cannot find the processes that hooks leave behind")
    leaves = "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)"
    for number in range(3):
        assert pool.ask(call(tree, leaves, number))["ok"]
    # The namespace and all its processes end with the first process.
    assert pool.finish() == ([], 0)


def test_f87_as_few_threads_as_there_may_be(tmp_path: Path) -> None:
    """Nothing panics, whichever thread or process is the first that the system refuses."""
    if os.geteuid() != 0:
        pytest.skip("needs a user that has no other processes")
    outcomes = set()
    with folder_of_other_user() as (place, own):
        program = shutil.copy(PROGRAM, place)
        tree = make_project(place / "tree")
        os.chown(tree, USER, USER)
        env = {**os.environ, **own}
        for limit in [*range(1, 16), 20, 30]:
            wait_no_processes()

            def limited(limit: int = limit) -> None:
                resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
                become_other_user()

            run = subprocess.run(
                [program, "metadata", tree, "--python", "/usr/bin/python3", "--jobs", "1"],
                env=env,
                preexec_fn=limited,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert run.returncode in {0, 1, 3}, f"{limit}: {run.stderr}"
            assert "panicked" not in run.stderr
            outcomes.add(run.returncode)
    assert outcomes >= {0, 3}


def test_f87_a_small_stack(setting: Setting) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_STACK, (64 * 1024, 64 * 1024))

    run = subprocess.run(
        [PROGRAM, "metadata", "--help"],
        env=setting.env,
        preexec_fn=limited,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


@BOTH_WAYS
def test_f88_an_interrupt_that_was_ignored_stays_so(setting: Setting, tree: Path) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    pool = setting.start(preexec=ignore)
    assert pool.ask(call(tree, "", 1))["ok"]
    pool.signal(signal.SIGINT)
    assert pool.ask(call(tree, "", 2))["ok"]
    assert pool.finish() == ([], 0)


def write_script(path: Path, text: str) -> Path:
    """A shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return path


@BOTH_WAYS
def test_f89_an_interpreter_that_is_killed_while_it_is_asked(
    setting: Setting, tree: Path, tmp_path: Path
) -> None:
    once = tmp_path / "once"
    text = f'[ -e {once} ] || {{ touch {once}; kill -KILL $$; }}\nexec {sys.executable} "$@"'
    python = write_script(tmp_path / "python", text)
    pool = setting.start(python=str(python))
    assert pool.ask(call(tree, "", 1))["ok"]
    assert pool.finish() == ([], 0)


@pytest.mark.parametrize("program", ["python", "make"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_f89_what_a_program_starts_that_is_asked_who_it_is(
    setting: Setting, tmp_path: Path, gate: Gate, program: str, how: signal.Signals
) -> None:
    """Each process ends with the program; a fixture checks that none is left."""
    folder = tmp_path / "bin"
    folder.mkdir()
    text = f"sleep 600 &\necho $! > {gate.arrivals}\nwait"
    hangs = write_script(folder / program, text)
    env = {"PATH": f"{folder}:{os.environ['PATH']}"}
    python = str(hangs) if program == "python" else sys.executable
    pool = setting.start(env=env, python=python)
    left = gate.arrived()
    pool.signal(how)
    assert pool.wait(10) == 128 + how
    processes.wait_gone([left])


def test_f89_what_an_interpreter_leaves_that_says_nothing(
    setting: Setting, tmp_path: Path, gate: Gate
) -> None:
    text = f"sleep 600 &\necho $! > {gate.arrivals}\nwait"
    python = write_script(tmp_path / "python", text)
    pool = setting.start("--startup-timeout", "1s", python=str(python))
    left = gate.arrived()
    assert pool.wait(20) == 3
    assert "did not answer within 1s" in pool.stderr
    processes.wait_gone([left])


@pytest.mark.parametrize("umask", [0o277, 0o777])
def test_f91_a_umask_that_takes_from_the_owner(setting: Setting, umask: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs another user")

    def prepare() -> None:
        become_other_user()
        os.umask(umask)

    with folder_of_other_user() as (place, own):
        tree = make_project(place / "tree")
        out = place / "home" / "out"
        command = [PROGRAM, "wheel", str(tree), "-o", str(out), "--python", "/usr/bin/python3"]
        env = setting.env | own
        subprocess.run(command, env=env, preexec_fn=prepare, check=True, timeout=60)
        (wheel,) = out.iterdir()
        assert wheel.stat().st_mode & 0o077 == 0
        assert list((place / "tmp").iterdir()) == []


def test_f91_an_interpreter_that_may_not_be_looked_at(setting: Setting) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs another user's files")
    with folder_of_other_user() as (place, own):
        closed = place / "closed"
        closed.mkdir(mode=0)
        python = str(closed / "python")
        pool = setting.start(env=own, python=python, preexec=become_other_user)
        assert pool.wait() == 3
        assert f"interpreter {python} cannot be started: Permission denied" in pool.stderr


@pytest.mark.parametrize("flag", ["--timings", "--log-dir", "--output-dir", "--keep-wheels"])
def test_f92_another_users_link_where_everybody_may_make_one(
    setting: Setting, tmp_path: Path, flag: str
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs another user's link")
    tree = make_project(tmp_path / "tree")
    shared, mine = tmp_path / "shared", tmp_path / "mine"
    shared.mkdir()
    shared.chmod(0o1777)
    mine.mkdir()
    target = mine / "target"
    target.write_text("mine") if flag == "--timings" else target.mkdir()
    link = shared / "link"
    link.symlink_to(target)
    os.lchown(link, USER, USER)
    path = link if flag == "--timings" else link / "deeper"
    goal = "wheel" if flag == "--output-dir" else "metadata"
    command = [PROGRAM, goal, str(tree), "--python", sys.executable, flag, str(path)]
    run = subprocess.run(
        command, env=setting.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 3
    assert f"{link} is a symbolic link of user {USER}" in run.stderr
    assert target.read_text() == "mine" if flag == "--timings" else list(target.iterdir()) == []


def test_f91_a_hook_puts_a_file_in_the_place_of_the_capture_folder(
    setting: Setting, tree: Path
) -> None:
    """It is removed like the folder; a fixture checks that nothing is left."""
    code = (
        "import os, pathlib, shutil\n"
        "folder = pathlib.Path(os.readlink('/proc/self/fd/1')).parent\n"
        "shutil.rmtree(folder)\n"
        "folder.write_text('file')"
    )
    pool = setting.start()
    assert pool.ask(call(tree, code, 1))["ok"]
    assert pool.finish() == ([], 0)
