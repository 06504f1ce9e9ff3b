"""A `hookpool serve`, and clients of it that come, go, and are killed."""

from __future__ import annotations

import http.client
import json
import os
import queue
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from client import Response
from family import TICK

HOST = "hookpool"
# How long an operator's request, and the last responses to a client, may take, in seconds.
PATIENCE = 60
# The share of requests that have a connection of their own.
ALONE = 0.2


class Batch:
    """A client that sends lines, and reads the responses to them, on one connection."""

    def __init__(self, serial: int, path: Path, responses: queue.SimpleQueue[Response]) -> None:
        self.lines = 0
        # By their ids; texts that are no requests by the names of their lines.
        self._unanswered: dict[int | str, str] = {}
        # Held while a line is sent, and at the end.
        self._lock = threading.Lock()
        self.is_over = False
        self._serial = serial
        self._responses = responses
        self._socket = connected(path)
        head = f"POST /v1/batch HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"
        self._socket.sendall(head.encode())
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def line(self) -> str:
        """The name of the line that was sent last."""
        return f"{self._serial}:{self.lines}"

    def send(self, text: str, number: int | None = None) -> bool:
        """Send a line, to get an answer with this number; false if the batch is over."""
        with self._lock:
            if self.is_over:
                return False
            self.lines += 1
            self._unanswered[self.line() if number is None else number] = text
            data = text.encode() + b"\n"
            # A service that is drained closes the connection, and the reader learns that.
            with suppress(OSError):
                self._socket.sendall(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    def leave(self) -> None:
        """Send no more, and wait for what was asked for."""
        with suppress(OSError):
            self._socket.sendall(b"0\r\n\r\n")
        self._reader.join(PATIENCE)
        self._socket.close()

    def kill(self) -> set[int]:
        """Close the connection; returns what will never be answered."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(PATIENCE)
        self._socket.close()
        return {key for key in self._unanswered if isinstance(key, int)}

    def _read(self) -> None:
        answer = http.client.HTTPResponse(self._socket, method="POST")
        is_drained = False
        with suppress(OSError, http.client.HTTPException):
            answer.begin()
            for line in answer:
                response = json.loads(line)
                key = response["id"]
                is_refused = (response["error"] or {}).get("kind") == "Draining"
                if key is None and is_refused:
                    is_drained = True
                    continue
                if key is None:
                    key = response["line"] = f"{self._serial}:{response['line']}"
                text = self._unanswered.pop(key, "")
                self._responses.put({"id": key, "again": text} if is_refused else response)
        with self._lock:
            self.is_over = True
            while is_drained and self._unanswered:
                key, text = self._unanswered.popitem()
                self._responses.put({"id": key, "again": text})


class Clients:
    """The service and its clients, in the place of one `hookpool run`."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        stderr: Path,
        socket_path: Path,
        number: int,
        generator: random.Random,
    ) -> None:
        self._stderr = stderr
        self._path = socket_path
        self._random = generator
        self._caller = json.dumps(
            {"caller": {"variables": list(env.items()), "umask": 0o022, "limits": []}}
        )
        self._responses: queue.SimpleQueue[Response] = queue.SimpleQueue()
        self._serial = 0
        self._batches: list[Batch | None] = [None] * number
        # Which client has asked for it. What has a connection of its own: its socket.
        self._asked: dict[int, Batch | socket.socket] = {}
        self._cancelled: set[int] = set()
        self._last: Batch | None = None
        with stderr.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--socket", str(socket_path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=dict(env),
            )

    # What one client does, too.

    @property
    def lines(self) -> str:
        """The name of the line that was sent last."""
        assert self._last is not None
        return self._last.line()

    def wait_ready(self, timeout: float) -> None:
        """Wait until it serves."""
        end = time.monotonic() + timeout
        while not self._path.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                raise TimeoutError(self._stderr.read_text(errors="replace"))
            time.sleep(TICK)

    def send(self, line: dict[str, Any]) -> None:
        """Send a request by one of the clients, or cancel it by the same one."""
        if "cancel" in line:
            self._cancel(line)
        elif self._random.random() < ALONE:
            self._ask_alone(line)
        else:
            self._ask_in_batch(line["id"], json.dumps(line))

    def send_text(self, text: str) -> None:
        """Send a line that need not be a request."""
        while not self._some_batch().send(text):
            pass

    def response(self, timeout: float) -> Response | None:
        """The next response. Raises queue.Empty after the timeout."""
        while True:
            response = self._responses.get(timeout=timeout)
            number = response["id"]
            if isinstance(number, str):
                return {"id": None, "line": number, "refused": True}
            if number is None or "again" not in response or number in self._cancelled:
                break
            # The service was drained before it has read the line, which cannot have run.
            self._ask_in_batch(number, response["again"])
        self._asked.pop(number, None)
        if "again" in response:
            return {"id": number, "abandoned": True}
        return response

    def signal(self, number: signal.Signals) -> None:
        """Signal the service."""
        self.process.send_signal(number)

    def rest(self) -> None:
        """Have all clients leave."""
        for index, batch in enumerate(self._batches):
            if batch is not None:
                batch.leave()
            self._batches[index] = None

    def close_input(self) -> None:
        """Have all clients leave, and end the service."""
        self.rest()
        self.signal(signal.SIGTERM)

    # What only several clients can do.

    def leave_one(self) -> bool:
        """Have one client leave. Another takes its place."""
        index = self._random.randrange(len(self._batches))
        batch, self._batches[index] = self._batches[index], None
        if batch is not None:
            # Its hooks may need others: nobody waits for them here.
            threading.Thread(target=batch.leave, daemon=True).start()
        return batch is not None

    def kill_one(self) -> bool:
        """Kill one client. Another takes its place."""
        index = self._random.randrange(len(self._batches))
        batch, self._batches[index] = self._batches[index], None
        if batch is not None:
            for number in batch.kill():
                self._responses.put({"id": number, "abandoned": True})
        return batch is not None

    def operate(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Send an operator's request; returns the status and the body of the answer."""
        with closing(connected(self._path)) as connection:
            request(connection, method, path, None if body is None else json.dumps(body))
            answer = http.client.HTTPResponse(connection, method=method)
            answer.begin()
            return answer.status, answer.read().decode()

    def _some_batch(self) -> Batch:
        index = self._random.randrange(len(self._batches))
        batch = self._batches[index]
        if batch is None or batch.is_over:
            self._serial += 1
            batch = self._batches[index] = Batch(self._serial, self._path, self._responses)
            batch.send(self._caller)
        self._last = batch
        return batch

    def _ask_in_batch(self, number: int, text: str) -> None:
        while not (batch := self._some_batch()).send(text, number):
            pass
        self._asked[number] = batch

    def _ask_alone(self, line: dict[str, Any]) -> None:
        connection = connected(self._path)
        self._asked[line["id"]] = connection
        body = json.dumps(json.loads(self._caller) | line)
        request(connection, "POST", "/v1/hooks", body)
        threading.Thread(
            target=self._read_alone, args=(connection, line["id"]), daemon=True
        ).start()

    def _read_alone(self, connection: socket.socket, number: int) -> None:
        response: Response = {"id": number, "abandoned": True}
        with closing(connection), suppress(OSError, http.client.HTTPException):
            answer = http.client.HTTPResponse(connection, method="POST")
            answer.begin()
            response = json.loads(answer.read())
        self._responses.put(response)

    def _cancel(self, line: dict[str, Any]) -> None:
        self._cancelled.add(line["cancel"])
        match self._asked.get(line["cancel"]):
            case Batch() as batch if batch in self._batches:
                batch.send(json.dumps(line))
            case socket.socket() as connection:
                # Its thread may have closed it.
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def connected(path: Path) -> socket.socket:
    """A new connection."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    connection.connect(os.fspath(path))
    # Hooks may take long.
    connection.settimeout(None)
    return connection


def request(connection: socket.socket, method: str, path: str, body: str | None) -> None:
    """Send a request."""
    data = (body or "").encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(data)}\r\n"
    head += "Content-Type: application/json\r\n\r\n"
    connection.sendall(head.encode() + data)
