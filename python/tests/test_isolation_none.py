"""Isolation `none`: hooks in the worker itself."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from client import PATIENCE, Hookd, Lifeline, kill, processes_with, wait_for_end
from conftest import Start

LEFTOVERS = "import os, signal, leftovers\nleftovers.open_lifeline(settings['line'])\n"
HANG = LEFTOVERS + "leftovers.hang()\n"
CHILD = LEFTOVERS + "leftovers.child()\n"


def test_import_cache_is_kept(start: Start, tree: Path) -> None:
    hookd = start(isolation="none")
    backend = tree / "in_tree.py"
    for name in ("one", "two"):
        backend.write_text("def get_requires_for_build_wheel(_): return ['{}']".format(name))
        assert hookd.run("in_tree", backend_path=(".",)).result == ["one"]


def test_hooks_share_the_worker_process(start: Start) -> None:
    hookd = start(isolation="none")
    assert hookd.run_code("import os; result = [str(os.getpid())]").result == [str(hookd.pid)]
    hookd.run_code("import os; os.chdir('/'); os.environ['KEPT'] = '1'")
    code = "import os; result = [os.environ['KEPT'], str(os.getcwd() != '/')]"
    assert hookd.run_code(code).result == ["1", "True"]


def test_output_of_each_hook_is_its_own(start: Start) -> None:
    hookd = start(isolation="none")
    first = hookd.run_code("print('first', end='')")
    second = hookd.run_code("import os; os.write(2, b'second')")
    assert first.captured("STDOUT") == "first"
    assert second.captured("STDOUT") == ""
    assert second.captured("STDERR") == "second"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)])
def test_standard_descriptors_that_a_hook_closed(
    start: Start, tmp_path: Path, closed: tuple[int, ...]
) -> None:
    hookd = start(isolation="none")
    hookd.run_code("import os\n" + "".join(f"os.close({number})\n" for number in closed))
    code = """\
import os
file = os.open(settings["path"], os.O_WRONLY | os.O_CREAT)
os.write(file, b"to the file")
os.write(1, b"to one")
os.write(2, b"to two")
result = [os.readlink("/proc/self/fd/0"), str(file > 2)]
os.close(file)
"""
    for number in range(2):
        path = tmp_path / str(number)
        reply = hookd.run_code(code, path=str(path))
        assert reply.result == ["/dev/null", "True"]
        assert path.read_text() == "to the file"
        assert (reply.captured("STDOUT"), reply.captured("STDERR")) == ("to one", "to two")


def test_output_that_found_no_room_does_not_come_out_later(start: Start) -> None:
    hookd = start(isolation="none")
    # As a full disk is: what is written fails, and stays in the buffers.
    code = """\
import resource, sys
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
sys.stdout.write("lost")
"""
    first = hookd.run_code(code)
    assert first.captured("STDOUT") == ""
    code = "resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))"
    hard = "import resource; hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]; "
    second = hookd.run_code(hard + code)
    assert (second.captured("STDOUT"), second.captured("STDERR")) == ("", "")
    assert hookd.run_code("print('found', end='')").captured("STDOUT") == "found"


@pytest.mark.parametrize("control", [True, False])
def test_exit_handlers_run_before_an_orderly_end(
    start: Start, tmp_path: Path, control: bool
) -> None:
    hookd = start(isolation="none", control=control)
    kept, lost = tmp_path / "kept", tmp_path / "lost"
    kept.touch()
    code = """\
import atexit, os, threading
atexit.register(os.unlink, settings["kept"])
atexit.register(int, "no number")
buffered = open(settings["lost"], "w")
buffered.write("not lost")
threading.Thread(target=threading.Event().wait).start()
"""
    assert hookd.run_code(code, kept=str(kept), lost=str(lost)).result == []
    assert kept.exists()
    assert hookd.shut_down() == 0
    assert not kept.exists()
    assert lost.read_text() == "not lost"


def test_no_thread_is_visible(start: Start) -> None:
    code = "import threading; result = [str(threading.active_count())]"
    assert start(isolation="none").run_code(code).result == ["1"]


def test_descriptors_do_not_pile_up(start: Start) -> None:
    hookd = start(isolation="none")
    code = "import os; result = [str(len(os.listdir('/proc/self/fd')))]"
    counts = {hookd.run_code(code).result[0] for _ in range(5)}
    assert len(counts) == 1


@pytest.mark.parametrize("control", [True, False])
def test_end_of_input_while_a_hook_runs(start: Start, lifeline: Lifeline, control: bool) -> None:
    hookd = start(isolation="none", control=control)
    hookd.start_code(CHILD + HANG, line=lifeline.path)
    lifeline.wait_started(2)
    hookd.close_input()
    lifeline.wait_gone()
    # The whole process group was killed, the worker with it.
    assert hookd.wait() == -signal.SIGKILL


def test_end_of_input_behind_requests(start: Start, lifeline: Lifeline) -> None:
    hookd = start(isolation="none")
    hookd.start_code(HANG, line=lifeline.path)
    lifeline.wait_started()
    hookd.write(*hookd.request("sample_module"))
    hookd.close_input()
    lifeline.wait_gone()
    assert hookd.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    "number, exception", [(signal.SIGTERM, "SystemExit"), (signal.SIGINT, "KeyboardInterrupt")]
)
def test_stop_signal_while_a_hook_runs(
    start: Start, lifeline: Lifeline, tree: Path, number: signal.Signals, exception: str
) -> None:
    hookd = start(isolation="none")
    code = LEFTOVERS + "try:\n  leftovers.hang()\nfinally:\n  open('cleaned up', 'w')"
    hookd.start_code(code, line=lifeline.path)
    lifeline.wait_started()
    os.kill(hookd.pid, number)
    messages = hookd.until("TRACEBACK")
    assert messages[-2][1].startswith("HookRuntimeError")
    assert '"exception": "{}"'.format(exception) in messages[-2][1]
    assert hookd.wait() == -number
    assert hookd.line() == b"", "no READY"
    assert (tree / "cleaned up").exists()


def test_hook_that_ignores_signals_leaves_the_worker_alone(start: Start) -> None:
    hookd = start(isolation="none")
    hookd.run_code("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    os.kill(hookd.pid, signal.SIGTERM)
    assert hookd.wait() == -signal.SIGTERM


# What hooks leave behind, with --control.

DAEMON = LEFTOVERS + "leftovers.daemon()\n"
SESSION = LEFTOVERS + "leftovers.child(os.setsid)\n"
FROM_THREAD = LEFTOVERS + (
    "import threading\n"
    "thread = threading.Thread(target=leftovers.daemon)\n"
    "thread.start()\n"
    "thread.join()\n"
)
LEFT = pytest.mark.parametrize(
    "code", [CHILD, SESSION, DAEMON, FROM_THREAD], ids=["child", "session", "daemon", "thread"]
)


def leave_behind(hookd: Hookd, lifeline: Lifeline, code: str) -> None:
    hookd.start_code(code, line=lifeline.path)
    lifeline.wait_started()
    assert hookd.ready().result == []


@LEFT
def test_leftovers_end_with_the_input(start: Start, lifeline: Lifeline, code: str) -> None:
    hookd = start(isolation="none")
    leave_behind(hookd, lifeline, code)
    assert lifeline.is_open()
    hookd.close_input()
    lifeline.wait_gone()
    assert hookd.wait() == 0


@LEFT
def test_leftovers_end_with_the_input_while_a_hook_runs(
    start: Start, lifeline: Lifeline, code: str
) -> None:
    hookd = start(isolation="none")
    hookd.start_code(code + HANG, line=lifeline.path)
    lifeline.wait_started(2)
    hookd.close_input()
    lifeline.wait_gone()
    assert hookd.wait() == -signal.SIGKILL


def test_hook_that_restarts_what_is_killed(start: Start, lifeline: Lifeline) -> None:
    hookd = start(isolation="none")
    code = LEFTOVERS + (
        "import subprocess\n"
        "leftovers.started()\n"
        "for _ in range(20):\n"
        "  subprocess.call(['sleep', '1000'], pass_fds=[leftovers.lifeline])\n"
        "leftovers.hang()\n"
    )
    hookd.start_code(code, line=lifeline.path)
    lifeline.wait_started()
    hookd.close_input()
    assert hookd.wait() == -signal.SIGKILL


def test_leftovers_end_with_a_stop_signal(start: Start, lifeline: Lifeline) -> None:
    hookd = start(isolation="none")
    leave_behind(hookd, lifeline, DAEMON)
    os.kill(hookd.pid, signal.SIGTERM)
    lifeline.wait_gone()
    assert hookd.wait() == -signal.SIGTERM


def test_worker_keeps_leftovers(start: Start, lifeline: Lifeline) -> None:
    """The worker stays until its input has ended, or the last of them."""
    hookd = start(isolation="none")
    leave_behind(hookd, lifeline, DAEMON)
    hookd.write("shutdown")
    assert hookd.until("SHUTDOWN") == [("KEEPING", "1"), ("SHUTDOWN", "")]
    assert lifeline.is_open()
    hookd.close_input()
    lifeline.wait_gone()
    assert hookd.wait() == 0


@pytest.mark.parametrize("number", [None, signal.SIGTERM])
def test_end_of_keeping(start: Start, lifeline: Lifeline, number: signal.Signals | None) -> None:
    hookd = start(isolation="none")
    code = DAEMON.replace("leftovers.daemon()", "leftovers.child(show)")
    show = "def show(): os.setsid(); open('pid', 'w').write(str(os.getpid()))\n"
    leave_behind(hookd, lifeline, show + code)
    # Its own wish about SIGCHLD is no obstacle.
    hookd.run_code(
        "import signal; signal.signal(signal.SIGCHLD, signal.SIG_DFL);"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])"
    )
    hookd.write("shutdown")
    hookd.until("SHUTDOWN")
    if number is None:
        tree = os.readlink("/proc/{}/cwd".format(hookd.pid))
        os.kill(int(Path(tree, "pid").read_text()), signal.SIGKILL)
        assert hookd.wait() == 0
    else:
        os.kill(hookd.pid, number)
        assert hookd.wait() == -number
    lifeline.wait_gone()


def test_helpers_do_not_keep_the_worker(start: Start) -> None:
    """They end when their pipe does, whose other end the worker holds."""
    hookd = start(isolation="none")
    hookd.run_code(
        "import subprocess, sys\n"
        "helper = subprocess.Popen(['cat'], stdin=subprocess.PIPE)\n"
        "sys.kept = helper\n"
    )
    hookd.write("shutdown")
    hookd.until("SHUTDOWN")
    assert hookd.wait() == 0


def test_hooks_wait_for_their_own_children_only(start: Start) -> None:
    hookd = start(isolation="none")
    orphan = "import os\nif os.fork() == 0:\n  if os.fork() == 0: os.setsid()\n  os._exit(0)\n"
    hookd.run_code(orphan + "os.wait()")
    code = "import os\npid = os.fork()\nif pid == 0: os._exit(3)\n"
    hookd.write("ping")
    hookd.message()
    reply = hookd.run_code(code + "result = [str(os.waitpid(pid, 0)[1])]")
    assert reply.result == ["768"]


def test_without_control_leftovers_are_left(
    start: Start, lifeline: Lifeline, environment: dict[str, str]
) -> None:
    hookd = start(isolation="none", control=False)
    leave_behind(hookd, lifeline, SESSION)
    assert hookd.shut_down() == 0
    assert lifeline.is_open()
    kill(processes_with(environment["HOOKD_TEST_MARKER"]))


# The sentinel, which sees the supervisor's death when the worker cannot.

BLOCKED = LEFTOVERS + (
    # Holding the interpreter's lock, so that no thread can run.
    "import ctypes\nlibrary = ctypes.PyDLL(None)\nleftovers.started()\nlibrary.pause()\n"
)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def sentinel_of(hookd: Hookd) -> int:
    """The sentinel: the only child of an idle worker, when it has set its name."""
    (sentinel,) = children(hookd.pid)
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{sentinel}/comm").read_text() != "hookd-sentinel\n":
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return sentinel


@LEFT
def test_hook_that_blocks_in_c(start: Start, lifeline: Lifeline, code: str) -> None:
    hookd = start(isolation="none")
    hookd.start_code(code + BLOCKED, line=lifeline.path)
    lifeline.wait_started(2)
    hookd.close_input()
    lifeline.wait_gone()
    assert hookd.wait() == -signal.SIGKILL


def test_hook_that_blocks_in_c_beside_a_thread_that_forks(start: Start, lifeline: Lifeline) -> None:
    hookd = start(isolation="none")
    code = LEFTOVERS + (
        "import subprocess, threading\n"
        "def fork():\n"
        "  while True:\n"
        "    subprocess.Popen(['sleep', '1000'], pass_fds=[leftovers.lifeline]).kill()\n"
        "threads = [threading.Thread(target=fork) for _ in range(3)]\n"
        "for thread in threads: thread.start()\n"
        "leftovers.started()\n"
        "threads[0].join()\n"
    )
    hookd.start_code(code, line=lifeline.path)
    lifeline.wait_started()
    hookd.close_input()
    lifeline.wait_gone()
    assert hookd.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.closerange(3, 1024)\n",
        "import os\nfor number in range(3, 100): os.dup2(0, number)\n",
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, list(signal.Signals))\n",
        "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n",
    ],
    ids=["closes all", "overwrites all", "blocks signals", "reaps nothing"],
)
def test_blocked_hook_that_disturbed_its_worker(
    start: Start, lifeline: Lifeline, code: str
) -> None:
    hookd = start(isolation="none")
    hookd.start_code(code + CHILD + BLOCKED, line=lifeline.path)
    lifeline.wait_started(2)
    hookd.close_input()
    lifeline.wait_gone()
    assert hookd.wait() == -signal.SIGKILL


@pytest.mark.parametrize("code", [None, HANG, BLOCKED], ids=["idle", "hangs", "blocked"])
def test_suspended_worker_ends_with_the_input(
    start: Start, lifeline: Lifeline, code: str | None
) -> None:
    hookd = start(isolation="none")
    sentinel = sentinel_of(hookd)
    if code is not None:
        hookd.start_code(CHILD + code, line=lifeline.path)
        lifeline.wait_started(2)
    os.killpg(hookd.pid, signal.SIGSTOP)
    assert os.waitid(os.P_PID, hookd.pid, os.WSTOPPED | os.WNOWAIT) is not None
    hookd.close_input()
    assert hookd.wait() == -signal.SIGKILL
    assert wait_for_end([sentinel], PATIENCE) == []
    if code is not None:
        lifeline.wait_gone()


def test_hooks_do_not_meet_the_sentinel(start: Start) -> None:
    hookd = start(isolation="none")
    sentinel = sentinel_of(hookd)
    reply = hookd.run_code(
        "import multiprocessing, os\n"
        "pid = os.fork()\n"
        "if pid == 0: os._exit(3)\n"
        "assert os.wait() == (pid, 768)\n"
        "assert multiprocessing.active_children() == []\n"
        "for wait in (\n"
        "  os.wait,\n"
        "  lambda: os.wait3(0),\n"
        "  lambda: os.waitpid(-1, 0),\n"
        "  lambda: os.waitid(os.P_ALL, 0, os.WEXITED),\n"
        f"  lambda: os.waitpid({sentinel}, os.WNOHANG),\n"
        "):\n"
        "  try: result.append(str(wait()))\n"
        "  except ChildProcessError: pass\n"
    )
    assert reply.result == []
    assert children(hookd.pid) == [sentinel]
    assert hookd.shut_down() == 0


def test_sentinel_holds_nothing_but_the_input(start: Start) -> None:
    hookd = start(isolation="none")
    sentinel = sentinel_of(hookd)
    (descriptor,) = os.listdir(f"/proc/{sentinel}/fd")
    link = f"/proc/{sentinel}/fd/{descriptor}"
    assert os.path.samestat(os.stat(link), os.fstat(hookd.input.fileno()))
    with open(f"/proc/{sentinel}/fdinfo/{descriptor}") as file:
        flags = next(line for line in file if line.startswith("flags:"))
    assert int(flags.split()[1], 8) & os.O_ACCMODE == os.O_RDONLY
    assert os.getsid(sentinel) == sentinel


def test_sentinel_reads_no_input(start: Start) -> None:
    hookd = start(isolation="none")
    sentinel_of(hookd)
    for number in range(100):
        assert hookd.run_code(f"result = ['{number}']").result == [str(number)]


@pytest.mark.parametrize("end", ["shutdown", "end of input", "SIGTERM", "SIGINT"])
def test_sentinel_is_reaped_by_a_worker_that_ends(start: Start, end: str) -> None:
    hookd = start(isolation="none")
    sentinel = sentinel_of(hookd)
    if end == "shutdown":
        hookd.write("shutdown")
        assert hookd.until("SHUTDOWN") == [("SHUTDOWN", "")]
    elif end == "end of input":
        hookd.close_input()
    else:
        os.kill(hookd.pid, signal.Signals[end])
    code = hookd.wait()
    assert code == (-signal.Signals[end] if end.startswith("SIG") else 0)
    assert not Path(f"/proc/{sentinel}").exists()


@pytest.mark.parametrize("code", [None, HANG], ids=["idle", "hook"])
def test_sentinel_dies_with_a_killed_worker(
    start: Start, lifeline: Lifeline, code: str | None
) -> None:
    hookd = start(isolation="none")
    sentinel = sentinel_of(hookd)
    if code is not None:
        hookd.start_code(code, line=lifeline.path)
        lifeline.wait_started()
    os.kill(hookd.pid, signal.SIGKILL)
    assert hookd.wait() == -signal.SIGKILL
    assert wait_for_end([sentinel], PATIENCE) == []


def test_worker_outlives_its_sentinel(start: Start) -> None:
    hookd = start(isolation="none")
    os.kill(sentinel_of(hookd), signal.SIGKILL)
    assert hookd.run_code("result = ['here']").result == ["here"]
    assert hookd.shut_down() == 0


def test_thread_in_place_of_the_sentinel(start: Start, lifeline: Lifeline, site: Path) -> None:
    """A process with threads cannot be forked safely."""
    code = "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True)"
    (site / "sitecustomize.py").write_text(code + ".start()\n")
    hookd = start(isolation="none", ready=False)
    assert ("DEBUG", "clone: there are 2 threads") in hookd.until("READY")
    assert children(hookd.pid) == []
    hookd.start_code(CHILD + HANG, line=lifeline.path)
    lifeline.wait_started(2)
    hookd.close_input()
    lifeline.wait_gone()
    assert hookd.wait() == -signal.SIGKILL


def test_no_sentinel_without_control(start: Start) -> None:
    assert children(start(isolation="none", control=False).pid) == []
