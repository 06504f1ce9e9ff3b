"""Isolation `hook`: hook processes, what they leave behind, and who ends with whom."""

from __future__ import annotations

import ast
import ctypes
import functools
import json
import os
import resource
import signal
import threading
from pathlib import Path

import pytest
from client import HOOKD, Hookd, Lifeline, Reply, wait_for_end
from conftest import Start

# Code for hooks.
LEFTOVERS = "import os, signal, leftovers\nleftovers.open_lifeline(settings['line'])\n"
HANG = LEFTOVERS + "leftovers.hang()\n"
CHILD = LEFTOVERS + "leftovers.child()\n"
OTHER_GROUP = LEFTOVERS + "leftovers.child_in_other_group()\n"
DAEMON = LEFTOVERS + "leftovers.daemon()\n"


@pytest.mark.parametrize(
    "code, expected",
    [
        ("import os; os._exit(3)", {"exit_code": 3}),
        ("import os; os._exit(0)", {"exit_code": 0}),
        ("import os; os.kill(os.getpid(), 11)", {"signal": "SIGSEGV"}),
        ("import os; os.kill(os.getpid(), 9)", {"signal": "SIGKILL"}),
        ("import ctypes; ctypes.string_at(0)", {"signal": "SIGSEGV"}),
        ("import os; os.execv('/bin/sh', ['sh', '-c', 'exit 5'])", {"exit_code": 5}),
    ],
)
def test_crash(start: Start, code: str, expected: dict[str, object]) -> None:
    hookd = start()
    kind, error = hookd.run_code(code).error
    message = error.pop("message")
    assert (kind, error) == ("HookCrashed", expected)
    assert message.endswith("while the hook ran")
    assert hookd.run("sample_module").result, "the worker lives on"


def test_crash_is_a_runtime_error_to_old_callers(start: Start) -> None:
    reply = start(json=False).run_code("import os; os._exit(3)")
    assert reply.value("ERROR").startswith(
        "HookRuntimeError the hook process ended with exit code 3"
    )


def test_crash_while_importing_and_in_exit_handlers(start: Start, tree: Path) -> None:
    (tree / "dies.py").write_text("import os; os._exit(7)")
    hookd = start()
    _, error = hookd.run("dies", backend_path=(".",)).error
    assert error["message"].endswith("while the backend was imported")
    _, error = hookd.run_code("import atexit, os; atexit.register(os._exit, 8)").error
    assert error["exit_code"] == 8
    assert "after the hook had returned" in error["message"]


def test_tidy_end(start: Start, tree: Path) -> None:
    """What runs at the end of a fresh process runs here, too, in the same order."""
    code = """
import atexit, threading, time, weakref, logging.handlers, concurrent.futures, io
log = open("log", "w")
go = threading.Event()
def work():
    go.wait()
    print("thread", file=log)
threading.Thread(target=work).start()
atexit.register(lambda: print("exit handler", file=log))
atexit.register(go.is_set)
class Thing: pass
thing = Thing()
weakref.finalize(thing, print, "finalizer", file=log)
pool = concurrent.futures.ThreadPoolExecutor()
pool.submit(go.set)
binary = open("binary", "wb")
binary.write(b"written")
buffered = logging.handlers.MemoryHandler(100, target=logging.FileHandler("logging"))
buffered.emit(logging.makeLogRecord({"msg": "logged", "levelno": 20}))
def broken():
    raise ValueError("in an exit handler")
atexit.register(broken)
import builtins
builtins.kept = globals()
print("unflushed output", end="")
"""
    reply = start().run_code(code)
    assert reply.result == []
    assert (tree / "log").read_text().split("\n") == ["thread", "finalizer", "exit handler", ""]
    assert (tree / "binary").read_bytes() == b"written"
    assert (tree / "logging").read_text() == "logged\n"
    assert reply.captured("STDOUT") == "unflushed output"
    assert "in an exit handler" in reply.captured("STDERR")


def test_hook_that_closes_all_descriptors(start: Start, tree: Path) -> None:
    code = """
import atexit, builtins, os
atexit.register(lambda: open("ended tidily", "w"))
os.closerange(3, {})
builtins.kept = [open(str(n), "w") for n in range(250)]
"""
    hookd = start()
    assert hookd.run_code(code.format(100)).result == []
    kind, error = hookd.run_code(code.format(1000)).error
    assert (kind, error["exit_code"]) == ("HookCrashed", 70)
    assert "it could not report its result (it closed or replaced file" in error["message"]
    assert all(not path.read_bytes() for path in tree.iterdir())
    assert (tree / "ended tidily").exists()


def test_few_descriptors_are_allowed(start: Start) -> None:
    hookd = start()
    resource.prlimit(hookd.pid, resource.RLIMIT_NOFILE, (100, 100))
    assert hookd.run("sample_module").result


# Bytes on the pipes that are not of the hook process's own making. %s is what to write, and to
# which of them: 0 is the one for the outcome, 1 the one for what the hook process does.
FORGE = """
import json, os, time
def outcome(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return b"O" + len(data).to_bytes(8, "big") + data
def failure(**changes):
    details = {"exception": None, "unsupported_operation": False}
    value = {"kind": "HookRuntimeError", "message": "", "details": details, "traceback": None}
    value.update(changes)
    return outcome({**dict.fromkeys(members), "failure": value})
def result(value, imported=None, observed=None):
    parts = {"result": value, "imported": imported, "observed": observed}
    return outcome({**dict.fromkeys(members), **parts})
def observed(**changes):
    names = ("variables", "programs", "network", "outside", "written")
    value = dict({name: [] for name in names}, environment_taken=False, truncated=False)
    value.update(changes)
    return result(["forged"], None, value)
members = ("result", "failure", "imported", "shadowed", "observed")
pipes = []
for descriptor in sorted(map(int, os.listdir("/proc/self/fd"))):
    try:
        if descriptor > 2 and os.readlink("/proc/self/fd/%%d" %% descriptor).startswith("pipe:"):
            pipes.append(descriptor)
    except OSError:
        pass
os.write(pipes[%d], %s)
"""
WAIT = "time.sleep(1000)\n"

FORGED = [
    "b'x'",
    "b'C\\xff'",
    "b'O' + b'\\xff' * 8",
    "b'O' + (33 << 20).to_bytes(8, 'big')",
    "outcome(b'')",
    "outcome(b'{')",
    "outcome(b'\\xff')",
    "outcome(b'[' * 50000)",
    "outcome(b'9' * 50000)",
    "outcome([])",
    "outcome({})",
    "outcome({'result': [], 'failure': None})",
    "result('text')",
    "result(None)",
    "result([1])",
    "result([], 1)",
    "result([], [{'name': 1}])",
    "result([], None, {})",
    "observed(written='a')",
    "observed(outside=[1])",
    "observed(truncated=None)",
    "observed(more=[])",
    "failure(kind='READY')",
    "failure(kind=['x'])",
    "failure(message=None)",
    "failure(details=None)",
    "failure(details={'exception': 1, 'unsupported_operation': False})",
    "failure(traceback=[])",
]


@pytest.mark.parametrize("control", [True, False])
def test_forged_results(start: Start, control: bool) -> None:
    hookd = start(control=control)
    for forged in FORGED:
        kind, error = hookd.run_code(FORGE % (0, forged) + WAIT).error
        assert kind == "HookCrashed", forged
        assert error["message"].endswith("while the hook ran: its result was unreadable"), forged
    for forged in ("result(['forged'])", "observed()", "observed(written=None)"):
        assert hookd.run_code(FORGE % (0, forged) + WAIT).result == ["forged"]
    assert hookd.run("sample_module").result, "the worker lives on"


def test_endless_result(start: Start) -> None:
    hookd = start()
    endless = "while 1: os.write(pipes[0], b'C' * 65536)\n"
    assert hookd.run_code(FORGE % (0, "b'C'") + endless).error[0] == "HookCrashed"
    endless = "while 1: os.write(pipes[0], b'9' * 65536)\n"
    assert hookd.run_code(FORGE % (0, "outcome(b'9' * 65536)[:-1]") + endless).error[0] == (
        "HookCrashed"
    )
    assert hookd.run("sample_module").result, "the worker lives on"


def test_exit_handler_that_forks_and_comes_back(start: Start) -> None:
    """Only the hook process reports an outcome, not the copy that it forked."""
    hookd = start()
    code = "import atexit, os; atexit.register(os.fork); result = ['x' * 1000000]"
    for _ in range(5):
        assert hookd.run_code(code).result == ["x" * 1000000]


def test_forged_phases(start: Start) -> None:
    """They say in which phase a hook process died, and do not delay it."""
    hookd = start()
    crash = "os.kill(os.getpid(), 9)\n"
    message = hookd.run_code(FORGE % (1, "b'C'") + crash).error[1]["message"]
    assert message == "the hook process was killed by SIGKILL while the hook ran"
    message = hookd.run_code(FORGE % (1, "b'\\xff'") + crash).error[1]["message"]
    assert message == "the hook process was killed by SIGKILL at a time that is not known"
    full = """
try:
    while True:
        os.write(pipes[1], b"x" * 4096)
except BlockingIOError:
    result = []
"""
    assert hookd.run_code(FORGE % (1, "b'x'") + full).result == []


LEAKS = """
import locale, logging, os, signal, sys
os.chdir("/")
os.umask(0o777)
os.environ["LEAKED"] = "1"
locale.setlocale(locale.LC_ALL, "C")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
sys.path.insert(0, "leaked")
sys.argv.append("leaked")
logging.basicConfig(level=1)
sys.modules["leaked"] = sys
sys.stdout = None
"""
STATE = """
import os, signal, sys, logging, locale
mask = os.umask(0)
result = [str(value) for value in (
    os.getcwd(), mask, sorted(os.environ.items()), locale.setlocale(locale.LC_ALL),
    signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, signal.getsignal(signal.SIGINT).__name__,
    signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
    signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN,
    sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    sys.path, sys.argv, logging.getLogger().handlers, "leaked" in sys.modules, bool(sys.stdout),
    signal.set_wakeup_fd(-1), "hookd" in sys.modules, sorted(os.listdir("/proc/self/fd")),
)]
"""


def test_no_state_is_passed_on(start: Start, environment: dict[str, str]) -> None:
    hookd = start()
    before = hookd.run_code(STATE).result
    assert hookd.run_code(LEAKS).result == []
    assert hookd.run_code(STATE).result == before
    assert before[4:9] == ["True", "default_int_handler", "True", "True", "[]"]
    assert before[14:16] == ["-1", "False"]
    # 0 to 2, two pipes, and the listing's own.
    assert len(ast.literal_eval(before[16])) == 6
    seen = dict(ast.literal_eval(before[2]))
    assert {name: seen.get(name) for name in environment} == environment
    # Set by Python itself (PEP 538), and for a hookpool that a hook starts.
    assert set(seen) - set(environment) - {"LC_CTYPE"} == {"HOOKPOOL_WITHIN"}


def test_edits_are_seen(start: Start, tree: Path) -> None:
    hookd = start()
    for name in ("first", "second"):
        # Of the same size and within one second: only the content differs.
        code = "def get_requires_for_build_wheel(_): return ['{:6}']".format(name)
        (tree / "edited.py").write_text(code)
        reply = hookd.run("edited", backend_path=(".",))
        assert reply.result == ["{:6}".format(name)]
        for cached in tree.rglob("*.pyc"):
            cached.unlink()


def test_folders_that_come_later_are_seen(
    start: Start, tmp_path: Path, environment: dict[str, str]
) -> None:
    """A folder on sys.path that did not exist at first is found when it exists."""
    folder = tmp_path / "later"
    environment["PYTHONPATH"] = str(folder) + os.pathsep + environment["PYTHONPATH"]
    hookd = start()
    assert hookd.run("later").error[0] == "MissingBackendModule"
    folder.mkdir()
    (folder / "later.py").write_text("def get_requires_for_build_wheel(_): return ['later']")
    assert hookd.run("later").result == ["later"]


def test_same_module_name_in_two_trees(start: Start, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        code = "def get_requires_for_build_wheel(_): return ['{}']".format(name)
        (tmp_path / name / "backend.py").write_text(code)
    hookds = {name: start(tree=tmp_path / name) for name in ("one", "two")}
    for name in ("one", "two", "one"):
        assert hookds[name].run("backend", backend_path=(".",)).result == [name]


# Control while a hook runs.


def started(hookd: Hookd, lifeline: Lifeline, code: str, count: int = 1) -> None:
    """Start a hook, and wait until it has written that many bytes to the lifeline."""
    hookd.start_code(code, line=lifeline.path)
    lifeline.wait_started(count)
    hookd.until("STDERR")


def test_ping_while_a_hook_runs(start: Start, lifeline: Lifeline) -> None:
    hookd = start()
    started(hookd, lifeline, HANG)
    hookd.write("ping one two", "ping")
    assert hookd.message() == ("PONG", "one two")
    assert hookd.message() == ("PONG", "")
    hookd.write("cancel SIGKILL")
    assert hookd.ready().error[0] == "HookCrashed"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGUSR1"])
def test_cancel(start: Start, lifeline: Lifeline, name: str) -> None:
    hookd = start()
    hookd.write("cancel " + name)
    started(hookd, lifeline, CHILD + HANG, 2)
    hookd.write("cancel NONSENSE", "cancel " + name)
    reply = hookd.ready()
    assert reply.kinds == ["DEBUG", "ERROR"]
    kind, error = reply.error
    assert (kind, error["signal"]) == ("HookCrashed", name)
    lifeline.wait_gone()
    assert hookd.run("sample_module").result


def test_cancel_with_sigint_can_be_handled(start: Start, lifeline: Lifeline) -> None:
    hookd = start()
    started(hookd, lifeline, HANG)
    hookd.write("cancel SIGINT")
    kind, error = hookd.ready().error
    assert (kind, error["exception"]) == ("HookRuntimeError", "KeyboardInterrupt")


def test_stop_and_continue(start: Start, lifeline: Lifeline) -> None:
    hookd = start()
    started(hookd, lifeline, HANG)
    hookd.write("cancel SIGSTOP", "ping stopped", "cancel SIGCONT", "cancel SIGTERM")
    assert hookd.message() == ("PONG", "stopped")
    assert hookd.ready().error[1]["signal"] == "SIGTERM"


def test_requests_ahead_keep_their_place(start: Start, lifeline: Lifeline) -> None:
    """A ping behind the next request is answered while that request's hook runs."""
    hookd = start()
    code = (
        LEFTOVERS
        + """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
leftovers.started()
signal.sigwait([signal.SIGUSR1])
"""
    )
    started(hookd, lifeline, code)
    hookd.write(*hookd.request("sample_module"), "ping after")
    os.kill(children_of(hookd)[0], signal.SIGUSR1)
    assert hookd.ready().kinds == ["OK"]
    reply = hookd.ready()
    assert reply.result[0] == "wheel >= 0.25"
    assert reply.kinds == ["STDOUT", "STDERR", "PONG", "OK"]


def test_cancel_that_came_with_its_request(start: Start, lifeline: Lifeline) -> None:
    hookd = start()
    payload = json.dumps({"code": "import signal; signal.pause()"})
    hookd.write(
        *hookd.request("run_code", "get_requires_for_build_wheel", payload), "cancel SIGKILL"
    )
    assert hookd.ready().error[1]["signal"] == "SIGKILL"


def children_of(hookd: Hookd) -> list[int]:
    """The worker's children, including zombies."""
    children = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == hookd.pid:
                children.append(int(entry))
    return children


def test_control_is_off_by_default(start: Start) -> None:
    hookd = start(control=False)
    for action in ("ping x", "cancel SIGTERM"):
        hookd.write(action)
        assert hookd.ready().error[0] == "InvalidAction"


def test_messages_with_everything_on(start: Start) -> None:
    hookd = start("--report-imports")
    reply = hookd.run("sample_module")
    assert reply.kinds == ["STDOUT", "STDERR", "OK", "IMPORTED"]
    reply = hookd.run("fails_to_import")
    assert reply.kinds == ["STDOUT", "STDERR", "ERROR", "TRACEBACK", "IMPORTED"]


# What a hook leaves behind.


def reply_to(hookd: Hookd, lifeline: Lifeline, code: str, count: int = 1) -> Reply:
    """Run a hook with code that writes to the lifeline, to its end."""
    hookd.start_code(code, line=lifeline.path)
    lifeline.wait_started(count)
    return hookd.ready()


@pytest.mark.parametrize("code", [CHILD, OTHER_GROUP], ids=["child", "other group"])
def test_children_end_with_the_hook(start: Start, lifeline: Lifeline, code: str) -> None:
    """They do not delay the answer, though they hold its result pipe and output open."""
    hookd = start()
    assert reply_to(hookd, lifeline, code).result == []
    lifeline.wait_gone()
    assert hookd.shut_down() == 0


def test_detached_process_lives_on(start: Start, lifeline: Lifeline) -> None:
    hookd = start()
    assert reply_to(hookd, lifeline, DAEMON).result == []
    assert hookd.run("sample_module").result
    assert lifeline.is_open()
    hookd.write("shutdown")
    hookd.until("SHUTDOWN")
    # The worker stays as its keeper. That it does not end is not to be waited for; that the
    # detached process is its child still, and both live, can be seen.
    assert lifeline.is_open()
    assert len(children_of(hookd)) == 1
    assert hookd.process.poll() is None
    hookd.close_input()
    lifeline.wait_gone()
    assert hookd.wait() == 0


def test_lingering_ends_with_the_last_detached_process(start: Start, lifeline: Lifeline) -> None:
    hookd = start()
    reply_to(hookd, lifeline, DAEMON)
    hookd.write("shutdown")
    hookd.until("SHUTDOWN")
    os.kill(children_of(hookd)[0], signal.SIGKILL)
    assert hookd.wait() == 0


def test_detached_process_ends_with_the_input(start: Start, lifeline: Lifeline) -> None:
    hookd = start()
    reply_to(hookd, lifeline, DAEMON)
    hookd.close_input()
    lifeline.wait_gone()
    assert hookd.wait() == 0


def test_kill_detached(start: Start, lifeline: Lifeline) -> None:
    hookd = start("--kill-detached")
    reply_to(hookd, lifeline, DAEMON)
    assert not lifeline.is_open(), "it was killed before READY"
    assert hookd.shut_down() == 0


def test_no_zombies(start: Start) -> None:
    hookd = start()
    orphan = """
import os
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
    os._exit(0)
os.wait()
"""
    for _ in range(3):
        assert hookd.run_code(orphan).result == []
    # One that ends after the sweep is reaped as soon as the worker is told.
    while children_of(hookd):
        hookd.write("ping")
        hookd.message()


# Deaths.


@pytest.mark.parametrize("control", [True, False])
def test_end_of_input_while_a_hook_runs(start: Start, lifeline: Lifeline, control: bool) -> None:
    hookd = start(control=control)
    code = DAEMON + CHILD + OTHER_GROUP + HANG
    hookd.start_code(code, line=lifeline.path)
    lifeline.wait_started(4)
    hookd.close_input()
    lifeline.wait_gone()
    assert hookd.wait() == 0


def test_end_of_input_while_a_hook_runs_and_requests_wait(start: Start, lifeline: Lifeline) -> None:
    """When a supervisor's pipe ends, it is dead, whatever it wrote before."""
    hookd = start()
    started(hookd, lifeline, HANG)
    hookd.write(*hookd.request("sample_module"))
    hookd.close_input()
    lifeline.wait_gone()
    assert hookd.wait() == 0


def test_end_of_input_behind_a_flood(start: Start, lifeline: Lifeline) -> None:
    """The end is noticed even behind more input than the worker reads ahead."""
    hookd = start()
    started(hookd, lifeline, HANG)
    hookd.write_bytes(b"run\n" + b"x" * (16 << 20))
    hookd.write_bytes(b"y" * 1000)
    hookd.close_input()
    lifeline.wait_gone()
    assert hookd.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_signal_while_a_hook_runs(
    start: Start, lifeline: Lifeline, number: signal.Signals
) -> None:
    hookd = start()
    code = (
        LEFTOVERS
        + """
signal.signal({}, signal.default_int_handler)
try:
    leftovers.hang()
except KeyboardInterrupt:
    result = ["cleaned up"]
""".format(int(number))
    )
    started(hookd, lifeline, code)
    os.kill(hookd.pid, number)
    messages = hookd.until("OK")
    assert json.loads(messages[-1][1]) == ["cleaned up"]
    assert hookd.wait() == -number
    assert hookd.line() == b"", "no READY"


def test_worker_is_killed(start: Start, lifeline: Lifeline) -> None:
    hookd = start()
    started(hookd, lifeline, HANG)
    hookd.process.kill()
    lifeline.wait_gone()


def test_nobody_reads_the_output(start: Start, lifeline: Lifeline) -> None:
    hookd = start()
    started(hookd, lifeline, DAEMON + HANG, 2)
    hookd.output.close()
    hookd.write("ping")
    lifeline.wait_gone()
    assert hookd.wait() == 0


def test_no_fork(start: Start, site: Path) -> None:
    """If no process can be started, the request fails with that reason, and the worker lives on."""
    (site / "sitecustomize.py").write_text(
        "import errno, os\n"
        "def fork():\n"
        "    if not os.path.exists('may_fork'):\n"
        "        raise OSError(errno.EAGAIN, 'no more processes')\n"
        "    return real()\n"
        "real, os.fork = os.fork, fork\n"
    )
    hookd = start()
    kind, error = hookd.run("sample_module").error
    assert (kind, error["exception"]) == ("HookRuntimeError", "BlockingIOError")
    assert "did not start" in error["message"]
    hookd.run_code("open('may_fork', 'w')")
    assert hookd.run("sample_module").error


def test_no_descriptors(start: Start) -> None:
    hookd = start()
    hookd.write("ping")
    hookd.message()
    resource.prlimit(hookd.pid, resource.RLIMIT_NOFILE, (8, 8))
    hookd.write(*hookd.request("sample_module"))
    messages = hookd.until("FATAL")
    assert "STDOUT" not in [kind for kind, _ in messages]
    assert "Too many open files" in messages[-1][1]
    assert hookd.wait() == 1


POORER = {
    "no waitid": "import os; del os.waitid",
    "no poll": "import select; del select.poll",
    "no ctypes": "import sys; sys.modules['_ctypes'] = None",
    "no gc.freeze": "import gc; del gc.freeze",
    "no proc": (
        "import os, builtins\n"
        "listdir, real_open = os.listdir, open\n"
        "def no_listdir(path='.'):\n"
        "    if str(path).startswith('/proc'): raise FileNotFoundError(path)\n"
        "    return listdir(path)\n"
        "def no_open(path, *arguments, **options):\n"
        "    if str(path).startswith('/proc'): raise FileNotFoundError(path)\n"
        "    return real_open(path, *arguments, **options)\n"
        "os.listdir, builtins.open = no_listdir, no_open\n"
    ),
}


@pytest.mark.parametrize("lack", POORER)
def test_poorer_platforms(start: Start, site: Path, lifeline: Lifeline, lack: str) -> None:
    """The hook's process group is ended even where a system or interpreter lacks functions."""
    (site / "sitecustomize.py").write_text(POORER[lack])
    hookd = start()
    assert hookd.run("sample_module").result
    assert hookd.run_code("import os; os._exit(3)").error[1]["exit_code"] == 3
    assert hookd.run_code("import os; os.kill(os.getpid(), 9)").error[1]["signal"] == "SIGKILL"
    started(hookd, lifeline, CHILD + HANG, 2)
    hookd.write("ping")
    assert hookd.message() == ("PONG", "")
    hookd.write("cancel SIGTERM")
    assert hookd.ready().error[1]["signal"] == "SIGTERM"
    lifeline.wait_gone()
    other = Lifeline(site / "other")
    started(hookd, other, CHILD + HANG, 2)
    hookd.close_input()
    other.wait_gone()
    other.close()
    assert hookd.wait() == 0


@pytest.mark.parametrize("isolation", ["hook", "none"])
def test_death_of_the_starting_thread(
    interpreter: str, tree: Path, environment: dict[str, str], isolation: str
) -> None:
    """A death signal under which the worker was started is turned off by the first READY."""
    started: list[Hookd] = []
    command = [interpreter, str(HOOKD), "--control", "--isolation", isolation, str(tree)]

    def start() -> None:
        # prctl(PR_SET_PDEATHSIG, SIGKILL) between fork and exec, as a supervisor does.
        set_death_signal = functools.partial(ctypes.CDLL(None).prctl, 1, signal.SIGKILL)
        hookd = Hookd(command, environment, tree.parent / "log", set_death_signal)
        hookd.ready()
        started.append(hookd)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    started[0].write("ping alive")
    assert started[0].message() == ("PONG", "alive")
    started[0].finish()


def test_callbacks_of_hooks(start: Start) -> None:
    """Though hookd uses ctypes, no file stays open, and hooks can use ctypes."""
    code = "import os, ctypes; kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)\n"
    code += "callbacks = [kind(lambda n, more=more: n + more) for more in range(1000)]\n"
    code += "result = [str(sum(callback(1) for callback in callbacks))]"
    assert start().run_code(code).result == ["500500"]


def test_memory_is_not_to_be_written_and_run(
    interpreter: str, tree: Path, environment: dict[str, str], capture_folder: Path
) -> None:
    """Where that is forbidden, ctypes needs a file, and gets one."""
    # linux/prctl.h: PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN (Linux 6.3)
    forbid = functools.partial(ctypes.CDLL(None).prctl, 65, 1, 0, 0, 0)
    command = [interpreter, str(HOOKD), "--control", "--isolation", "hook", "--json"]
    command += ["--capture-dir", str(capture_folder), str(tree)]
    hookd = Hookd(command, environment, tree.parent / "log", forbid)
    # Nothing is missing, or it would say so.
    assert "DEBUG" not in hookd.ready().kinds
    assert hookd.run("sample_module").result
    hookd.finish()


def test_idle_costs_nothing(start: Start) -> None:
    """The worker sleeps in one system call without a timeout."""
    hookd = start()
    hookd.run("sample_module")

    def cost() -> list[str]:
        status = Path("/proc/{}/status".format(hookd.pid)).read_text().splitlines()
        return [line for line in status if "ctxt_switches" in line]

    hookd.write("ping")
    hookd.message()
    first = cost()
    # A second worker's whole life is a good while.
    other = start()
    assert other.run("sample_module").result
    other.close_input()
    wait_for_end([other.pid], 5)
    after = cost()
    # It may have gone to sleep only after the first look.
    assert sum(int(line.split()[1]) for line in after) <= 2 + sum(
        int(line.split()[1]) for line in first
    )


@pytest.mark.parametrize("isolation", ["hook", "none"])
def test_hooks_know_the_trees_that_they_are_of(
    start: Start, environment: dict[str, str], tree: Path, isolation: str
) -> None:
    """For a supervisor; see `ServedTree`."""
    own = "{0.st_dev}:{0.st_ino}".format(tree.stat())
    code = "import os; result = [os.environ.get('HOOKPOOL_WITHIN', 'nothing')]"
    assert start(isolation=isolation).run_code(code).result == [own]
    assert start(isolation=isolation, control=False).run_code(code).result == ["nothing"]
    environment["HOOKPOOL_WITHIN"] = "1:2"
    assert start(isolation=isolation).run_code(code).result == ["1:2 " + own]
