"""A running `hookpool run`: requests go in, responses come out, each step with a timeout."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import leaks
import processes
from trees import call

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("HOOKPOOL", str(REPOSITORY / "target" / "debug" / "hookpool"))

Request = dict[str, Any]
Response = dict[str, Any]

# The fields of a response. Every response has all of them.
FIELDS = {
    "id",
    "ok",
    "result",
    "error",
    "line",
    "tree",
    "hook",
    "worker",
    "answer",
    "timing",
    "stdout",
    "stderr",
    "stdout_truncated",
    "stderr_truncated",
}
ERROR_FIELDS = {
    "kind",
    "message",
    "exception",
    "unsupported_operation",
    "traceback",
    "exit",
    "hint",
}

# Small modules that nothing else imports, and that do nothing at import.
MARKERS = itertools.cycle(["colorsys", "netrc", "sched", "stringprep", "tabnanny"])


class Pool:
    """A `hookpool run` with pipes on stdin and stdout; stderr goes to a file.

    A thread reads the responses, so that reading can have a timeout; with
    `reading=False` nothing is read until `start_reading`.
    """

    def __init__(
        self,
        flags: Sequence[str],
        env: dict[str, str],
        stderr: Path,
        cwd: Path | None = None,
        reading: bool = True,
        preexec: Callable[[], None] | None = None,
        command: Sequence[str] = (PROGRAM,),
    ) -> None:
        self._stderr = stderr
        self._start_method = "spawn" if "spawn" in flags else "forkserver"
        with stderr.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "run", *flags],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=env,
                cwd=cwd,
                preexec_fn=preexec,
            )
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._ended = False
        # The lines that were written, and the responses that were read.
        self._sent = 0
        self._received = 0
        self._reader: threading.Thread | None = None
        if reading:
            self.start_reading()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The supervisor's process."""
        return self.process.pid

    @property
    def stderr(self) -> str:
        """The standard error of the supervisor so far."""
        return self._stderr.read_text(errors="replace")

    def start_reading(self) -> None:
        """Start reading responses."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def send(self, *requests: dict[str, Any]) -> None:
        """Write requests, one per line."""
        self.send_bytes(b"".join(json.dumps(request).encode() + b"\n" for request in requests))

    def send_bytes(self, data: bytes) -> None:
        """Write text that need not be requests."""
        assert self.process.stdin is not None
        self._sent += data.count(b"\n")
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def close_input(self) -> None:
        """End the input."""
        assert self.process.stdin is not None
        # If it has ended before, the exit code says why.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def close_output(self) -> None:
        """Close the output; only without a reading thread."""
        assert self.process.stdout is not None
        self.process.stdout.close()

    def response(self, timeout: float = 30) -> Response:
        """The next response, with its fields checked."""
        found = self.response_or_end(timeout)
        assert found is not None, f"stdout ended; stderr:\n{self.stderr}"
        return found

    def response_or_end(self, timeout: float = 30) -> Response | None:
        """The next response, or None at the end of stdout."""
        if self._ended:
            return None
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no response in {timeout} s; stderr:\n{self.stderr}") from None
        if line is None:
            self._ended = True
            return None
        assert line.endswith(b"\n"), f"incomplete line: {line!r}"
        self._received += 1
        found: Response = json.loads(line)
        check_shape(found)
        return found

    def wait_said(self, words: str, timeout: float = 20) -> None:
        """Wait until standard error contains this text."""
        end = time.monotonic() + timeout
        while words not in self.stderr:
            assert time.monotonic() < end, f"{words!r} is not in standard error: {self.stderr}"
            time.sleep(processes.TICK)

    def silent(self) -> bool:
        """Whether there is no response so far."""
        return self._lines.empty()

    def responses(self, count: int, timeout: float = 30) -> list[Response]:
        """The next responses, in order of completion."""
        return [self.response(timeout) for _ in range(count)]

    def ask(self, request: dict[str, Any], timeout: float = 30) -> Response:
        """Send a request and wait for the next response, which must belong to it."""
        self.send(request)
        found = self.response(timeout)
        assert found["id"] == request["id"]
        return found

    def settle(self, tree: Path, code: str = "") -> dict[str, Any]:
        """Run `code` in a hook of `tree` until the template has learned all its imports.

        Returns the worker of the next requests of the tree. A template learns when it
        is idle, in the order in which hooks imported modules, and an older worker is
        replaced. So a module that no other hook imports marks the end: a worker that has it from
        its start has all earlier ones.
        """
        worker: dict[str, Any] = self.ask(call(tree, code, "settle"))["worker"]
        assert worker["start_method"] == self._start_method
        if self._start_method == "spawn":
            return worker
        marker = next(MARKERS)
        self.ask(call(tree, f"__import__({marker!r})", "settle"))
        look = call(tree, f"import sys\nresult = [str({marker!r} in sys.modules)]", "settle")
        end = time.monotonic() + 20
        while (response := self.ask(look))["result"] != ["True"]:
            assert time.monotonic() < end, f"{marker} was never learned; stderr:\n{self.stderr}"
        worker = response["worker"]
        assert worker["start_method"] == self._start_method
        return worker

    def rest(self, timeout: float = 30) -> list[Response]:
        """All responses up to the end of stdout."""
        found = []
        while (response := self.response_or_end(timeout)) is not None:
            found.append(response)
        return found

    def finish(self, timeout: float = 30) -> tuple[list[Response], int]:
        """End the input; returns the remaining responses and the exit code."""
        if self._sent == self._received:
            found = leaks.descriptors(self.pid, 5)
            assert not found, f"more descriptors than it can need: {found}"
        self.close_input()
        rest = self.rest(timeout)
        return rest, self.wait(timeout)

    def run(self, requests: Iterable[dict[str, Any]], timeout: float = 30) -> list[Response]:
        """Send all, end the input, and return the responses in the order of the requests."""
        requests = list(requests)
        self.send(*requests)
        rest, _ = self.finish(timeout)
        order = {json.dumps(request["id"]): place for place, request in enumerate(requests)}
        return sorted(rest, key=lambda response: order[json.dumps(response["id"])])

    def wait(self, timeout: float = 30) -> int:
        """The exit code as in a shell: 128+n for an uncaught signal n."""
        code = self.process.wait(timeout)
        return code if code >= 0 else 128 - code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor only."""
        self.process.send_signal(number)

    def stop(self) -> None:
        """Kill it and its descendants, in whatever state they are."""
        family = [] if self.process.poll() is not None else processes.descendants(self.pid)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None and (stream is self.process.stdin or self._reader is None):
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        if self._reader is not None:
            self._reader.join(timeout=10)
            if not self._reader.is_alive() and self.process.stdout is not None:
                self.process.stdout.close()
        processes.wait_gone(family)


def check_shape(response: Response) -> None:
    """Check that all fields are present and consistent."""
    assert set(response) == FIELDS, response
    if response["ok"]:
        assert response["error"] is None
    else:
        assert response["result"] is None
        assert set(response["error"]) == ERROR_FIELDS, response["error"]
        assert isinstance(response["error"]["message"], str)


def kind(response: Response) -> str | None:
    """The kind of the error; None for a result."""
    return None if response["ok"] else str(response["error"]["kind"])
