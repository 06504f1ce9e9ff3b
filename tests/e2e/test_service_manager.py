"""`hookpool serve` under a service manager: sockets that it passes, and what it is told."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import processes
import pytest
from conftest import Setting
from gate import Gate
from pool import PROGRAM, REPOSITORY
from service import TIMEOUT, Service
from test_surroundings import in_namespace
from trees import call

# Replaces itself by the program, as the child of a service manager does.
LAUNCHER = """
import os, sys
passed = int(os.environ.pop("PASSED"))
os.dup2(passed, 3)
if passed != 3:
    os.close(passed)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[1], sys.argv[1:])
"""


def passed(setting: Setting, *sockets: socket.socket, flags: tuple[str, ...] = ()) -> Service:
    """A service that has got these sockets; its number is checked before it has the others."""
    env = {**setting.env, "LISTEN_FDS": str(len(sockets)), "PASSED": str(sockets[0].fileno())}
    log = setting.root / f"service-{len(setting.services)}"
    flags = ("--python", sys.executable, "--no-build-isolation", *flags)
    launcher = [sys.executable, "-c", LAUNCHER]
    service = Service(flags, env, None, log, launcher, [sockets[0].fileno()])
    setting.services.append(service)
    return service


@pytest.fixture
def listening(setting: Setting) -> Iterator[socket.socket]:
    """A socket that a service manager has opened."""
    folder = setting.root / "m"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()
        yield listener


class Manager:
    """What a service manager hears."""

    def __init__(self, address: str) -> None:
        self.address = address.replace("\0", "@")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(TIMEOUT)

    def next(self) -> dict[str, str]:
        """The next message."""
        lines = self._socket.recv(65536).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def wait(self, name: str, value: str | None = None) -> dict[str, str]:
        """The next message with this variable."""
        while True:
            message = self.next()
            if name in message and value in (None, message[name]):
                return message

    def forget(self) -> int:
        """Drop what has come so far; returns the number of messages."""
        self._socket.setblocking(False)
        number = 0
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(65536):
                number += 1
        self._socket.settimeout(TIMEOUT)
        return number

    def close(self) -> None:
        """Hear nothing more."""
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(setting: Setting, request: pytest.FixtureRequest) -> Iterator[Manager]:
    """A service manager, at each kind of address."""
    path = str(setting.root / "notify")
    manager = Manager(path if request.param == "path" else "\0" + path)
    yield manager
    manager.close()


def test_a_passed_socket_stays_at_the_end(
    setting: Setting, tree: Path, listening: socket.socket
) -> None:
    path = Path(listening.getsockname())
    for _ in range(2):
        service = passed(setting, listening)
        service.socket = path
        # It waits in the socket until the service is there.
        code = "import os; result = [name for name in os.environ if name.startswith('LISTEN')]"
        answer = service.hook(tree, code)
        assert answer.json["result"] == [], answer.body
        environment = Path(f"/proc/{service.pid}/environ").read_bytes()
        assert b"LISTEN_FDS=1" in environment, "the test does not pass the variables"
        workers = processes.workers(service.pid)
        assert workers
        inode = os.fstat(listening.fileno()).st_ino
        for pid in workers:
            assert f"socket:[{inode}]" not in processes.targets(pid)
        assert service.end() == 0
        assert path.exists()


WRONG = ["datagram", "not listening", "tcp", "two", "file"]


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_socket_is_named(setting: Setting, listening: socket.socket, what: str) -> None:
    with contextlib.ExitStack() as stack:
        if what == "two":
            sockets = [listening, listening]
        else:
            family = socket.AF_INET if what == "tcp" else socket.AF_UNIX
            kind = socket.SOCK_DGRAM if what == "datagram" else socket.SOCK_STREAM
            sockets = [stack.enter_context(socket.socket(family, kind))]
        service = passed(setting, *sockets)
        assert service.process.wait(TIMEOUT) == 3
        expected = "passed 2 sockets" if what == "two" else "no listening Unix stream socket"
        assert f"LISTEN_FDS: the service manager has {expected}" in service.stderr or (
            f"LISTEN_FDS: the service manager has passed what is {expected}" in service.stderr
        ), service.stderr


@pytest.mark.parametrize("flag", ["--take-over", "--socket=/tmp/elsewhere"])
def test_a_passed_socket_allows_no_other(
    setting: Setting, listening: socket.socket, flag: str
) -> None:
    service = passed(setting, listening, flags=(flag,))
    assert service.process.wait(TIMEOUT) == 2
    assert flag.replace("=", " ") in service.stderr
    assert listening.getsockname() in service.stderr


def test_sockets_of_another_process_are_left_alone(setting: Setting) -> None:
    service = setting.serve(env={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
    assert service.get("/healthz")["phase"] == "serving"
    assert service.end() == 0


def test_the_manager_hears_how_the_service_does(
    setting: Setting, manager: Manager, tree: Path, gate: Gate
) -> None:
    service = setting.serve(env={"NOTIFY_SOCKET": manager.address})
    ready = manager.next()
    assert ready == {"READY": "1", "MAINPID": str(service.pid)}
    idle = "serving: 0 requests open, 0 hooks running, 0 workers, 0 templates"
    assert manager.wait("STATUS")["STATUS"] == idle
    with contextlib.closing(service.connect()) as connection:
        connection.request("POST", "/v1/hooks", json.dumps(call(tree, gate.code)))
        gate.arrived()
        manager.wait("STATUS", "serving: 1 requests open, 1 hooks running, 1 workers, 1 templates")
        gate.release()
        connection.getresponse().read()
    manager.wait("STATUS", "serving: 0 requests open, 0 hooks running, 1 workers, 1 templates")
    service.process.send_signal(signal.SIGHUP)
    assert int(manager.wait("RELOADING")["MONOTONIC_USEC"]) > 0
    assert manager.next() == {"READY": "1"}
    service.process.send_signal(signal.SIGTERM)
    assert manager.wait("STOPPING") == {"STOPPING": "1"}
    assert service.process.wait(TIMEOUT) == 0


def test_a_stopped_service_feeds_no_watchdog(setting: Setting, manager: Manager) -> None:
    env = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "200000"}
    service = setting.serve(env=env)
    for _ in range(3):
        manager.wait("WATCHDOG")
    os.kill(service.pid, signal.SIGSTOP)
    processes.wait_state(service.pid, "T")
    manager.forget()
    # Some times what it may be silent.
    processes.outlast(1)
    assert manager.forget() == 0
    os.kill(service.pid, signal.SIGCONT)
    manager.wait("WATCHDOG")
    assert service.end() == 0


def test_a_watchdog_of_another_process_is_not_fed(setting: Setting, manager: Manager) -> None:
    env = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
    service = setting.serve(env=env)
    messages = [manager.next(), manager.next()]
    assert [list(message) for message in messages] == [["READY", "MAINPID"], ["STATUS"]]
    assert service.end() == 0
    assert "STOPPING" in manager.next()


def test_an_unreachable_manager_is_a_warning(setting: Setting) -> None:
    service = setting.serve(env={"NOTIFY_SOCKET": str(setting.root / "nobody")})
    processes.wait_until(lambda: "NOTIFY_SOCKET: " in service.stderr)
    assert service.end() == 0


def test_a_service_ends_when_it_is_idle(setting: Setting, tree: Path, gate: Gate) -> None:
    service = setting.serve("--idle-exit", "300ms")
    with contextlib.closing(service.connect()) as connection:
        connection.request("POST", "/v1/hooks", json.dumps(call(tree, gate.code)))
        gate.arrived()
        # It outlasts the time while a hook runs.
        processes.outlast(0.3)
        gate.release()
        assert json.loads(connection.getresponse().read())["ok"]
    # Asking how it does is no work.
    with contextlib.suppress(OSError):
        while True:
            service.get("/healthz")
    assert service.process.wait(TIMEOUT) == 0
    assert not service.socket.exists()


# The locks of the shared cache folder name processes of another namespace.
@pytest.mark.usefixtures("own_cache")
def test_process_one_of_a_container_ends_at_sigterm(setting: Setting, tree: Path) -> None:
    """The system ignores signals for process 1 that it has no handler for."""
    place, log = setting.root / "s" / "socket", setting.root / "service-0"
    flags = ("--python", sys.executable, "--no-build-isolation")
    service = Service(flags, setting.env, place, log, in_namespace("--mount-proc"))
    setting.services.append(service)
    service.wait_ready()
    assert service.get("/v1/version")["pid"] == 1
    assert service.hook(tree).json["ok"]
    (process,) = processes.children(service.pid)
    os.kill(process, signal.SIGTERM)
    assert service.process.wait(TIMEOUT) == 0


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_the_unit_files_are_valid(tmp_path: Path) -> None:
    for name in ("hookpool.socket", "hookpool.service"):
        text = (REPOSITORY / "docs" / "ops" / "systemd" / name).read_text()
        (tmp_path / name).write_text(text.replace("%h/.cargo/bin/hookpool", str(PROGRAM)))
    verify = ["systemd-analyze", "--user", "verify", "--man=no", str(tmp_path / "hookpool.service")]
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    checked = subprocess.run(verify, env=env, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
