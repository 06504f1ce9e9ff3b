"""`hookpool serve` for those who run it: status, requests, limits, restarts, output of hooks."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import processes
from builds import make_project
from conftest import BOTH_WAYS, Setting
from gate import Gate
from pool import PROGRAM, REPOSITORY
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from service import Connection, Service, ask
from trees import call, make_tree


@contextlib.contextmanager
def sent(service: Service, request: dict[str, Any], **headers: str) -> Iterator[Connection]:
    """A hook that was asked for and is not answered yet."""
    with contextlib.closing(service.connect()) as connection:
        connection.request("POST", "/v1/hooks", json.dumps(request).encode(), headers)
        yield connection


def answer(connection: Connection) -> Any:
    """The response to a hook that was sent."""
    return json.loads(connection.getresponse().read())


@BOTH_WAYS
def test_the_status_has_what_the_service_has_and_does(
    setting: Setting, tree: Path, gate: Gate
) -> None:
    service = setting.serve()
    idle = service.get("/v1/status")
    assert (idle["requests"]["count"], idle["workers"]["count"]) == (0, 0)
    assert idle["oldest_request_ms"] is None
    with sent(service, call(tree, gate.code)) as connection:
        gate.arrived()
        status = service.get("/v1/status")
        assert status["version"] == service.get("/v1/version")
        assert status["admission"] == {"phase": "serving", "open": 1}
        assert status["limits"] == service.get("/v1/limits")
        assert status["uptime_ms"] > idle["uptime_ms"]
        assert status["request_phases"]["running"] == 1
        [request] = status["requests"]["first"]
        assert (request["tree"], request["phase"]) == (str(tree), "running")
        assert request["hook"] == "get_requires_for_build_wheel"
        assert status["oldest_request_ms"] == request["age_ms"] > 0
        [worker] = status["workers"]["first"]
        assert (worker["phase"], worker["request"]) == ("running", request["id"])
        assert worker["pid"] in processes.workers(service.pid)
        [template] = status["templates"]
        assert template["pid"] in processes.templates(service.pid)
        assert template["memory_bytes"] > 1_000_000
        assert (template["id"], template["in_use"]) == (worker["template"], True)
        assert status["answers"] == {"hits": 0, "misses": 0, "kept": 0, "wrong": 0}
        assert status["environments"]["held"] == (1 if setting.build_isolation else 0)
        gate.release()
        assert answer(connection)["ok"]
    assert service.end() == 0


@BOTH_WAYS
def test_a_tree_in_quarantine_is_shown_with_the_reason_and_let_out(
    setting: Setting, tree: Path
) -> None:
    service = setting.serve("--max-restarts", "0", "--restart-window", "1h")
    kill_worker = (
        "import os, signal; os.kill(os.getppid(), signal.SIGKILL); os.kill(os.getpid(), 9)"
    )
    while service.get("/v1/status")["quarantined"]["count"] == 0:
        assert not service.hook(tree, kill_worker).json["ok"]
    [pool] = service.get("/v1/status")["quarantined"]["first"]
    assert pool["tree"] == str(tree)
    assert "SIGKILL" in pool["reason"]
    assert pool["remaining_ms"] > 1_000_000
    assert service.hook(tree).json["error"]["kind"] == "Quarantined"
    restarted = service.ask("POST", "/v1/restart", {"tree": str(tree)}).json
    assert restarted["pools"] == 1
    assert service.hook(tree).json["ok"]
    assert service.end() == 0


@BOTH_WAYS
def test_an_operator_cancels_a_request(setting: Setting, tree: Path, gate: Gate) -> None:
    service = setting.serve()
    with sent(service, call(tree, gate.code, 7), **{"x-request-id": "mine-7"}) as connection:
        hook = gate.arrived()
        [request] = service.get("/v1/requests")["first"]
        assert request["caller_id"] == "mine-7"
        path = f"/v1/requests/{request['id']}"
        assert service.get(path)["phase"] == "running"
        assert service.ask("DELETE", path).json == {"id": request["id"]}
        response = answer(connection)
        assert (response["id"], response["error"]["kind"]) == (7, "Cancelled")
        assert "operator" in response["error"]["message"]
        processes.wait_gone([hook])
    for method in ("GET", "DELETE"):
        assert service.ask(method, path).status == 404
    assert service.get("/v1/requests") == {"count": 0, "first": []}
    assert service.end() == 0


@BOTH_WAYS
def test_limits_change_without_losing_a_request(
    setting: Setting, tmp_path: Path, gate: Gate
) -> None:
    service = setting.serve()
    before = service.get("/v1/limits")
    assert (before["jobs"], before["hook_timeout_ms"]) == (2, None)
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(4):
            tree = make_tree(tmp_path / f"tree-{number}")
            request = call(tree, gate.code + f"result = ['{number}']")
            clients.append(stack.enter_context(sent(service, request)))
        gate.arrived()
        gate.arrived()
        assert gate.nobody()
        changed = service.ask("PATCH", "/v1/limits", {"jobs": 4, "hook_timeout_ms": 600_000}).json
        assert changed == {**before, "jobs": 4, "hook_timeout_ms": 600_000}
        gate.arrived()
        gate.arrived()
        lower = {"jobs": 1, "max_workers": 1, "hook_timeout_ms": None}
        assert service.ask("PATCH", "/v1/limits", lower).json["max_workers"] == 1
        gate.release(4)
        assert [answer(client)["result"] for client in clients] == [["0"], ["1"], ["2"], ["3"]]
    processes.wait_until(lambda: service.get("/v1/status")["workers"]["count"] <= 1)
    assert service.get("/v1/limits")["hook_timeout_ms"] is None
    assert service.end() == 0


@BOTH_WAYS
def test_one_tree_or_one_template_or_everything_is_restarted(
    setting: Setting, tmp_path: Path, gate: Gate
) -> None:
    service = setting.serve()

    def workers() -> dict[str, dict[str, Any]]:
        return {worker["tree"]: worker for worker in service.get("/v1/status")["workers"]["first"]}

    trees = [make_tree(tmp_path / name) for name in ("a", "b")]
    with contextlib.ExitStack() as stack:
        # At once, so that no worker moves to the other tree.
        clients = [stack.enter_context(sent(service, call(tree, gate.code))) for tree in trees]
        gate.arrived()
        gate.arrived()
        gate.release(2)
        assert all(answer(client)["ok"] for client in clients)
    first, second = (workers()[str(tree)] for tree in trees)
    answered = service.ask("POST", "/v1/restart", {"tree": first["tree"]})
    assert answered.json == {"workers": 1, "templates": 0, "pools": 0}
    processes.wait_until(lambda: list(workers()) == [second["tree"]])
    [template] = service.get("/v1/status")["templates"]
    answered = service.ask("POST", "/v1/restart", {"template": template["id"]})
    assert (answered.json["workers"], answered.json["templates"]) == (1, 1)
    processes.wait_gone([first["pid"], second["pid"], template["pid"]])
    assert service.hook(trees[0]).json["ok"]
    [worker] = workers().values()
    answered = service.ask("POST", "/v1/restart", {"environment": worker["python"]})
    assert answered.json["workers"] == 1
    processes.wait_gone([worker["pid"]])
    assert service.hook(trees[0]).json["ok"]
    assert service.ask("POST", "/v1/restart").json["workers"] == 1
    assert service.end() == 0


@BOTH_WAYS
def test_the_output_of_a_hook_is_followed_to_its_end(
    setting: Setting, tree: Path, gates: Callable[[str], Gate]
) -> None:
    service = setting.serve()
    one, two = gates("one"), gates("two")
    code = (
        "import sys; print('first', flush=True)\n"
        + one.code
        + "print('sec\\u00f6nd', file=sys.stderr, flush=True)\n"
        + two.code
        + "print('last')"
    )
    with sent(service, call(tree, code)) as connection:
        one.arrived()
        [request] = service.get("/v1/requests")["first"]
        path = f"/v1/requests/{request['id']}/log"
        assert service.ask("GET", path).body == b"first\n"
        with contextlib.closing(service.connect()) as follower:
            follower.request("GET", path + "?follow=1")
            log = follower.getresponse()
            assert log.getheader("content-type") == "text/plain"
            assert log.readline() == b"first\n"
            one.release()
            assert log.readline().decode() == "secönd\n"
            # Nobody reads this one.
            with contextlib.closing(service.connect()) as slow:
                slow.request("GET", path + "?follow=1")
                two.release()
                assert log.read() == b"last\n"
                assert answer(connection)["stdout"] == "first\nlast\n"
    assert service.ask("GET", path).status == 404
    assert service.end() == 0


@BOTH_WAYS
def test_a_log_is_followed_from_the_queue_on(
    setting: Setting, tree: Path, gates: Callable[[str], Gate]
) -> None:
    service = setting.serve()
    one, two = gates("one"), gates("two")
    # A tree's requests take turns.
    with sent(service, call(tree, one.code)) as running:
        one.arrived()
        with sent(service, call(tree, "print('told', flush=True)\n" + two.code)) as waiting:
            processes.wait_until(lambda: service.get("/v1/requests")["count"] == 2)
            path = f"/v1/requests/{service.get('/v1/requests')['first'][1]['id']}/log"
            assert service.ask("GET", path).body == b""
            with contextlib.closing(service.connect()) as follower:
                follower.request("GET", path + "?follow=1")
                log = follower.getresponse()
                one.release()
                assert log.readline() == b"told\n"
                two.release()
                assert log.read() == b""
            assert answer(waiting)["ok"]
        assert answer(running)["ok"]
    assert service.end() == 0


WRONG = [
    ("GET", "/v1/requests/x", None, 400, 'expected the number of a request, got "x"'),
    ("DELETE", "/v1/requests/-1", None, 400, "expected the number of a request"),
    ("GET", "/v1/requests/1", None, 404, "no request 1 is unanswered"),
    ("DELETE", "/v1/requests/1", None, 404, "no request 1 is unanswered"),
    ("GET", "/v1/requests/1/log", None, 404, "no request 1 is unanswered"),
    ("GET", "/v1/requests/1/log?follow=yes", None, 400, 'got "follow=yes"'),
    ("PATCH", "/v1/limits", b"", 400, "EOF"),
    ("PATCH", "/v1/limits", b'{"jobs": 0}', 400, "jobs: expected a whole number, 1 or more, got 0"),
    ("PATCH", "/v1/limits", b'{"jobs": 9}', 400, "expected 1 to 4 jobs"),
    ("PATCH", "/v1/limits", b'{"queue_size": 9999999}', 400, "queue_size: 9999999"),
    ("PATCH", "/v1/limits", b'{"hook_timeout_ms": -1}', 400, "hook_timeout_ms: expected a number"),
    ("PATCH", "/v1/limits", b'{"max_restarts": 1}', 400, "max_restarts: there is no such limit"),
    ("POST", "/v1/restart", b'{"tree": "a"}', 400, 'tree: expected an absolute path, got "a"'),
    ("POST", "/v1/restart", b'{"worker": 1}', 400, "worker: expected tree, environment"),
    ("POST", "/v1/restart", b'{"tree": "/a", "template": 1}', 400, "at most one field"),
]

UNKNOWN: list[dict[str, Any]] = [
    {"tree": "/no/such"},
    {"template": 99},
    {"environment": "/no/such"},
]


@BOTH_WAYS
def test_wrong_requests_are_refused_with_a_problem_document(setting: Setting) -> None:
    service = setting.serve()
    limits = service.get("/v1/limits")
    for method, path, body, status, words in WRONG:
        refused = service.ask(method, path, body)
        assert refused.status == status, (path, body, refused.body)
        assert refused.headers["content-type"] == "application/problem+json"
        assert words in refused.json["detail"], refused.json
    assert service.get("/v1/limits") == limits
    with contextlib.closing(service.connect()) as connection:
        restarted = {"workers": 0, "templates": 0, "pools": 0}
        for nothing in UNKNOWN:
            assert ask(connection, "POST", "/v1/restart", nothing).json == restarted
    assert service.end() == 0


PAGE = REPOSITORY / "docs" / "src" / "reference" / "http.md"

# A request, and the response if the page has it.
EXAMPLE = re.compile(r"```http\n(.+?)```\n(?:\n```(json|text)\n(.+?)```\n)?", re.DOTALL)


def shape(value: Any) -> Any:
    """The names and types of a JSON value; a list is as its first entry."""
    if isinstance(value, dict):
        return {name: shape(part) for name, part in value.items()}
    if isinstance(value, list):
        return [shape(part) for part in value[:1]]
    return float if type(value) is int else type(value)


def test_the_examples_of_the_reference(setting: Setting, tmp_path: Path, gate: Gate) -> None:
    service = setting.serve(build_isolation=True)
    slow, example = make_tree(tmp_path / "slow"), make_tree(tmp_path / "example")
    project = make_project(tmp_path / "project")
    examples = EXAMPLE.findall(PAGE.read_text())
    assert len(examples) >= 12
    code = "print('compiling', flush=True)\n" + gate.code
    with sent(service, call(slow, code)) as connection:
        gate.arrived()
        for request, kind, expected in examples:
            head, _, body = request.partition("\n\n")
            method, path = head.split()
            for name, place in [("/src/example", example), ("/src/project", project)]:
                body = body.replace(name, str(place))
            body = body.replace("/tmp/dist", str(tmp_path / "dist"))
            response = service.ask(method, path, body.encode() or None)
            if kind == "text":
                assert response.body.decode() == expected
            elif kind == "json":
                assert shape(response.json) == shape(json.loads(expected)), (request, response.body)
            else:
                assert response.status == 200, (request, response.body)
            if path == "/v1/builds":
                assert response.lines[-1]["result"]["ok"], response.body
            if method == "DELETE":
                assert answer(connection)["error"]["kind"] == "Cancelled"
    documented = {request.split()[1].replace("/1", "/{id}") for request, _, _ in examples}
    assert documented - {"/v1/openapi.json"} <= set(service.get("/v1/openapi.json")["paths"])
    named = PAGE.read_text()
    for path, operations in service.get("/v1/openapi.json")["paths"].items():
        for method in operations:
            assert f"`{method.upper()} {path}`" in named
    assert service.end() == 0


def command(setting: Setting, socket: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this program for the service that listens there."""
    return subprocess.run(
        [PROGRAM, *arguments, "--socket", str(socket)],
        env=setting.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def output(setting: Setting, service: Service, *arguments: str) -> str:
    """The output of such a command, which succeeds."""
    done = command(setting, service.socket, *arguments)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def test_the_status_is_a_page_of_80_columns(setting: Setting, tmp_path: Path, gate: Gate) -> None:
    service = setting.serve("--max-restarts", "0", "--restart-window", "1h", build_isolation=True)
    assert "Requests" not in output(setting, service, "status")
    tree = make_tree(tmp_path / ("long-" * 20))
    bad = make_tree(tmp_path / "bad")
    kill_worker = (
        "import os, signal; os.kill(os.getppid(), signal.SIGKILL); os.kill(os.getpid(), 9)"
    )
    while service.get("/v1/status")["quarantined"]["count"] == 0:
        service.hook(bad, kill_worker)
    with sent(service, call(tree, gate.code)) as connection:
        gate.arrived()
        page = output(setting, service, "status")
        lines = page.splitlines()
        assert max(map(len, lines)) <= 80, page
        assert lines[0].startswith(f"hookpool 0.1.0, process {service.pid}, serving, up for ")
        assert lines[1].startswith("requests      1 of 4096: 1 running; the oldest ")
        assert lines[2].startswith("workers       1 of 4: 1 running; 2 jobs")
        assert lines[3].startswith("templates     1 of 16; ")
        assert lines[4].startswith("environments  1 held, ")
        assert lines[5] == "answers       0 used, 0 missing, 0 kept"
        [request] = [line for line in lines if line.endswith("long-long-long-")]
        assert "running" in request
        assert [line for line in lines if line.endswith("SIGKILL")], page
        assert json.loads(output(setting, service, "status", "--format", "json"))["requests"][
            "first"
        ][0]["tree"] == str(tree)
        gate.release()
        assert answer(connection)["ok"]
    assert service.end() == 0


def test_a_service_is_controlled_from_the_command_line(
    setting: Setting, tree: Path, gate: Gate
) -> None:
    service = setting.serve()
    with sent(service, call(tree, "print('told\\x1b', flush=True)\n" + gate.code)) as connection:
        gate.arrived()
        assert output(setting, service, "ctl", "drain") == "no new work is admitted; 1 open\n"
        assert service.hook(tree).status == 503
        assert output(setting, service, "ctl", "resume") == "new work is admitted; 1 open\n"
        resized = output(setting, service, "ctl", "resize", "-j", "1", "--hook-timeout", "1h")
        assert "jobs               1\n" in resized
        assert "hook timeout       60 min\n" in resized
        assert service.get("/v1/limits")["hook_timeout_ms"] == 3_600_000
        assert "hook timeout       none\n" in output(
            setting, service, "ctl", "resize", "--hook-timeout", "0"
        )
        [request] = service.get("/v1/requests")["first"]
        assert output(setting, service, "ctl", "log", str(request["id"])) == "told\x1b\n"
        done = command(setting, service.socket, "ctl", "cancel", str(request["id"]), "999")
        assert (done.returncode, done.stdout) == (1, f"cancelled {request['id']}\n")
        assert done.stderr == "error: no request 999 is unanswered\n"
        assert answer(connection)["error"]["kind"] == "Cancelled"
    [worker] = service.get("/v1/status")["workers"]["first"]
    restarted = output(setting, service, "ctl", "restart", "--tree", str(tree))
    assert restarted == "replaced: 1 workers, 0 templates; 0 pools get another chance\n"
    processes.wait_gone([worker["pid"]])
    done = command(setting, service.socket, "ctl", "restart", "--environment", "…/python")
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: nothing is replaced: " in done.stderr
    assert ", 1 templates; " in output(setting, service, "ctl", "restart")
    assert output(setting, service, "ctl", "drain", "--exit").startswith("no new work")
    assert service.process.wait(60) == 0


def test_a_log_is_followed_from_the_command_line(setting: Setting, tree: Path, gate: Gate) -> None:
    service = setting.serve()
    code = "print('one', flush=True)\n" + gate.code + "print('two')"
    with sent(service, call(tree, code)) as connection:
        gate.arrived()
        [request] = service.get("/v1/requests")["first"]
        arguments = ["ctl", "log", "--follow", str(request["id"]), "--socket", str(service.socket)]
        with subprocess.Popen(
            [PROGRAM, *arguments], env=setting.env, stdout=subprocess.PIPE, text=True
        ) as follower:
            assert follower.stdout
            assert follower.stdout.readline() == "one\n"
            gate.release()
            assert follower.stdout.read() == "two\n"
            assert follower.wait(60) == 0
        assert answer(connection)["ok"]
    assert service.end() == 0


def test_commands_say_that_no_service_listens(setting: Setting) -> None:
    socket = setting.root / "no" / "socket"
    for arguments in (["status"], ["ctl", "drain"], ["ctl", "cancel", "1"], ["ctl", "log", "1"]):
        done = command(setting, socket, *arguments)
        assert done.returncode == 3
        first, _, hint = done.stderr.splitlines()
        assert first.startswith(f"error: no service listens at {socket}: ")
        assert hint.startswith("hint: `hookpool serve` starts a service, --socket names")
    assert command(setting, socket, "ctl", "resize").returncode == 2


@BOTH_WAYS
def test_events_are_told_as_they_happen(setting: Setting, tree: Path, gate: Gate) -> None:
    service = setting.serve()
    with contextlib.closing(service.connect()) as listener:
        listener.request("GET", "/v1/events")
        events = listener.getresponse()
        assert events.getheader("content-type") == "application/x-ndjson"

        def until(name: str) -> Any:
            while (event := json.loads(events.readline()))["event"] != name:
                assert event["time_ms"] > 1e12
            return event

        with sent(service, call(tree, gate.code)) as connection:
            queued = until("request_queued")
            assert queued["tree"] == str(tree)
            assert until("request_accepted")["request"] == queued["request"]
            gate.arrived()
            gate.release()
            finished = until("request_finished")
            assert (finished["request"], finished["error"]) == (queued["request"], None)
            assert finished["timing"]["hook_ms"] > 0
            assert answer(connection)["ok"]
        service.ask("PATCH", "/v1/limits", {"jobs": 1})
        assert until("limits_changed")["limits"]["jobs"] == 1
        # It ends with the service, and does not hold that up.
        service.ask("POST", "/v1/drain", {"exit": True})
        until("draining")
        events.read()
    assert service.process.wait(60) == 0


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def metrics(service: Service) -> Samples:
    """All samples of the metrics, by name and labels."""
    scraped = service.ask("GET", "/metrics")
    assert scraped.status == 200
    expected = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert scraped.headers["content-type"] == expected
    # The package has no types.
    families = text_string_to_metric_families(scraped.body.decode())  # type: ignore[no-untyped-call]
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def series(samples: Samples, name: str, **labels: str) -> float:
    """The value of one sample."""
    return samples[name, tuple(sorted(labels.items()))]


# Of issue 21; of a histogram, one of its samples.
METRICS = {
    "hookpool_requests_total",
    "hookpool_hook_duration_seconds_count",
    "hookpool_queue_duration_seconds_count",
    "hookpool_worker_start_duration_seconds_count",
    "hookpool_queue_length",
    "hookpool_workers",
    "hookpool_templates",
    "hookpool_template_memory_bytes",
    "hookpool_environments_made_total",
    "hookpool_answers_total",
    "hookpool_quarantined_trees",
    "hookpool_oldest_request_seconds",
    "hookpool_build_info",
}


def test_the_metrics_count_kept_answers(setting: Setting, tmp_path: Path, own_cache: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    # Nobody can know that the time decides.
    code = "import time; result = [str(time.time_ns())]"
    service = setting.serve("--answers", "trees", build_isolation=True)
    answers = [service.hook(tree, code, requires=[]).json["answer"]["is"] for _ in range(3)]
    assert answers == ["kept", "used", "used"]

    def counted() -> list[float]:
        samples = metrics(service)
        results = ("hit", "miss", "wrong")
        return [series(samples, "hookpool_answers_total", result=result) for result in results]

    assert counted() == [2, 1, 0]
    assert service.end() == 0
    service = setting.serve("--answers", "trees", "--verify-answers", "100", build_isolation=True)
    assert service.hook(tree, code, requires=[]).json["answer"]["is"] == "wrong"
    assert counted() == [0, 0, 1]


def test_the_metrics_count_what_was_run(
    setting: Setting, tmp_path: Path, gate: Gate, own_cache: Path
) -> None:
    service = setting.serve(build_isolation=True)
    for number in range(3):
        assert service.hook(make_tree(tmp_path / f"tree-{number}")).json["ok"]
    tree = tmp_path / "tree-0"
    assert not service.hook(tree, "1 / 0").json["ok"]
    hook = "get_requires_for_build_wheel"
    with sent(service, call(tree, gate.code)) as running:
        gate.arrived()
        with sent(service, call(tree)) as waiting:
            processes.wait_until(lambda: service.get("/v1/requests")["count"] == 2)
            samples = metrics(service)
            assert series(samples, "hookpool_queue_length") == 1
            assert series(samples, "hookpool_workers", state="running") == 1
            assert series(samples, "hookpool_oldest_request_seconds") > 0
            assert series(samples, "hookpool_templates") == 1
            assert series(samples, "hookpool_template_memory_bytes") > 1_000_000
            first = service.get("/v1/requests")["first"][0]["id"]
            assert service.ask("DELETE", f"/v1/requests/{first}").status == 200
            assert answer(running)["error"]["kind"] == "Cancelled"
            assert answer(waiting)["ok"]
    samples = metrics(service)
    for outcome, count in [("ok", 4), ("HookRuntimeError", 1), ("Cancelled", 1)]:
        assert series(samples, "hookpool_requests_total", hook=hook, outcome=outcome) == count
    assert series(samples, "hookpool_hook_duration_seconds_count") == 6
    assert series(samples, "hookpool_queue_duration_seconds_count") == 6
    assert series(
        samples, "hookpool_worker_start_duration_seconds_count", start_method="forkserver"
    )
    assert series(samples, "hookpool_environments_made_total") == 1
    assert series(samples, "hookpool_answers_total", result="miss") == 0
    assert series(samples, "hookpool_queue_length") == 0
    assert series(samples, "hookpool_oldest_request_seconds") == 0
    assert series(samples, "hookpool_build_info", version="0.1.0") == 1
    names = {name for name, _ in samples if not name.endswith(("_bucket", "_sum"))}
    assert names == METRICS
    # Other trees, of other environments, add no series.
    for number in range(3, 6):
        assert service.hook(make_tree(tmp_path / f"tree-{number}"), requires=[]).json["ok"]
    assert set(metrics(service)) == set(samples)
    assert service.end() == 0


def test_what_builds_make_is_counted(setting: Setting, tree: Path, own_cache: Path) -> None:
    service = setting.serve(build_isolation=True)
    options = {"output-dir": str(setting.root / "out")}
    build = {"command": "sdist", "sources": [{"path": str(tree)}], "options": options}
    built = service.ask("POST", "/v1/builds", build)
    assert built.status == 200, built.body
    assert service.get("/v1/status")["environments"]["made"] == 1
    assert series(metrics(service), "hookpool_environments_made_total") == 1
    assert service.end() == 0
