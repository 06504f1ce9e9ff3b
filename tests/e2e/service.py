"""A running `hookpool serve`, and a client of it that waits with a timeout."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import processes
from pool import PROGRAM
from trees import call

TIMEOUT = 60.0


class Connection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: Path, timeout: float = TIMEOUT) -> None:
        super().__init__("hookpool", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect; called when the first request is sent."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Answer:
    """A response that was read completely."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        """The body as JSON Lines."""
        return [json.loads(line) for line in self.body.splitlines()]


class Service:
    """A `hookpool serve`; its standard error goes to a file."""

    def __init__(
        self,
        flags: Sequence[str],
        env: dict[str, str],
        socket_path: Path | None,
        log: Path,
        launcher: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.socket = socket_path or Path()
        self._log = log
        place = [] if socket_path is None else ["--socket", str(socket_path)]
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [*launcher, PROGRAM, "-v", "serve", *place, *flags],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
                env=env,
                pass_fds=pass_fds,
            )

    def __enter__(self) -> Service:
        return self.wait_ready()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The process of the service."""
        return self.process.pid

    @property
    def stderr(self) -> str:
        """Its standard error so far."""
        return self._log.read_text(errors="replace")

    def wait_ready(self) -> Service:
        """Wait until it serves."""
        end = time.monotonic() + TIMEOUT
        # As text or as JSON.
        while not re.search(r' serving |"serving"', self.stderr):
            assert self.process.poll() is None, f"the service has ended: {self.stderr}"
            assert time.monotonic() < end, f"the service is not ready: {self.stderr}"
            time.sleep(processes.TICK)
        return self

    def connect(self, timeout: float = TIMEOUT) -> Connection:
        """A new connection, which lasts for several requests."""
        return Connection(self.socket, timeout)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request on a connection of its own."""
        with contextlib.closing(self.connect()) as connection:
            return ask(connection, method, path, body, **headers)

    def get(self, path: str) -> Any:
        """The JSON of a path."""
        answer = self.ask("GET", path)
        assert answer.status == 200, answer.body
        return answer.json

    def hook(self, tree: Path, code: str = "", **fields: Any) -> Answer:
        """Run a hook of a tree that `make_tree` made."""
        return self.ask("POST", "/v1/hooks", call(tree, code, **fields))

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT)

    def kill(self) -> None:
        """End it without a chance to clean up, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(TIMEOUT)


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, **headers: str
) -> Answer:
    """One request on this connection."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, data, headers)
    response = connection.getresponse()
    return Answer(response.status, dict(response.getheaders()), response.read())


def raw(path: Path, data: bytes, timeout: float = TIMEOUT) -> socket.socket:
    """A connection that has sent these bytes."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(timeout)
    client.connect(str(path))
    client.sendall(data)
    return client


def received(client: socket.socket) -> Iterator[bytes]:
    """What comes until the other end closes."""
    while piece := client.recv(65536):
        yield piece
