"""The other end of the protocol, for tests: starts a hookd, and talks with it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOOKD = Path(__file__).parent.parent / "hookd"

# Far more than anything here takes, so that only what hangs is cut off.
PATIENCE = 30.0


class Reply:
    """All messages that answered one request, up to the next READY."""

    def __init__(self, messages: list[tuple[str, str]]) -> None:
        self.messages = messages
        self.kinds = [kind for kind, _ in messages]

    def value(self, kind: str) -> str:
        values = [value for name, value in self.messages if name == kind]
        assert len(values) == 1, self.messages
        return values[0]

    @property
    def result(self) -> Any:
        assert "ERROR" not in self.kinds and "FATAL" not in self.kinds, self.messages
        return json.loads(self.value("OK"))

    @property
    def error(self) -> tuple[str, dict[str, Any]]:
        kind, _, text = self.value("ERROR").partition(" ")
        return kind, json.loads(text)

    @property
    def traceback(self) -> str:
        return str(json.loads(self.value("TRACEBACK")))

    def captured(self, kind: str) -> str:
        return Path(self.value(kind)).read_text(errors="replace")


class Hookd:
    """A running worker."""

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        log: Path,
        before_exec: Callable[[], object] | None = None,
    ) -> None:
        self.log = log
        self.announced: set[str] = set()
        with log.open("wb") as log_file:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                env=environment,
                bufsize=0,
                start_new_session=True,
                preexec_fn=before_exec,  # noqa: PLW1509
            )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.input = self.process.stdin
        self.output = self.process.stdout
        self._unread = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    # Writing.

    def write(self, *lines: str) -> None:
        """Write lines. Returns when all of them are in the pipe."""
        self.write_bytes("".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape"))

    def write_bytes(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self.input.write(view) or 0 :]

    def close_input(self) -> None:
        self.input.close()

    # Reading.

    def line(self) -> bytes:
        """The next line of output; empty at the end of the output."""
        deadline = time.monotonic() + PATIENCE
        while b"\n" not in self._unread:
            if not select.select([self.output], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError("hookd is silent; its log: " + self.log.read_text())
            data = self.output.read(1 << 16)
            if not data:
                line, self._unread = self._unread, b""
                return line
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line + b"\n"

    def message(self) -> tuple[str, str]:
        """The next message: its kind and its value."""
        line = self.line()
        assert line.endswith(b"\n"), (line, self.log.read_text())
        kind, _, value = line[:-1].decode("utf-8", "surrogateescape").partition(" ")
        if kind in ("STDOUT", "STDERR"):
            self.announced.add(value)
        return kind, value

    def packet(self) -> list[tuple[str, str]]:
        """The messages that the next read returns."""
        assert not self._unread
        messages = [self.message()]
        while self._unread:
            messages.append(self.message())
        return messages

    def until(self, kind: str) -> list[tuple[str, str]]:
        """All messages up to and with the first of that kind."""
        messages = [self.message()]
        while messages[-1][0] != kind:
            messages.append(self.message())
        return messages

    def ready(self) -> Reply:
        """All messages up to READY and the question for an action."""
        messages = self.until("READY")
        assert self.message() == ("EXPECT", "action")
        return Reply([message for message in messages if message[0] not in ("EXPECT", "READY")])

    # Both.

    def request(
        self,
        backend: str = "run_code",
        hook: str = "get_requires_for_build_wheel",
        *arguments: str,
        backend_path: tuple[str, ...] = (),
    ) -> list[str]:
        """The lines of one request."""
        return ["run", backend, *backend_path, "", hook, *(arguments or ("",))]

    def run(self, *arguments: str, **options: Any) -> Reply:
        """Run a hook to its end, READY included."""
        self.write(*self.request(*arguments, **options))
        return self.ready()

    def start_code(self, code: str, **settings: str) -> None:
        """Start a hook that runs this code. Does not wait."""
        payload = json.dumps(dict(settings, code=code))
        self.write(*self.request("run_code", "get_requires_for_build_wheel", payload))

    def run_code(self, code: str, **settings: str) -> Reply:
        """Run this code as a hook, to its end."""
        self.start_code(code, **settings)
        return self.ready()

    # Ends.

    def wait(self) -> int:
        """The exit status, as `subprocess` shows it."""
        return self.process.wait(PATIENCE)

    def shut_down(self) -> int:
        self.write("shutdown")
        assert self.until("SHUTDOWN")
        return self.wait()

    def finish(self) -> None:
        """End the worker, whatever its state."""
        self.input.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            if not self.output.closed:
                self._read_rest()
                self.output.close()

    def _read_rest(self) -> None:
        line = self.line()
        while line:
            kind, _, value = os.fsdecode(line[:-1]).partition(" ")
            if kind in ("STDOUT", "STDERR"):
                self.announced.add(value)
            line = self.line()


class Lifeline:
    """A named pipe that shows when processes have started, and when all of them are gone.

    The tested code opens it for writing, hands the descriptor on to its descendants by forking,
    and writes a byte for each that is ready. The end of it is the end of the last that had it.
    """

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        self._descriptor = -1

    def wait_started(self, count: int = 1) -> None:
        """Wait until that many bytes were written."""
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, os.O_RDONLY)
        for _ in range(count):
            assert os.read(self._descriptor, 1) == b"+"

    def wait_gone(self) -> None:
        """Wait until no process has it open."""
        assert os.read(self._descriptor, 1) == b""

    def is_open(self) -> bool:
        """Whether some process still has it open."""
        poll = select.poll()
        poll.register(self._descriptor, 0)
        return not poll.poll(0)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def wait_for_end(pids: list[int], seconds: float) -> list[int]:
    """Wait until these processes have ended; returns those that have not."""
    deadline = time.monotonic() + seconds
    left = []
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            left.append(pid)
        os.close(descriptor)
    return left


def wait_for_state(pid: int, states: str) -> None:
    """Wait until the process is in one of these states. It polls, as the kernel sends no event."""
    deadline = time.monotonic() + PATIENCE
    state = state_of(pid)
    while state not in states:
        assert time.monotonic() < deadline, f"process {pid} is in state {state}, not in {states}"
        time.sleep(0.01)
        state = state_of(pid)


def state_of(pid: int) -> str:
    """The state of a process, as the letter that ps(1) shows."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def processes_with(marker: str) -> list[int]:
    """The processes that have this text in their environment."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if marker.encode() in Path("/proc", entry, "environ").read_bytes():
                    found.append(int(entry))
            except OSError:
                continue
    return found


def kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
