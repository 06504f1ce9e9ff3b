"""The supervisor's end of a template's socket, for tests."""

from __future__ import annotations

import array
import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from client import PATIENCE, Hookd

LONGEST_PACKET = 64 << 10


def variables_file(variables: dict[str, str]) -> int:
    """A descriptor of a file with these, as environ(7) has them."""
    descriptor = os.memfd_create("variables")
    entries = [name + "=" + value + "\0" for name, value in variables.items()]
    os.write(descriptor, os.fsencode("".join(entries)))
    return descriptor


class ForkedHookd(Hookd):
    """A worker that a template has forked. Only the template can wait for it."""

    def __init__(self, template: Template, number: int, log: Path) -> None:
        self.log = log
        self.announced: set[str] = set()
        self.template = template
        self.number = number
        self.worker = 0
        self.pidfd = -1
        self.status: int | None = None
        self._unread = b""
        worker_input, test_output = os.pipe()
        test_input, worker_output = os.pipe()
        worker_log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.descriptors = [worker_input, worker_output, worker_log]
        self.input = os.fdopen(test_output, "wb", 0)
        self.output = os.fdopen(test_input, "rb", 0)

    def close_descriptors(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []

    def was_forked(self, pid: int) -> None:
        self.worker = pid
        self.pidfd = os.pidfd_open(pid)

    @property
    def pid(self) -> int:
        return self.worker

    def wait_dead(self) -> None:
        """Wait until the worker has ended, without reaping it."""
        if self.pidfd >= 0:
            assert select.select([self.pidfd], [], [], PATIENCE)[0], self.log.read_text()

    def wait(self) -> int:
        """Wait for the end, acknowledge it, and return the exit status."""
        if self.status is None:
            self.wait_dead()
            self.status = self.template.reap(self.worker)
        return os.waitstatus_to_exitcode(self.status)

    def finish(self) -> None:
        if not self.input.closed:
            self.input.close()
        try:
            self.wait_dead()
        finally:
            if not self.output.closed:
                if self.worker:
                    self._read_rest()
                self.output.close()
            if self.pidfd >= 0:
                os.close(self.pidfd)
                self.pidfd = -1


class Template:
    """A running template."""

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        folder: Path,
        arguments: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.log = folder / "template-log"
        self.workers: list[ForkedHookd] = []
        self.capture_folder = self.tree = ""
        self.started: dict[str, list[Any]] = {}
        self.read: list[dict[str, Any]] = []
        """The variables that imports have read, as it told."""
        self._unread: list[dict[str, Any]] = []
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with self.log.open("wb") as log, theirs:
            self.process = subprocess.Popen(
                [*command, "--template", "0", *arguments],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    # Packets.

    def send(self, message: object, descriptors: list[int] | None = None) -> None:
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        rights = array.array("i", descriptors or [])
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
        self.socket.sendmsg([data], ancillary)

    def receive(self) -> dict[str, Any]:
        """The next packet."""
        if self._unread:
            return self._unread.pop(0)
        assert select.select([self.socket], [], [], PATIENCE)[0], self.log.read_text()
        data = self.socket.recv(2 * LONGEST_PACKET)
        assert data, "the template has ended; its log: " + self.log.read_text()
        assert len(data) <= LONGEST_PACKET
        message = json.loads(data)
        assert isinstance(message, dict)
        return message

    def until(self, key: str) -> list[dict[str, Any]]:
        """All packets up to and with the first that has this key."""
        messages = [self.receive()]
        while key not in messages[-1]:
            messages.append(self.receive())
        return messages

    def find(self, key: str) -> dict[str, Any]:
        """The next packet that has this key; those before it stay unread."""
        *others, found = self.until(key)
        self._unread = others + self._unread
        return found

    def wait_started(self) -> None:
        while True:
            started = self.find("started")["started"]
            for name in ("modules", "folders", "path"):
                self.started.setdefault(name, []).extend(started[name])
            if not started["more"]:
                return

    # Imports.

    def learn(self, *names: str) -> None:
        self.send({"learned": list(names)})

    def outcome(self, what: str) -> dict[str, Any]:
        """The answer to the import of the backend or of learned modules. The parts of a long one
        are joined."""
        answer = self._next_outcome()
        if answer == {"importing": what}:
            answer = self._next_outcome()
        whole: dict[str, Any] = {"modules": [], "folders": []}
        while "imported" in answer:
            for key in ("modules", "folders"):
                answer[key] = whole[key] + answer[key]
            whole = answer
            if not answer.pop("more"):
                break
            answer = self._next_outcome()
        assert what in (answer.get("imported"), answer.get("refused")), answer
        return answer

    def _next_outcome(self) -> dict[str, Any]:
        answer = self.receive()
        while "read" in answer:
            self.read.append(answer["read"])
            answer = self.receive()
        return answer

    def import_backend(self, name: str) -> dict[str, Any]:
        self.send({"backend": name})
        return self.outcome("backend")

    def import_learned(self, *names: str) -> dict[str, Any]:
        """Have these imported, as they are before a fork. This one is refused."""
        self.learn(*names)
        self.send({"fork": -1})
        outcome = self.outcome("learned")
        assert self.find("not_forked")["not_forked"] == -1
        return outcome

    # Workers.

    def send_fork(
        self, *arguments: str, variables: dict[str, str] | None = None, **process: Any
    ) -> ForkedHookd:
        number = len(self.workers)
        hookd = ForkedHookd(self, number, self.folder / "log-{}".format(number))
        self.workers.append(hookd)
        order = {"fork": number, "arguments": list(arguments), **process}
        if variables is not None:
            order["variables"] = True
            hookd.descriptors.append(variables_file(variables))
        self.send(order, hookd.descriptors)
        hookd.close_descriptors()
        return hookd

    def fork(self, *arguments: str, **process: Any) -> ForkedHookd:
        hookd = self.send_fork(*arguments, **process)
        answer = self.find("forked")
        assert answer["forked"] == hookd.number
        hookd.was_forked(answer["pid"])
        return hookd

    def fork_worker(
        self,
        *arguments: str,
        isolation: str = "hook",
        tree: str | None = None,
        **process: Any,
    ) -> ForkedHookd:
        """Fork a worker with the usual options, and wait for its first READY."""
        switches = ["--json", "--control", "--isolation", isolation]
        folders = ["--capture-dir", self.capture_folder, tree or self.tree]
        hookd = self.fork(*switches, *arguments, *folders, **process)
        hookd.ready()
        return hookd

    def wait_idle(self) -> None:
        """Wait until it has handled all packets that it was sent."""
        self.send({"reap": 1})
        assert self.find("reaped") == {"reaped": 1, "status": None}

    def reap(self, pid: int) -> int:
        self.send({"reap": pid})
        answer = self.find("reaped")
        assert answer["reaped"] == pid
        status = answer["status"]
        assert isinstance(status, int)
        return status

    # Ends.

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    def finish(self) -> None:
        """End the template and its workers, whatever their state."""
        self.socket.close()
        # As the death of a supervisor does it: else the template waits for its workers' end.
        for hookd in self.workers:
            hookd.input.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            raise
        finally:
            for hookd in self.workers:
                hookd.finish()


StartTemplate = Callable[..., Template]
