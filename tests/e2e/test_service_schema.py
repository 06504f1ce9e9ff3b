"""The HTTP interface is as its OpenAPI document says, for requests that schemathesis invents."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path
from socket import SHUT_WR, socket
from socketserver import BaseRequestHandler, ThreadingTCPServer

import jsonschema_rs
import pytest
from builds import make_project
from conftest import Setting
from service import raw, received
from trees import call

HERE = Path(__file__).resolve().parent

# Each line of a batch is refused on its own: there is no wrong body.
SETTINGS = """
[[operations]]
include-path = "/v1/batch"
checks.negative_data_rejection.enabled = false
"""


@contextlib.contextmanager
def forwarder(target: Path) -> Iterator[str]:
    """The address of a TCP port that leads to a Unix socket."""

    class Forward(BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.closing(raw(target, b"")) as service:
                # The client closes first, or the service does.
                back = threading.Thread(target=pump, args=[service, self.request])
                back.start()
                pump(self.request, service)
                back.join()

    def pump(source: socket, sink: socket) -> None:
        with contextlib.suppress(OSError):
            for piece in received(source):
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(SHUT_WR)

    class Server(ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Forward) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.timeout(120)
def test_the_service_is_as_its_document_says(setting: Setting) -> None:
    service = setting.serve(build_isolation=True)
    (setting.root / "schemathesis.toml").write_text(SETTINGS)
    program = Path(sysconfig.get_path("scripts")) / "schemathesis"
    with forwarder(service.socket) as address:
        run = subprocess.run(
            [
                *(sys.executable, program, "run", f"{address}/v1/openapi.json"),
                *("--phases", "coverage,fuzzing", "--max-examples", "30", "--seed", "5"),
                *("--workers", "2", "--request-timeout", "20", "--generation-database", "none"),
                # Whether a request is accepted depends on files too.
                *("--exclude-checks", "positive_data_acceptance"),
                # A service that is to end would refuse all that follows, and events never end.
                *("--exclude-path", "/v1/drain", "--exclude-path", "/v1/events"),
            ],
            env={**setting.env, "SCHEMATHESIS_HOOKS": "schema_hooks", "PYTHONPATH": str(HERE)},
            cwd=setting.root,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert run.returncode == 0, run.stdout + run.stderr
    assert service.get("/healthz") == {"phase": "serving", "open": 0}
    assert service.end() == 0


def test_responses_and_events_are_as_the_document_says(setting: Setting, tree: Path) -> None:
    service = setting.serve(build_isolation=True)
    document = service.get("/v1/openapi.json")

    def check(schema: str, value: object) -> None:
        whole = {**document, "$ref": f"#/components/schemas/{schema}"}
        jsonschema_rs.validate(whole, value)

    listener = service.connect()
    listener.request("GET", "/v1/events")
    events = listener.getresponse()
    for code in ("print('text')", "raise ValueError", "import os; os.abort()"):
        check("HookResponse", service.hook(tree, code).json)
    batch = service.ask("POST", "/v1/batch", json.dumps(call(tree)).encode() + b"\nnonsense\n")
    for line in batch.lines:
        check("HookResponse", line)
    sources = [make_project(setting.root / name, name=name) for name in ("one", "two")]
    missing = setting.root / "missing"
    told = set()
    for command in ("metadata", "wheel", "sdist", "editable"):
        options = {} if command == "metadata" else {"output-dir": str(setting.root / "out")}
        request = {
            "command": command,
            "sources": [{"path": str(source)} for source in [*sources, missing]],
            "options": {**options, "config-setting": "build_wheel=print('text')"},
            "output": True,
        }
        check("BuildRequest", request)
        for event in service.ask("POST", "/v1/builds", request).lines:
            check("BuildEvent", event)
            told.add(event["event"])
    assert {"step", "hook", "output_ended", "result"} <= told
    service.ask("PATCH", "/v1/limits", {"jobs": 1})
    service.ask("POST", "/v1/restart", {"tree": str(tree)})
    assert service.end() == 0
    happened = [json.loads(line) for line in events]
    for event in happened:
        check("PoolEvent", event)
    names = {event["event"] for event in happened}
    assert {"request_finished", "worker_exited", "limits_changed", "restarting"} <= names
    listener.close()
