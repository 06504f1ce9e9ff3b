"""`--template`: forking and reaping workers."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import zipfile
from pathlib import Path

import pytest
from client import HOOKD, Hookd, Lifeline, wait_for_end
from conftest import Start
from template_client import StartTemplate, Template

pytest_plugins = ["template_fixture"]

BOTH = pytest.mark.parametrize("isolation", ["hook", "none"])

LEFTOVERS = "import os, signal, leftovers\nleftovers.open_lifeline(settings['line'])\n"
HANG = LEFTOVERS + "leftovers.hang()\n"
DAEMON_AND_HANG = LEFTOVERS + "leftovers.daemon()\nleftovers.hang()\n"


def test_start(start_template: StartTemplate, environment: dict[str, str]) -> None:
    template = start_template()
    started = template.started
    assert environment["PYTHONPATH"] in started["path"]
    assert [environment["PYTHONPATH"], Path(environment["PYTHONPATH"]).stat().st_mtime_ns] in (
        started["folders"]
    )
    # Also those that do not exist, such as an archive of the standard library: they may come.
    assert [path for path, _ in started["folders"]] == started["path"]
    assert None in [modified for _, modified in started["folders"]]
    names = {module["name"] for module in started["modules"]}
    assert "json" in names
    assert not any(name.startswith("hookd") for name in names)
    module = next(module for module in started["modules"] if module["name"] == "json")
    status = os.stat(module["file"])
    assert module == {
        "name": "json",
        "file": module["file"],
        "device": status.st_dev,
        "inode": status.st_ino,
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }


# It imports something, and so has the import system look at folders.
FINDER = """
import sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None
    @staticmethod
    def invalidate_caches():
        print("told to forget", flush=True)
        import early
sys.meta_path.append(Finder)
"""


def test_folders_are_looked_at_anew(start_template: StartTemplate, site: Path) -> None:
    """Hooks see files that are newer than the template, even if modification times are the same."""
    (site / "early.py").write_text("")
    archive = site / "archive.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped_early.py", "")
    # As a .pth file would.
    text = "import sys; sys.path.append({!r}); import zipped_early".format(str(archive))
    (site / "sitecustomize.py").write_text(text + FINDER)
    template = start_template()
    hookd = template.fork_worker()
    code = "import importlib; importlib.import_module(settings['name'])"
    assert hookd.run_code(code, name="late").error[1]["exception"] == "ModuleNotFoundError"
    template.import_backend("early")
    template.import_learned("importlib.metadata")
    before = site.stat()
    (site / "late.py").write_text("")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("zipped_late.py", "")
    os.utime(site, ns=(before.st_atime_ns, before.st_mtime_ns))
    for worker in (hookd, template.fork_worker()):
        reply = worker.run_code(code, name="late")
        assert reply.result == []
        # Finders that are not Python's own are told in the hook process.
        assert reply.captured("STDOUT") == "told to forget\n"
        assert worker.run_code(code, name="zipped_late").result == []


def test_package_of_the_name_of_hookd(start_template: StartTemplate, site: Path) -> None:
    (site / "hookd").mkdir()
    (site / "hookd" / "__init__.py").write_text("MINE = True")
    template = start_template()
    template.import_backend("hookd")
    hookd = template.fork_worker()
    code = "import sys; result = [str('hookd' in sys.modules)]; import hookd; assert hookd.MINE"
    assert hookd.run_code(code).result == ["True"]


@BOTH
def test_hooks(start_template: StartTemplate, isolation: str) -> None:
    template = start_template()
    template.import_backend("sample_module")
    hookd = template.fork_worker(isolation=isolation)
    assert hookd.run("sample_module").result == ["wheel >= 0.25", "[null]"]
    assert hookd.run_code("print('shown'); result = ['x']").captured("STDOUT") == "shown\n"
    assert hookd.run_code("import os; os.write(2, b'!')").captured("STDERR") == "!"
    hookd.write("ping 1")
    assert hookd.message() == ("PONG", "1")
    assert hookd.shut_down() == 0
    assert hookd.log.read_text() == ""
    assert template.log.read_text() == ""


def test_workers_are_apart(start_template: StartTemplate, lifeline: Lifeline) -> None:
    """The death of one does not affect another, and they share no descriptors."""
    template = start_template()
    one, two = template.fork_worker(), template.fork_worker()
    two.start_code(HANG, line=lifeline.path)
    lifeline.wait_started()
    assert one.run("sample_module").result
    one.output.close()
    os.kill(one.pid, signal.SIGKILL)
    assert one.wait() == -signal.SIGKILL
    two.write("ping 1")
    two.until("PONG")
    two.write("cancel SIGTERM")
    assert two.ready().error[0] == "HookCrashed"
    assert two.shut_down() == 0


# What a process finds when it starts: the same for a worker's hook, however the worker came to be.
LOOK = """
import json, os, signal, sys
os.environ.pop("HOOKD_TEST_MARKER")
def name(handler):
    return getattr(handler, "__qualname__", None) or str(handler)
status = open("/proc/self/status").read().splitlines()
NAMES = ("SigBlk", "SigIgn", "SigCgt", "Threads", "Umask", "NoNewPrivs")
fields = [line for line in status if line.startswith(NAMES)]
links = {}
for number in os.listdir("/proc/self/fd"):
    try:
        links[number] = os.readlink("/proc/self/fd/" + number)
    except OSError:
        pass
result = [json.dumps(each) for each in (
    sys.path, sys.argv, dict(os.environ), os.getcwd(), fields, sys.flags[:],
    [name(signal.getsignal(number)) for number in signal.Signals],
    sorted(key if int(key) > 2 else key + links[key].partition("-")[0] for key in links),
    [str(each) for each in (sys.stdin, sys.stderr)],
    [name(each) for each in [*map(type, sys.meta_path), *sys.path_hooks]],
    [getattr(sys, "orig_argv", [])[:2], os.getpgrp() == os.getsid(0) == os.getpid()],
    [each for each in sys.modules if each.startswith("hookd")],
    sys.modules["__main__"].__file__, os.umask(0), os.getpriority(os.PRIO_PROCESS, 0),
)]
"""


@BOTH
def test_as_if_spawned(start: Start, start_template: StartTemplate, isolation: str) -> None:
    spawned = start(isolation=isolation).run_code(LOOK).result
    template = start_template()
    template.import_backend("run_code")
    forked = template.fork_worker(isolation=isolation).run_code(LOOK).result
    assert forked == spawned


def test_forked_processes_share_memory(start: Start, start_template: StartTemplate) -> None:
    """The garbage collector would write to all objects that it looks at."""
    code = "import gc\nresult = [str(gc.get_freeze_count()), str(len(gc.get_objects()))]"
    # One process that was forked from a worker, and one from a template.
    for hookd in (start(), start_template().fork_worker(isolation="none")):
        frozen, others = map(int, hookd.run_code(code).result)
        assert frozen > others


def test_template_imports_little(start: Start, start_template: StartTemplate) -> None:
    """A forked worker has no more modules than a spawned one, but for some in C."""
    code = "import sys; result = [name for name in sys.modules]"
    spawned = start().run_code(code).result
    forked = start_template().fork_worker().run_code(code).result
    assert set(forked) - set(spawned) <= {"_socket"}


def test_as_if_spawned_command_line(start: Start, start_template: StartTemplate) -> None:
    code = """
import os, sys
result = getattr(sys, "orig_argv", [])
result = [os.path.basename(each) if "capture" in each else each for each in result]
"""
    spawned = start().run_code(code).result
    forked = start_template().fork_worker().run_code(code).result
    assert [each.replace("template-capture", "capture") for each in forked] == spawned


def test_worker_process(start: Start, start_template: StartTemplate) -> None:
    """The worker process, seen from outside."""

    def descriptors(hookd: Hookd) -> dict[int, str]:
        folder = Path("/proc", str(hookd.pid), "fd")
        return {int(link.name): os.readlink(link).partition(":")[0] for link in folder.iterdir()}

    def signals(hookd: Hookd) -> list[str]:
        status = Path("/proc", str(hookd.pid), "status").read_text().splitlines()
        return [line for line in status if line.startswith(("SigBlk", "SigIgn", "SigCgt", "Umask"))]

    spawned = start()
    spawned.run("sample_module")
    template = start_template()
    template.fork_worker()
    forked = template.fork_worker()
    forked.run("sample_module")
    ours = {key: value for key, value in descriptors(forked).items() if "/log-" not in value}
    theirs = {key: value for key, value in descriptors(spawned).items() if "/log-" not in value}
    assert ours == theirs
    assert ours[0] == ours[1] == ours[2] == os.devnull
    assert "socket" not in ours.values()
    assert signals(forked) == signals(spawned)
    assert os.getsid(forked.pid) == os.getpgid(forked.pid) == forked.pid
    assert os.readlink("/proc/{}/cwd".format(forked.pid)) == template.tree
    assert os.readlink("/proc/{}/cwd".format(template.process.pid)) == "/"


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--isolation", "x", "."], "--isolation: 'x' is not an isolation, expected"),
        (["--template", "0"], "the arguments are none of a worker"),
        (["--help"], "the arguments are none of a worker"),
    ],
)
def test_wrong_worker_arguments(
    start_template: StartTemplate, arguments: list[str], expected: str
) -> None:
    template = start_template()
    template.send_fork(*arguments)
    assert template.find("not_forked")["reason"].startswith(expected)
    assert template.fork_worker().run("sample_module").result


def test_worker_without_a_tree(start_template: StartTemplate) -> None:
    """Folders are looked at in the worker: they may be on a disk that does not respond."""
    template = start_template()
    hookd = template.fork("/no/such/tree")
    assert hookd.wait() == 2
    assert hookd.line() == b""
    expected = "hookd: TREE: expected a folder, got '/no/such/tree': it does not exist\n"
    assert hookd.log.read_text() == expected
    assert template.fork_worker().run("sample_module").result


def test_tree_that_is_no_utf8(start_template: StartTemplate, tree: Path) -> None:
    """It is decoded as on the command line of an interpreter."""
    path = os.fsencode(tree) + b"/\xc3\xa4\xff"
    os.mkdir(path)
    template = start_template()
    text = path.decode("utf-8", "surrogateescape")
    hookd = template.fork_worker(tree=text)
    assert hookd.run_code("import os; result = [os.fsencode(os.getcwd()).hex()]").result == [
        path.hex()
    ]


# Refusals.


def test_malformed_forks(start_template: StartTemplate, tree: Path) -> None:
    template = start_template()
    null = os.open(os.devnull, os.O_RDWR)
    before = os.listdir("/proc/{}/fd".format(template.process.pid))
    for arguments, count, reason in [
        ([str(tree)], 0, "0 descriptors came, not 3"),
        ([str(tree)], 2, "2 descriptors came, not 3"),
        ([str(tree)], 4, "4 descriptors came, not 3"),
        ([str(tree)], 30, "descriptors came, not 3"),
        ([1], 3, "the arguments are no list of strings"),
        (None, 3, "the arguments are no list of strings"),
        (["\ud800"], 3, "an argument has no bytes: "),
    ]:
        template.send({"fork": 5, "arguments": arguments}, [null] * count)
        answer = template.find("not_forked")
        assert answer["not_forked"] == 5
        assert reason in answer["reason"]
    for number in ("7", None, 1.5, [True]):
        template.send({"fork": number, "arguments": [str(tree)]}, [null] * 3)
        assert template.find("not_forked")["not_forked"] is None
    # Closed after the answer.
    template.wait_idle()
    assert os.listdir("/proc/{}/fd".format(template.process.pid)) == before
    os.close(null)
    assert template.fork_worker().run("sample_module").result


def test_packets_that_are_none(start_template: StartTemplate) -> None:
    template = start_template()
    for data in (b"{", b"[]", b"\xff", b"1", b"[" * 100_000, b'{"x": "' + b"x" * 300_000 + b'"}'):
        template.socket.setsockopt(1, 7, 1 << 20)
        template.send(data)
    template.send({"unknown": 1})
    template.send({"backend": 1})
    template.send({"learned": [1]})
    template.send({"reap": "x"})
    assert template.fork_worker().run("sample_module").result
    assert template.log.read_text().count("a packet was ignored") == 6


def test_fork_that_fails(start_template: StartTemplate) -> None:
    if os.getuid() == 0:
        pytest.skip("root has no limit of processes")
    template = start_template()
    resource.prlimit(template.process.pid, resource.RLIMIT_NPROC, (1, 1))
    template.send_fork("/")
    assert template.find("not_forked")["reason"] == "fork: Resource temporarily unavailable"


def test_fork_with_threads(start_template: StartTemplate, site: Path) -> None:
    (site / "threaded.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    template = start_template()
    outcome = template.import_backend("threaded")
    assert (outcome["spoilt"], outcome["reason"]) == (True, "it started a thread")
    template.send_fork("/")
    assert template.find("not_forked")["reason"] == "an import has changed the template"


# Deaths.


@pytest.mark.parametrize(
    "code, status", [("os._exit(3)", 3 << 8), ("os.kill(os.getpid(), 9)", 9), ("0", 0)]
)
def test_reaped_when_acknowledged(start_template: StartTemplate, code: str, status: int) -> None:
    template = start_template()
    hookd = template.fork_worker(isolation="none")
    hookd.start_code("import os; {}".format(code))
    if status == 0:
        hookd.write("shutdown")
    hookd.wait_dead()
    # Other children come and go meanwhile, and are looked at.
    other = template.fork_worker()
    assert other.shut_down() == 0
    state = Path("/proc", str(hookd.pid), "stat").read_text().rpartition(")")[2].split()[0]
    assert state == "Z"
    assert template.reap(hookd.pid) == status
    hookd.status = status
    assert not Path("/proc", str(hookd.pid)).exists()
    template.send({"reap": hookd.pid})
    assert template.find("reaped") == {"reaped": hookd.pid, "status": None}
    template.send({"reap": 1})
    assert template.find("reaped") == {"reaped": 1, "status": None}


def test_acknowledged_too_early(start_template: StartTemplate) -> None:
    template = start_template()
    hookd = template.fork_worker()
    template.send({"reap": hookd.pid})
    assert hookd.run("sample_module").result
    hookd.write("shutdown")
    assert template.find("reaped") == {"reaped": hookd.pid, "status": 0}
    hookd.status = 0


def test_orphans_of_a_killed_worker(start_template: StartTemplate, lifeline: Lifeline) -> None:
    """They die at once, before the death of their worker is acknowledged."""
    template = start_template()
    other = template.fork_worker()
    hookd = template.fork_worker()
    hookd.start_code(DAEMON_AND_HANG, line=lifeline.path)
    lifeline.wait_started(2)
    os.kill(hookd.pid, signal.SIGKILL)
    lifeline.wait_gone()
    # The hook too, unless the signal of its parent's death was faster.
    killed = template.find("killed")["killed"]
    assert killed and hookd.pid not in killed
    assert Path("/proc", str(hookd.pid)).exists()
    assert hookd.wait() == -signal.SIGKILL
    assert other.run("sample_module").result


# Ends.


def test_retire(start_template: StartTemplate) -> None:
    template = start_template()
    one, two = template.fork_worker(), template.fork_worker()
    template.send({"retire": True})
    template.send_fork("/")
    assert template.find("not_forked")["reason"] == "the template is retired"
    template.learn("colorsys")
    assert one.run("sample_module").result
    assert one.shut_down() == 0
    assert two.run("sample_module").result
    two.write("shutdown")
    two.wait_dead()
    assert template.process.poll() is None
    assert two.wait() == 0
    assert template.wait() == 0
    assert template.socket.recv(1000) == b""


def test_retire_without_workers(start_template: StartTemplate) -> None:
    template = start_template()
    template.send({"retire": True})
    assert template.wait() == 0


def test_end_of_the_socket(start_template: StartTemplate, lifeline: Lifeline) -> None:
    """All processes die, whatever they do."""
    template = start_template()
    template.fork_worker()
    for _ in range(2):
        template.fork_worker().start_code(DAEMON_AND_HANG, line=lifeline.path)
    lifeline.wait_started(4)
    template.socket.close()
    assert template.wait() == 0
    lifeline.wait_gone()


# Isolation `none`: the hook may keep its worker from noticing anything.

BLOCKED = (
    # Holding the interpreter's lock, so that no thread can run.
    "import ctypes\nlibrary = ctypes.PyDLL(None)\nleftovers.started()\nlibrary.pause()\n"
)
LEAVES_AND_BLOCKS = LEFTOVERS + "leftovers.child(os.setsid)\nleftovers.child()\n" + BLOCKED
DISTURBED = pytest.mark.parametrize(
    "code",
    [
        "",
        "import os\nos.closerange(3, 1024)\n",
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, list(signal.Signals))\n",
        "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n",
        "import os, signal\nos.kill(os.getppid(), signal.SIGCHLD)\n",
    ],
    ids=["no more", "closes all", "blocks signals", "reaps nothing", "wakes the template"],
)


@DISTURBED
def test_end_of_the_input_of_a_blocked_worker(
    start_template: StartTemplate, lifeline: Lifeline, code: str
) -> None:
    template = start_template()
    other = template.fork_worker(isolation="none")
    hookd = template.fork_worker(isolation="none")
    hookd.start_code(code + LEAVES_AND_BLOCKS, line=lifeline.path)
    lifeline.wait_started(3)
    hookd.close_input()
    lifeline.wait_gone()
    assert hookd.wait() == -signal.SIGKILL
    assert other.run("sample_module").result


@DISTURBED
def test_end_of_the_supervisor_with_blocked_workers(
    start_template: StartTemplate, lifeline: Lifeline, code: str
) -> None:
    template = start_template()
    template.fork_worker(isolation="none")
    for _ in range(2):
        hookd = template.fork_worker(isolation="none")
        hookd.start_code(code + LEAVES_AND_BLOCKS, line=lifeline.path)
    lifeline.wait_started(6)
    template.socket.close()
    assert template.wait() == 0
    lifeline.wait_gone()


def test_watched_workers_have_no_sentinel_and_no_descriptors_of_others(
    start_template: StartTemplate,
) -> None:
    template = start_template()
    before = len(os.listdir(f"/proc/{template.process.pid}/fd"))
    workers = [template.fork_worker(isolation="none") for _ in range(3)]
    for hookd in workers:
        assert Path(f"/proc/{hookd.pid}/task/{hookd.pid}/children").read_text() == ""
    counts = {len(os.listdir(f"/proc/{hookd.pid}/fd")) for hookd in workers}
    assert len(counts) == 1
    # A worker may be ready before the template has closed what it has passed on.
    template.wait_idle()
    assert len(os.listdir(f"/proc/{template.process.pid}/fd")) == before + 3
    for hookd in workers:
        assert hookd.shut_down() == 0
    template.wait_idle()
    assert len(os.listdir(f"/proc/{template.process.pid}/fd")) == before


def test_a_template_watches_no_more_workers_than_it_has_descriptors_for(
    start_template: StartTemplate,
) -> None:
    template = start_template()
    pid = template.process.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (4 * 6, hard))
    first, *_ = [template.fork_worker(isolation="none") for _ in range(6)]
    arguments = ["--json", "--control", "--isolation", "none", template.tree]
    template.send_fork(*arguments)
    assert template.find("not_forked")["reason"] == "it cannot watch more workers"
    assert first.shut_down() == 0
    assert template.fork_worker(isolation="none").run("sample_module").result


def test_death_of_the_template(start_template: StartTemplate) -> None:
    """Its workers go on."""
    template = start_template()
    hookd = template.fork_worker()
    os.kill(template.process.pid, signal.SIGKILL)
    template.wait()
    assert hookd.run("sample_module").result
    hookd.close_input()
    assert not wait_for_end([hookd.pid], 10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal(start_template: StartTemplate, number: signal.Signals) -> None:
    template = start_template()
    os.kill(template.process.pid, number)
    assert template.wait() == -number


# The command line.


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--template"], "--template needs a value"),
        (["--template", "x"], "--template: expected the number of a descriptor, got 'x'"),
        (["--template=0", "/"], "--template: expected no TREE and no other option"),
        (["--json", "--template=0"], "--template: expected no TREE and no other option"),
        (["--template", "99"], "--template: expected a Unix socket: "),
        (["--template", "0"], "--template: expected a Unix socket: "),
    ],
)
def test_wrong_arguments(
    interpreter: str, environment: dict[str, str], arguments: list[str], expected: str
) -> None:
    done = subprocess.run(
        [interpreter, HOOKD, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("hookd: " + expected)


def test_many_forks(start_template: StartTemplate) -> None:
    """None of them leaves anything in the template."""
    template: Template = start_template()
    folder = "/proc/{}/fd".format(template.process.pid)
    before = os.listdir(folder)
    for _ in range(20):
        assert template.fork_worker().shut_down() == 0
    template.wait_idle()
    assert os.listdir(folder) == before
