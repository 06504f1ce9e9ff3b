"""`hookpool top` in a real terminal: a pseudo-terminal with an emulator behind it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyte
import pytest
from conftest import Setting
from gate import Gate
from pool import PROGRAM
from service import Service
from test_service_operations import answer, sent
from trees import call, make_tree

TIMEOUT = 60.0


class Top:
    """A `hookpool top`, and what its terminal shows."""

    def __init__(self, setting: Setting, service: Service, columns: int) -> None:
        self.master, self.terminal = pty.openpty()
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.before = termios.tcgetattr(self.terminal)
        self.screen = pyte.Screen(columns, 24)
        self._stream = pyte.ByteStream(self.screen)
        self.written = b""
        self.process = subprocess.Popen(
            [PROGRAM, "top", "--socket", str(service.socket)],
            env={**setting.env, "TERM": "xterm-256color"},
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def text(self) -> str:
        """The screen."""
        return "\n".join(self.screen.display)

    def read(self, limit: float) -> None:
        """What the program writes within this time at most."""
        ready, _, _ = select.select([self.master], [], [], limit)
        if ready:
            piece = os.read(self.master, 65536)
            self.written += piece
            self._stream.feed(piece)

    def wait(self, condition: Callable[[str], bool]) -> None:
        """Wait until the screen is as expected."""
        end = time.monotonic() + TIMEOUT
        while not condition(self.text):
            assert time.monotonic() < end, f"the screen never changed:\n{self.text}"
            assert self.process.poll() is None, self.process.communicate()
            self.read(0.05)

    def wait_for(self, text: str) -> None:
        """Wait until the screen has this text."""
        self.wait(lambda screen: text in screen)

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self.master, keys.encode())

    def end(self) -> int:
        """Wait for the end, and return the exit code."""
        end = time.monotonic() + TIMEOUT
        while self.process.poll() is None:
            assert time.monotonic() < end, self.text
            self.read(0.05)
        self.read(0)
        assert self.process.stderr
        self.process.stderr.close()
        return self.process.returncode

    def close(self) -> None:
        """Close the terminal."""
        for descriptor in (self.master, self.terminal):
            if descriptor >= 0:
                os.close(descriptor)
        self.master = self.terminal = -1

    def check_restored(self) -> None:
        """The terminal is as it was."""
        assert termios.tcgetattr(self.terminal) == self.before
        # It leaves the alternate screen.
        assert b"\x1b[?1049l" in self.written
        assert not self.screen.cursor.hidden


@contextlib.contextmanager
def top(setting: Setting, service: Service, columns: int = 80) -> Iterator[Top]:
    """A `hookpool top` for a service."""
    shown = Top(setting, service, columns)
    try:
        yield shown
    finally:
        if shown.process.poll() is None:
            shown.process.kill()
        shown.process.wait()
        shown.close()


@pytest.mark.parametrize("columns", [80, 200])
def test_it_shows_and_cancels_requests(
    setting: Setting, tmp_path: Path, gate: Gate, columns: int
) -> None:
    service = setting.serve()
    trees = [make_tree(tmp_path / name) for name in ("first", "second")]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(sent(service, call(tree, gate.code))) for tree in trees]
        gate.arrived()
        gate.arrived()
        shown = stack.enter_context(top(setting, service, columns))
        shown.wait(lambda screen: "first" in screen and "second" in screen)
        assert f"hookpool 0.1.0, process {service.pid}, serving, up for " in shown.text
        assert "requests      2 of 4096: 2 running" in shown.text
        [row] = [line for line in shown.screen.display if "second" in line]
        assert "running" in row
        shown.press("/second\r")
        shown.wait(lambda screen: "first" not in screen)
        shown.press("jx")
        shown.wait_for(f"cancel request {row.split()[0]}?")
        shown.press("y")
        assert answer(clients[1])["error"]["kind"] == "Cancelled"
        shown.wait(lambda screen: "second" not in screen.partition("filter")[0])
        shown.press("\x1b")
        shown.wait_for("first")
        shown.press("-")
        shown.wait_for("; 1 jobs")
        shown.press("d")
        shown.wait_for(", draining, up for ")
        shown.press("d")
        shown.wait_for(", serving, up for ")
        shown.press("q")
        assert shown.end() == 0
        shown.check_restored()
        gate.release()
        assert answer(clients[0])["ok"]
    assert service.get("/v1/limits")["jobs"] == 1
    assert service.end() == 0


@pytest.mark.parametrize("way", ["SIGTERM", "SIGINT", "Ctrl-C"])
def test_the_terminal_is_given_back(setting: Setting, way: str) -> None:
    service = setting.serve()
    with top(setting, service) as shown:
        shown.wait_for("q quit")
        assert termios.tcgetattr(shown.terminal) != shown.before
        if way == "Ctrl-C":
            shown.press("\x03")
            assert shown.end() == 0
        else:
            shown.process.send_signal(signal.Signals[way])
            assert shown.end() == {"SIGTERM": 143, "SIGINT": 130}[way]
        shown.check_restored()
    assert service.end() == 0


def test_it_ends_with_its_terminal(setting: Setting) -> None:
    service = setting.serve()
    with top(setting, service) as shown:
        shown.wait_for("q quit")
        shown.close()
        assert shown.process.wait(TIMEOUT) == 141
        assert shown.process.stderr
        shown.process.stderr.close()
    assert service.end() == 0


def test_it_waits_for_the_next_service(setting: Setting) -> None:
    service = setting.serve()
    with top(setting, service) as shown:
        shown.wait_for(f"process {service.pid}")
        assert service.end() == 0
        shown.wait_for("no service listens at")
        other = setting.serve()
        shown.wait_for(f"process {other.pid}")
        shown.press("q")
        assert shown.end() == 0
    assert other.end() == 0


def test_it_needs_a_terminal_and_a_service(setting: Setting) -> None:
    service = setting.serve()

    def run() -> subprocess.CompletedProcess[str]:
        arguments = [PROGRAM, "top", "--socket", str(service.socket)]
        return subprocess.run(
            arguments,
            env=setting.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )

    refused = run()
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "hint: `hookpool status`" in refused.stderr
    assert service.end() == 0
    refused = run()
    assert refused.returncode == 3
    assert refused.stderr.startswith("error: no service listens at ")
