"""Clients of a service that send nonsense, nothing, or too much, that never read, or that die:
others are served meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import processes
import pytest
from builds import make_project
from conftest import Setting
from gate import Gate
from other_user import USER
from pool import PROGRAM
from service import TIMEOUT, Service, ask, raw
from trees import call, make_tree

HEAD = b"POST /v1/hooks HTTP/1.1\r\nHost: hookpool\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: hookpool\r\n"

# The most connections of a service.
MAX_CONNECTIONS = 1000


@pytest.fixture
def service(setting: Setting) -> Iterator[Service]:
    """A service, which ends orderly after the test."""
    service = setting.serve(build_isolation=True)
    yield service
    assert service.end() == 0, service.stderr


@pytest.fixture
def many_files() -> Iterator[int]:
    """Raises the limit of open files as far as allowed; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def serves(service: Service, tree: Path) -> None:
    """Check that the service runs a hook for a new client."""
    answer = service.hook(tree, "result = ['served']")
    assert (answer.status, answer.json["result"]) == (200, ["served"]), answer.body


def status(response: bytes) -> int | None:
    """The status of a response; None if the connection was closed without one."""
    return int(response.split(b" ", 2)[1]) if response else None


# What is sent, and the status of the response. With None the connection is closed without one.
NONSENSE: dict[str, tuple[bytes, int | None]] = {
    "nothing": (b"\r\n\r\n\r\n", None),
    "text": (b"hello\r\n\r\n", 400),
    "zeros": (b"\0" * 1000, 400),
    "TLS": (bytes.fromhex("16030100c8010000c40303") + b"x" * 200, 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
    "HTTP/0.9": (b"GET /healthz\r\n\r\n", 400),
    "HTTP/1.0": (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
    "HTTP/9.9": (b"GET /healthz HTTP/9.9\r\n\r\n", 400),
    "path that is not UTF-8": (b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "path upwards": (HEALTH.replace(b"/healthz", b"/../healthz") + b"\r\n", 404),
    "escaped newline in the path": (HEALTH.replace(b"/healthz", b"/a%0d%0aX:1") + b"\r\n", 404),
    "tunnel": (b"CONNECT pypi.org:443 HTTP/1.1\r\nHost: pypi.org\r\n\r\n", 404),
    "proxy": (b"GET http://pypi.org/healthz HTTP/1.1\r\nHost: pypi.org\r\n\r\n", 200),
    "unknown method": (b"BREW /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "header without colon": (HEALTH + b"header\r\n\r\n", 400),
    "header that is not UTF-8": (HEALTH + b"X: \xff\xfe\r\n\r\n", 200),
    "folded header": (HEALTH + b"X: a\r\n b\r\n\r\n", 400),
    "zero in a header": (HEALTH + b"X: a\0b\r\n\r\n", 400),
    "long header": (HEALTH + b"X: " + b"x" * 200_000 + b"\r\n\r\n", 431),
    "many headers": (HEALTH + b"X: x\r\n" * 5000 + b"\r\n", 431),
    "long path": (b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n", 431),
    "negative length": (HEAD + b"Content-Length: -1\r\n\r\n", 400),
    "length of words": (HEAD + b"Content-Length: ten\r\n\r\n", 400),
    "length beyond numbers": (HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n", 400),
    "two lengths": (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400),
    "long body": (HEAD + b"Content-Length: 99999999999\r\n\r\n" + b"x" * 9_000_000, 413),
    "long chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400),
    "chunk without end": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n", 400),
    "chunk of words": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nten\r\n", 400),
    "long name of a chunk": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 100_000 + b"\r\nx\r\n0\r\n\r\n",
        400,
    ),
    "unknown coding": (HEAD + b"Transfer-Encoding: zip\r\n\r\n", 400),
    "body that is not UTF-8": (HEAD + b"Content-Length: 4\r\n\r\n\xff\xfe\xfd\xfc", 400),
    "body of brackets": (HEAD + b"Content-Length: 100000\r\n\r\n" + b"[" * 100_000, 400),
    "body of objects": (HEAD + b"Content-Length: 500000\r\n\r\n" + b'{"a":' * 100_000, 400),
}


@pytest.mark.timeout(120)
def test_nonsense_is_refused(service: Service, tree: Path) -> None:
    found = {}
    for name, (data, expected) in NONSENSE.items():
        with contextlib.closing(raw(service.socket, b"")) as client:
            # The response may come before all is sent.
            with contextlib.suppress(BrokenPipeError):
                client.sendall(data)
            if expected is None:
                client.shutdown(socket.SHUT_WR)
            found[name] = status(client.recv(65536))
        serves(service, tree)
    assert found == {name: expected for name, (_, expected) in NONSENSE.items()}


def test_requests_that_come_at_once_are_answered_in_order(service: Service, tree: Path) -> None:
    requests = b""
    for number in range(20):
        body = json.dumps(call(tree, f"result = ['{number}']", number)).encode()
        requests += HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    with contextlib.closing(raw(service.socket, requests)) as client:
        reader = client.makefile("rb")
        for number in range(20):
            length = 0
            while (line := reader.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            response = json.loads(reader.read(length))
            assert (response["id"], response["result"]) == (number, [str(number)])
        reader.close()


BEGINNINGS = {
    "nothing": b"",
    "half a header": b"GET /hea",
    "half a body": HEAD + b"Content-Length: 100\r\n\r\n{",
    "no chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "beginning",
    BEGINNINGS.values(),
    ids=BEGINNINGS,
)
def test_thousands_of_clients_that_have_more_to_send(
    service: Service, tree: Path, many_files: int, beginning: bytes
) -> None:
    serves(service, tree)
    before = processes.open_files(service.pid)
    count = min(3_000 if beginning else 10_000, many_files - 500)
    assert count > 2 * MAX_CONNECTIONS, "the limit of open files is too low for this test"
    with contextlib.ExitStack() as clients, contextlib.closing(service.connect()) as steady:
        assert ask(steady, "POST", "/v1/hooks", call(tree)).status == 200
        most = 0
        for number in range(count):
            clients.enter_context(raw(service.socket, beginning))
            if number % 500 == 0:
                # One connection that is used, and a new one.
                assert ask(steady, "POST", "/v1/hooks", call(tree)).status == 200
                serves(service, tree)
                most = max(most, processes.open_files(service.pid))
        assert most <= MAX_CONNECTIONS + before + 50
    processes.wait_until(lambda: processes.open_files(service.pid) <= before + 10)


def test_a_client_that_never_reads_a_batch(service: Service, tree: Path) -> None:
    code = "print('x' * 60_000)"
    body = b"".join(json.dumps(call(tree, code, number)).encode() + b"\n" for number in range(150))
    head = HEAD.replace(b"hooks", b"batch") + b"Content-Length: %d\r\n\r\n" % len(body)
    serves(service, tree)
    before = processes.peak_memory(service.pid)
    with contextlib.closing(raw(service.socket, head + body)) as client:
        for _ in range(5):
            serves(service, tree)
        # 9 MB wait for the client.
        assert processes.peak_memory(service.pid) - before < 8_000_000
        client.shutdown(socket.SHUT_WR)
    processes.wait_until(lambda: service.get("/healthz")["open"] == 0)


def test_a_client_that_never_reads_a_build(setting: Setting, tmp_path: Path, tree: Path) -> None:
    service = setting.serve("--drain-timeout", "100ms", build_isolation=True)
    code = "print('x' * 60_000); 1 / 0"
    sources = [make_project(tmp_path / f"tree{number}") for number in range(60)]
    request = {
        "command": "wheel",
        "sources": [{"path": str(source)} for source in sources],
        "options": {"output-dir": str(tmp_path / "out"), "config-setting": f"build_wheel={code}"},
        "output": True,
    }
    body = json.dumps(request).encode()
    head = HEAD.replace(b"hooks", b"builds") + b"Content-Length: %d\r\n\r\n" % len(body)
    with contextlib.closing(raw(service.socket, head + body)) as client:
        for _ in range(20):
            serves(service, tree)
        assert service.get("/healthz")["open"] == 1
        # Without the limit of 60 s for a client that reads nothing.
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(20) == 1, service.stderr
        client.close()


@pytest.mark.parametrize(
    ("path", "expected"), [("/v1/batch", 503), ("/v1/builds", 503), ("/v1/nothing", 404)]
)
def test_a_refusal_reaches_a_client_that_sends_all_before_it_reads(
    service: Service, path: str, expected: int
) -> None:
    service.ask("POST", "/v1/drain")
    # More than the buffer of a socket.
    body = json.dumps({"command": "wheel", "sources": [{"path": "/" + "x" * 4_000_000}]}).encode()
    for _ in range(20):
        assert service.ask("POST", path, body).status == expected


WRONG_LINES = {
    "text": b"nonsense",
    "not UTF-8": b'{"id": "\xff"}',
    "zeros": b"\0\0\0",
    "brackets": b"[" * 200_000,
    "long": b'"' + b"x" * (8 * 1024 * 1024) + b'"',
    "other type": b'{"id": {}, "tree": [], "hook": 3}',
    "half a character": b'{"id": "\\ud800"}',
}


def test_wrong_lines_of_a_batch_are_answered(service: Service, tree: Path) -> None:
    last = json.dumps(call(tree, "result = ['last']", "last")).encode()
    body = b"\n".join([*WRONG_LINES.values(), last])
    answer = service.ask("POST", "/v1/batch", body)
    wrong = {line["line"]: line["error"]["kind"] for line in answer.lines if not line["ok"]}
    assert wrong == {number + 1: "InvalidRequest" for number in range(len(WRONG_LINES))}
    [right] = [line for line in answer.lines if line["ok"]]
    assert right["result"] == ["last"]


def test_a_batch_that_breaks_off_says_so(service: Service, tree: Path) -> None:
    line = json.dumps(call(tree, "result = ['before']", 1)).encode() + b"\n"
    chunk = b"%x\r\n%b\r\n" % (len(line), line)
    head = HEAD.replace(b"hooks", b"batch") + b"Transfer-Encoding: chunked\r\n\r\n"
    with contextlib.closing(raw(service.socket, head + chunk + b"no length\r\n")) as client:
        answer = http.client.HTTPResponse(client, method="POST")
        answer.begin()
        lines = answer.read().splitlines()
        before, last = map(json.loads, lines)
    assert before["result"] == ["before"]
    assert (last["id"], last["error"]["kind"]) == (None, "InvalidRequest")
    assert "cannot be read" in last["error"]["message"]
    serves(service, tree)


INJECTED = "a\r\nX-Injected: 1\r\n\r\nHTTP/1.1 200 OK\r\n\x1b[2J\x1b]0;title\x07\u2028\u0085b"


def test_no_text_of_a_client_becomes_a_header_or_a_line_of_the_log(
    setting: Setting, tmp_path: Path
) -> None:
    service = setting.serve(build_isolation=True)
    tree = make_tree(tmp_path / INJECTED.replace("/", "-"))
    code = "import os, sys; print(sys.argv); os.abort()"
    named = {"path": str(tree), "name": INJECTED}
    build = {"command": "wheel", "sources": [named], "options": {"output-dir": str(tmp_path)}}
    for path, body in [
        ("/v1/hooks", call(tree, code, INJECTED)),
        ("/v1/hooks", {**call(tree), "id": 1, "hook": INJECTED}),
        ("/v1/hooks", {**call(tree), INJECTED: 1}),
        ("/v1/batch", call(tree, code, INJECTED)),
        ("/v1/builds", build),
        ("/v1/builds", {**build, "command": INJECTED}),
        ("/v1/builds", {**build, "options": {INJECTED: "1"}}),
        ("/v1/" + "a%0d%0aX-Injected:1", {}),
    ]:
        answer = service.ask("POST", path, body, traceparent="00-1-2-3", user_agent="a\tb")
        assert "x-injected" not in {name.lower() for name in answer.headers}
        # Each line is JSON of its own.
        assert answer.lines, (path, body)
    assert service.end() == 0
    for line in service.stderr.split("\n"):
        assert not line.startswith(("X-Injected", "HTTP/1.1")), line
        assert not set(line) & set("\r\x1b\x07"), repr(line)


TURNED_AWAY = """
import os, socket, sys
# The folders above need not be open to this user.
os.chdir(sys.argv[1])
user = int(sys.argv[3])
os.setgroups([]); os.setgid(user); os.setuid(user)
client = socket.socket(socket.AF_UNIX)
client.settimeout(30)
client.connect(sys.argv[2])
try:
    client.sendall(b"GET /v1/version HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    print(client.recv(100))
except (BrokenPipeError, ConnectionResetError):
    print(b"")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_another_user_is_turned_away(service: Service, tree: Path) -> None:
    folder, name = service.socket.parent, service.socket.name
    command = [sys.executable, "-c", TURNED_AWAY, str(folder), name, str(USER)]

    def attempt() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert "PermissionError" in attempt().stderr
    folder.chmod(0o777)
    service.socket.chmod(0o666)
    assert attempt().stdout == "b''\n"
    serves(service, tree)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
@pytest.mark.parametrize("folder", ["of another user", "that others can change", "behind a link"])
def test_a_folder_that_another_user_controls_is_refused(setting: Setting, folder: str) -> None:
    place = setting.root / "place"
    place.mkdir(mode=0o700)
    if folder == "of another user":
        os.chown(place, USER, USER)
    elif folder == "that others can change":
        place.chmod(0o777)
    else:
        real = place
        place = setting.root / "link"
        place.symlink_to(real)
        os.chown(place, USER, USER, follow_symlinks=False)
    command = [PROGRAM, "serve", "--socket", str(place / "socket")]
    with subprocess.Popen(command, env=setting.env, stderr=subprocess.PIPE, text=True) as process:
        try:
            _, stderr = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
    assert process.returncode == 3, stderr
    assert str(place) in stderr
    assert not (place / "socket").exists()


CLIENT = """
import http.client, itertools, json, socket, sys
path, body = sys.argv[1:]
for number in itertools.count():
    connection = http.client.HTTPConnection("hookpool")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)
    for _ in range(number % 5):
        connection.request("POST", number % 2 and "/v1/batch" or "/v1/hooks", body)
        connection.getresponse().read()
"""


@pytest.mark.timeout(120)
def test_clients_that_are_killed_leave_nothing(service: Service, tree: Path, gate: Gate) -> None:
    dice = random.Random(7)
    body = json.dumps(call(tree, gate.arrive))
    command = [sys.executable, "-c", CLIENT, str(service.socket), body]
    serves(service, tree)
    before = threads_and_files(service)
    for _ in range(5):
        clients = [subprocess.Popen(command) for _ in range(4)]
        for client in clients:
            # Each is killed after some hooks of any of them.
            for _ in range(dice.randrange(8)):
                gate.arrived()
            client.kill()
            client.wait(TIMEOUT)
        serves(service, tree)
    processes.wait_until(lambda: service.get("/healthz")["open"] == 0)

    def is_as_before() -> bool:
        threads, files = threads_and_files(service)
        # Some workers more, and threads that wait for files.
        return files <= before[1] + 30 and threads <= before[0] + 16

    processes.wait_until(is_as_before)


def threads_and_files(service: Service) -> tuple[int, int]:
    """How many of each the service has."""
    threads = len(list(Path(f"/proc/{service.pid}/task").iterdir()))
    return threads, processes.open_files(service.pid)


def test_many_honest_clients_are_served_beside_hostile_ones(service: Service, tree: Path) -> None:
    stop = threading.Event()

    def attack() -> None:
        dice, held = random.Random(3), []
        pieces = [data for data, _ in NONSENSE.values() if len(data) < 1000]
        while not stop.is_set():
            data = dice.choice(pieces)
            with contextlib.suppress(OSError):
                held.append(raw(service.socket, data[: dice.randrange(1, len(data))]))
            if len(held) > 50:
                held.pop(dice.randrange(50)).close()
        for client in held:
            client.close()

    results: list[Any] = []

    def work(number: int) -> None:
        with contextlib.closing(service.connect()) as connection:
            for turn in range(5):
                code = f"result = ['{number}-{turn}']"
                results.append(
                    ask(connection, "POST", "/v1/hooks", call(tree, code)).json["result"]
                )

    attackers = [threading.Thread(target=attack)]
    workers = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in [*attackers, *workers]:
        thread.start()
    for thread in workers:
        thread.join(TIMEOUT)
    stop.set()
    for thread in attackers:
        thread.join(TIMEOUT)
    assert sorted(results) == sorted(
        [f"{number}-{turn}"] for number in range(4) for turn in range(5)
    )
