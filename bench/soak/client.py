"""One `hookpool run`: lines go in, responses come out."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Response = dict[str, Any]


class Client:
    """The program, and a thread that reads its responses."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], stderr: Path) -> None:
        with stderr.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=dict(env)
            )
        self.lines = 0
        self._responses: queue.SimpleQueue[Response | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def wait_ready(self, timeout: float) -> None:
        """Wait until it handles signals: before that, SIGHUP would end it."""
        self.send_text("{}")
        self.response(timeout)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._responses.put(json.loads(line))
        self._responses.put(None)

    def send(self, line: dict[str, Any]) -> None:
        """Write a request."""
        self.send_text(json.dumps(line))

    def send_text(self, text: str) -> None:
        """Write a line that need not be a request."""
        assert self.process.stdin is not None
        self.lines += 1
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def response(self, timeout: float) -> Response | None:
        """The next response; None at the end. Raises queue.Empty after the timeout."""
        return self._responses.get(timeout=timeout)

    def rest(self) -> None:
        """Nothing is to be done before its resources are measured."""

    def signal(self, number: signal.Signals) -> None:
        """Signal the supervisor."""
        self.process.send_signal(number)

    def close_input(self) -> None:
        """End the input."""
        assert self.process.stdin is not None
        self.process.stdin.close()
