"""`hookpool serve`: hooks over HTTP, the end of the service, and its socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pwd
import signal
import subprocess
from pathlib import Path
from typing import Any

import processes
import pytest
from builds import make_project
from conftest import BOTH_WAYS, Setting
from gate import Gate
from pool import PROGRAM, check_shape
from service import Service, ask
from trees import call, make_tree

pytestmark = BOTH_WAYS


def lines(*requests: Any) -> bytes:
    """A body of JSON Lines."""
    return b"".join(json.dumps(request).encode() + b"\n" for request in requests)


class Batch:
    """A batch whose lines are sent one after the other."""

    def __init__(self, service: Service) -> None:
        self._connection = service.connect()
        self._connection.putrequest("POST", "/v1/batch")
        self._connection.putheader("Transfer-Encoding", "chunked")
        self._connection.endheaders()

    def send(self, *requests: Any) -> None:
        """Send lines."""
        data = lines(*requests)
        self._connection.send(b"%x\r\n%b\r\n" % (len(data), data))

    def finish(self) -> None:
        """Send the end of the lines."""
        self._connection.send(b"0\r\n\r\n")

    def response(self) -> http.client.HTTPResponse:
        """The response as it comes."""
        return self._connection.getresponse()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def test_a_hook(setting: Setting, tree: Path) -> None:
    service = setting.serve()
    answer = service.ask("POST", "/v1/hooks", call(tree, "print('said'); result = ['x']", "é"))
    assert answer.status == 200, answer.body
    response = answer.json
    check_shape(response)
    assert (response["id"], response["ok"], response["result"]) == ("é", True, ["x"])
    assert response["stdout"] == "said\n"
    failed = service.ask("POST", "/v1/hooks", call(tree, "raise ValueError('no')"))
    assert (failed.status, failed.json["ok"]) == (200, False)
    assert failed.json["error"]["kind"] == "HookRuntimeError"
    assert service.end() == 0


def test_one_connection_carries_many_requests(setting: Setting, tree: Path) -> None:
    service = setting.serve()
    with contextlib.closing(service.connect()) as connection:
        for number in range(5):
            answer = ask(connection, "POST", "/v1/hooks", call(tree, f"result = ['{number}']"))
            assert answer.json["result"] == [str(number)]
    assert service.end() == 0


def test_a_batch_has_the_lines_of_run(setting: Setting, tree: Path) -> None:
    service = setting.serve()
    body = lines(call(tree, "result = ['1']", 1), call(tree, "result = ['2']", 2), {"cancel": 9})
    answer = service.ask("POST", "/v1/batch", body + b"\n\nnonsense\n")
    assert answer.status == 200
    for response in answer.lines:
        check_shape(response)
    results = {response["id"]: response["result"] for response in answer.lines if response["ok"]}
    assert results == {1: ["1"], 2: ["2"]}
    [invalid] = [response for response in answer.lines if not response["ok"]]
    assert (invalid["error"]["kind"], invalid["line"]) == ("InvalidRequest", 6)
    assert service.end() == 0


def test_a_batch_is_answered_while_it_is_sent(setting: Setting, tree: Path) -> None:
    service = setting.serve()
    with contextlib.closing(Batch(service)) as batch:
        batch.send(call(tree, "result = ['1']", 1))
        response = batch.response()
        assert json.loads(response.readline())["result"] == ["1"]
        batch.send(call(tree, "result = ['2']", 2))
        assert json.loads(response.readline())["result"] == ["2"]
        batch.finish()
        assert response.read() == b""
    assert service.end() == 0


@pytest.mark.parametrize("path", ["/v1/hooks", "/v1/batch"])
def test_a_client_that_hangs_up_cancels_its_hook(
    setting: Setting, tree: Path, gate: Gate, path: str
) -> None:
    service = setting.serve()
    connection = service.connect()
    connection.request(
        "POST", path, lines(call(tree, gate.arrive + "import time; time.sleep(600)"))
    )
    hook = gate.arrived()
    connection.close()
    processes.wait_gone([hook])
    assert service.hook(tree).json["ok"]
    assert service.end() == 0


WRONG = [
    ("POST", "/v1/hooks", b"", 400, "expected a JSON object"),
    ("POST", "/v1/hooks", b"[]", 400, "expected a JSON object, got []"),
    ("POST", "/v1/hooks", b'{"id": 1}', 400, "tree: missing"),
    ("POST", "/v1/hooks", b'{"cancel": 1}', 400, "cancel: "),
    ("POST", "/v1/hooks", b'{"id": 1, "tree": "t", "hook": "build_wheel"}', 400, "absolute path"),
    (
        "POST",
        "/v1/hooks",
        b'{"id": 1, "tree": "/t", "hook": "h"}',
        400,
        "expected one of build_wheel",
    ),
    ("POST", "/v1/hooks", b"x" * (8 * 1024 * 1024 + 1), 413, "longer than 8388608 bytes"),
    ("GET", "/v1/hooks", None, 405, "method"),
    ("GET", "/v1/nothing", None, 404, "/v1/openapi.json"),
    ("POST", "/v1/drain", b'{"exits": true}', 400, "exits"),
]


def test_wrong_requests_are_refused_with_a_problem_document(setting: Setting) -> None:
    service = setting.serve()
    for method, path, body, status, words in WRONG:
        answer = service.ask(method, path, body)
        assert answer.status == status, (path, body, answer.body)
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json
        assert problem["status"] == status
        assert problem["type"] == f"urn:hookpool:{problem['title']}"
        assert words in problem["detail"]
    assert service.end() == 0


def test_a_drained_service_refuses_new_work_until_it_is_resumed(
    setting: Setting, tree: Path, gate: Gate
) -> None:
    service = setting.serve()
    with contextlib.closing(service.connect()) as connection:
        connection.request("POST", "/v1/hooks", lines(call(tree, gate.code + "result = ['done']")))
        gate.arrived()
        assert service.ask("POST", "/v1/drain").json == {"phase": "draining", "open": 1}
        for method, path in [("POST", "/v1/hooks"), ("POST", "/v1/batch"), ("GET", "/readyz")]:
            refused = service.ask(method, path, lines(call(tree)) if method == "POST" else None)
            assert (refused.status, refused.json["title"]) == (503, "Draining")
            assert refused.headers["retry-after"] == "1"
        assert service.get("/healthz")["phase"] == "draining"
        gate.release()
        assert json.loads(connection.getresponse().read())["result"] == ["done"]
    assert service.ask("POST", "/v1/resume").json["phase"] == "serving"
    assert service.hook(tree).json["ok"]
    assert service.end() == 0


@pytest.mark.parametrize("end", ["signal", "request", "takeover"])
def test_the_end_waits_for_open_work(setting: Setting, tree: Path, gate: Gate, end: str) -> None:
    # Only a signal starts that time.
    service = setting.serve("--drain-timeout", "1h" if end == "signal" else "0")
    connection = service.connect()
    connection.request("POST", "/v1/hooks", lines(call(tree, gate.code + "result = ['done']")))
    gate.arrived()
    new = None
    if end == "signal":
        service.process.send_signal(signal.SIGTERM)
        processes.wait_until(lambda: service.get("/healthz")["phase"] == "draining")
    elif end == "request":
        assert service.ask("POST", "/v1/drain", {"exit": True}).status == 200
        assert service.ask("POST", "/v1/resume").status == 503
        # Time for the service to do more than it was asked for.
        for _ in range(50):
            assert service.get("/healthz")["open"] == 1
    else:
        new = setting.serve("--take-over", socket=service.socket)
        assert new.hook(make_tree(setting.root / "other")).json["ok"]
    gate.release()
    assert json.loads(connection.getresponse().read())["result"] == ["done"]
    connection.close()
    assert service.process.wait(60) == 0
    if new is not None:
        assert new.end() == 0
    assert not service.socket.exists()


@pytest.mark.parametrize("is_asked_before", [False, True])
def test_open_work_is_ended_when_its_time_is_up(
    setting: Setting, tree: Path, gate: Gate, is_asked_before: bool
) -> None:
    service = setting.serve("--drain-timeout", "100ms", "--grace-period", "100ms")
    connection = service.connect()
    connection.request("POST", "/v1/hooks", lines(call(tree, gate.code)))
    hook = gate.arrived()
    if is_asked_before:
        assert service.ask("POST", "/v1/drain", {"exit": True}).status == 200
    service.process.send_signal(signal.SIGTERM)
    response = json.loads(connection.getresponse().read())
    assert response["error"]["kind"] == "Interrupted"
    connection.close()
    assert service.process.wait(60) == 1, "a request was cut off"
    processes.wait_gone([hook])


def test_a_drain_ends_a_batch_after_what_was_admitted(
    setting: Setting, tree: Path, gate: Gate
) -> None:
    """A resolver that never ends its lines does not keep the service from ending."""
    service = setting.serve()
    idle, batch = Batch(service), Batch(service)
    idle.send(call(tree, "result = ['idle']"))
    rest = idle.response()
    assert json.loads(rest.readline())["result"] == ["idle"]
    other = make_tree(setting.root / "other")
    batch.send(call(tree, gate.code + "result = ['admitted']", 1), call(other, gate.code, 2))
    gate.arrived()
    gate.arrived()
    assert service.ask("POST", "/v1/drain", {"exit": True}).json["phase"] == "draining"
    assert json.loads(rest.read())["error"]["kind"] == "Draining"
    batch.send(call(tree, "result = ['never']", 3), {"cancel": 2})
    response = batch.response()
    refused, cancelled = (json.loads(response.readline()) for _ in range(2))
    assert (refused["id"], refused["error"]["kind"]) == (3, "Draining")
    assert (cancelled["id"], cancelled["error"]["kind"]) == (2, "Cancelled")
    gate.release()
    admitted, last = map(json.loads, response.read().splitlines())
    assert (admitted["id"], admitted["result"]) == (1, ["admitted"])
    assert (last["id"], last["error"]["kind"]) == (None, "Draining")
    assert service.process.wait(60) == 0
    batch.close()
    idle.close()


def test_a_second_signal_ends_at_once(setting: Setting, tree: Path, gate: Gate) -> None:
    service = setting.serve()
    connection = service.connect()
    connection.request("POST", "/v1/hooks", lines(call(tree, gate.code)))
    gate.arrived()
    service.process.send_signal(signal.SIGTERM)
    processes.wait_until(lambda: service.get("/healthz")["phase"] == "draining")
    assert service.end() == 143
    connection.close()


def test_a_hangup_signal_replaces_the_workers(setting: Setting, tree: Path) -> None:
    service = setting.serve()
    before = service.hook(tree).json["worker"]["pid"]
    service.process.send_signal(signal.SIGHUP)
    processes.wait_gone([before])
    assert service.hook(tree).json["worker"]["pid"] != before
    assert service.end() == 0


def test_a_second_service_takes_over_only_if_it_is_told_to(
    setting: Setting, tree: Path, gate: Gate
) -> None:
    old = setting.serve()
    command = [PROGRAM, "serve", "--socket", str(old.socket), "--no-build-isolation"]
    refused = subprocess.run(command, env=setting.env, capture_output=True, text=True, check=False)
    assert refused.returncode == 3
    assert "another service listens" in refused.stderr
    assert "--take-over" in refused.stderr
    connection = old.connect()
    connection.request("POST", "/v1/hooks", lines(call(tree, gate.code + "result = ['old']")))
    gate.arrived()
    new = setting.serve("--take-over", socket=old.socket)
    other = make_tree(setting.root / "other")
    assert new.get("/v1/version")["pid"] == new.pid
    assert new.hook(other).json["ok"]
    gate.release()
    assert json.loads(connection.getresponse().read())["result"] == ["old"]
    connection.close()
    assert old.process.wait(60) == 0, old.stderr
    assert new.get("/v1/version")["pid"] == new.pid
    assert new.end() == 0


def test_the_default_socket_is_in_the_folder_for_sockets(setting: Setting) -> None:
    folder = setting.root / "x"
    folder.mkdir(mode=0o700)
    place = folder / "hookpool" / "hookpool.sock"
    env = {**setting.env, "XDG_RUNTIME_DIR": str(folder)}
    with Service(["--no-build-isolation"], env, None, setting.root / "log") as service:
        service.socket = place
        assert service.get("/v1/version")["pid"] == service.pid
        assert os.stat(place).st_mode & 0o777 == 0o600
        assert os.stat(place.parent).st_mode & 0o777 == 0o700
        assert service.end() == 0


def test_hooks_without_a_caller_inherit_a_clean_environment(setting: Setting, tree: Path) -> None:
    umask = os.umask(0o027)
    service = setting.serve(env={"SECRET": "the service's own", "LANG": "de_DE.UTF-8"})
    os.umask(umask)
    code = """
import json, os
os.umask(mask := os.umask(0))
result = [json.dumps(dict(os.environ)), oct(mask)]
"""
    found, mask = service.hook(tree, code).json["result"]
    variables = json.loads(found)
    user = pwd.getpwuid(os.geteuid())
    # A build environment comes first, as after its activation.
    if environment := variables.pop("VIRTUAL_ENV", None):
        variables["PATH"] = variables["PATH"].removeprefix(f"{environment}/bin:")
    own = {name: value for name, value in variables.items() if not name.startswith("HOOKPOOL_")}
    expected = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
    }
    assert own == expected
    assert mask == oct(0o022)
    assert service.end() == 0


def test_every_path_is_documented(setting: Setting) -> None:
    service = setting.serve()
    document = service.get("/v1/openapi.json")
    assert document["info"]["title"] == "hookpool"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (path, method)
    assert service.end() == 0


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_requests_have_ids_and_hooks_know_their_trace(setting: Setting, tree: Path) -> None:
    service = setting.serve("-vvv")
    code = "import os; result = [os.environ.get('TRACEPARENT', 'none')]"
    headers = {"traceparent": TRACE, "x-request-id": "mine-7"}
    answer = service.ask("POST", "/v1/hooks", call(tree, code), **headers)
    assert answer.json["result"] == [TRACE]
    assert answer.headers["x-request-id"] == "mine-7"

    def is_complete() -> bool:
        """The line about the HTTP request, and those of the pool about its hook."""
        lines = [line for line in service.stderr.splitlines() if 'http_request="mine-7"' in line]
        said = ("request queued", "request accepted", "request answered", 'path="/v1/hooks"')
        return all(any(words in line for line in lines) for words in said)

    # The answer does not wait for them.
    processes.wait_until(is_complete)
    own = {"variables": [["TRACEPARENT", "own"], ["PATH", os.environ["PATH"]]], "umask": 18}
    body = lines(call(tree, code, 1), call(tree, code, 2, caller=own))
    batch = service.ask("POST", "/v1/batch", body, traceparent=TRACE)
    results = {response["id"]: response["result"] for response in batch.lines}
    assert results == {1: [TRACE], 2: ["own"]}
    for wrong in ["nonsense", TRACE.replace("00-", "ff-", 1)]:
        other = service.ask("POST", "/v1/hooks", call(tree, code), traceparent=wrong)
        assert other.json["result"] == ["none"]
        assert len(other.headers["x-request-id"]) == 16
    assert service.end() == 0


def test_a_message_about_a_hook_has_the_id_of_its_request(
    setting: Setting, tree: Path, tmp_path: Path
) -> None:
    """Also that of a build, and at the level that everybody sees."""
    service = setting.serve("--log-format", "json", build_isolation=True)
    slow = call(tree, "import time; time.sleep(600)", timeout="100ms")
    service.ask("POST", "/v1/hooks", slow, **{"x-request-id": "hook-1"})
    project = make_project(tmp_path / "project")
    setting_ = "build_wheel=import time; time.sleep(600)"
    options = {"output-dir": str(tmp_path / "out"), "hook-timeout": "100ms"}
    options["config-setting"] = setting_
    build = {"command": "wheel", "sources": [{"path": str(project)}], "options": options}
    service.ask("POST", "/v1/builds", build, **{"x-request-id": "build-2"})
    assert service.end() == 0
    found = {
        line.get("http_request")
        for line in map(json.loads, service.stderr.splitlines())
        if "exceeded its time limit" in line["message"]
    }
    assert found == {"hook-1", "build-2"}
