"""The programs that are measured: `hookpool run` and `serve`, a bare hookd, and pyproject_hooks."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from time import perf_counter, sleep
from typing import Any, Self

from pyproject_hooks import BuildBackendHookCaller, quiet_subprocess_runner

HERE = Path(__file__).resolve().parent
BACKEND = "trivial_backend"
GET_REQUIRES = "get_requires_for_build_wheel"
PREPARE = "prepare_metadata_for_build_wheel"
HOOK = GET_REQUIRES
READ_SIZE = 1 << 16
ISOLATIONS = ("none", "hook")
MEMORY = Path("/dev/shm")
"""A folder in memory."""


def parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """The flags that all benches have."""
    flags = argparse.ArgumentParser(description=description)
    flags.add_argument("--rounds", type=int, default=rounds, help="default: %(default)s")
    flags.add_argument(
        "--hookpool",
        type=Path,
        default=HERE.parent / "target" / "release" / "hookpool",
        help="the program (default: the release build)",
    )
    flags.add_argument(
        "--python", default=sys.executable, help="interpreter of the hooks (default: this one)"
    )
    return flags


def environment() -> dict[str, str]:
    """Our variables, with the trivial backend on PYTHONPATH, that is, outside of the tree."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("HOOKPOOL_")}
    # These change how an interpreter starts.
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
        own.pop(name, None)
    return own | {"PYTHONPATH": str(HERE / "backends")}


@dataclass(frozen=True)
class Took:
    """What a run took, and what it printed."""

    wall: float
    """In seconds."""
    processors: float
    """Processor time in seconds, of the program and of all processes that it waited for."""
    memory: int
    """The most that any one of these had in memory, in bytes."""
    output: str


def run_to_end(command: list[str], env: Mapping[str, str]) -> Took:
    """Run a command that has to succeed."""
    start = perf_counter()
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, env=dict(env), stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        wall = perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            problem = f"{command[:3]} exited with {process.returncode}: {errors.read()}"
            raise RuntimeError(problem)
    return Took(wall, used.ru_utime + used.ru_stime, used.ru_maxrss << 10, output)


def make_trees(folder: Path, count: int) -> list[Path]:
    """Source trees with the trivial backend."""
    trees = [folder / f"tree-{number}" for number in range(count)]
    for tree in trees:
        tree.mkdir(parents=True)
        text = f'[build-system]\nrequires = []\nbuild-backend = "{BACKEND}"\n'
        (tree / "pyproject.toml").write_text(text)
    return trees


class Program:
    """A child process with unbuffered pipes."""

    def __init__(self, command: list[str], env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=dict(env)
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._input = self.process.stdin.fileno()
        self._output = self.process.stdout.fileno()

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._input, view) :]

    def receive(self) -> bytes:
        data = os.read(self._output, READ_SIZE)
        if not data:
            raise RuntimeError(f"it ended with {self.process.wait()}: {self.process.args!r}")
        return data

    def receive_until(self, end: bytes) -> bytes:
        """Read up to `end`, which must be the end of the output so far."""
        data = self.receive()
        while not data.endswith(end):
            data += self.receive()
        return data

    def stop(self) -> None:
        """Close its input, and wait for its end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        with self.process:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Cat(Program):
    """A program that returns each line: the cost of two pipes and two context switches."""

    def __init__(self) -> None:
        super().__init__(["cat"], os.environ)

    def time_requests(self, count: int) -> list[float]:
        return [_time(lambda: self._round_trip(b"x" * 150 + b"\n")) for _ in range(count)]

    def _round_trip(self, line: bytes) -> None:
        self.send(line)
        self.receive_until(b"\n")


class Pool(Program):
    """`hookpool run`, with its own source trees."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        folder: Path,
        trees: int,
        flags: list[str],
        captures: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.trees = make_trees(folder, trees)
        self.responses: list[dict[str, Any]] = []
        # Shared by all pools of a bench, so that the worker is compiled once.
        cache = folder.parent / "cache"
        cache.mkdir(mode=0o700, exist_ok=True)
        command = [str(arguments.hookpool), "run", "--no-build-isolation"]
        command += ["--python", arguments.python, "--cache-dir", str(cache), *flags]
        command += ["--capture-dir", str(captures or folder)]
        super().__init__(command, environment())

    def line(self, number: int) -> bytes:
        """The next request; the trees take turns."""
        tree = str(self.trees[number % len(self.trees)])
        return json.dumps({"id": number, "tree": tree, "hook": HOOK}).encode() + b"\n"

    def warm_up(self) -> None:
        """Start a worker for each tree, with the backend imported."""
        self._run(2 * len(self.trees), window=len(self.trees))

    def request(self, number: int) -> float:
        """The time of a single request."""
        line = self.line(number)
        start = perf_counter()
        self.send(line)
        answer = self.receive_until(b"\n")
        seconds = perf_counter() - start
        self._keep(answer)
        return seconds

    def time_requests(self, count: int) -> list[float]:
        """Measures one request at a time. The first few after a pause do not count."""
        for number in range(3):
            self.request(number)
        del self.responses[-3:]
        return [self.request(number) for number in range(count)]

    def time_pipelined(self, count: int) -> list[float]:
        """The time per request while there are always more open ones than job slots."""
        return [_time(lambda: self._run(count, window=4 * len(self.trees))) / count]

    def _run(self, count: int, window: int) -> None:
        lines = [self.line(number) for number in range(count)]
        # If everything were sent before anything is read, both ends could block.
        self.send(b"".join(lines[:window]))
        sent, answers = min(window, count), bytearray()
        answered = 0
        while answered < count:
            data = self.receive()
            answers += data
            new = data.count(b"\n")
            answered += new
            self.send(b"".join(lines[sent : sent + new]))
            sent += new
        self._keep(bytes(answers))

    def _keep(self, answers: bytes) -> None:
        for line in answers.splitlines():
            response = json.loads(line)
            if not response["ok"]:
                raise RuntimeError(f"a request failed: {response['error']}")
            self.responses.append(response)


class BareHookd(Program):
    """A worker without a supervisor, started like a supervisor would."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        folder: Path,
        isolation: str,
        captures: Path | None = None,
        program: Sequence[str | Path] = (HERE.parent / "python" / "hookd",),
        flags: Sequence[str] = (),
    ) -> None:
        (self.tree,) = make_trees(folder, 1)
        self._captures = captures or folder / "captures"
        self._captures.mkdir(exist_ok=True)
        command = [arguments.python, *map(str, program), "--json", "--control"]
        command += ["--isolation", isolation, *flags]
        command += ["--capture-dir", str(self._captures), str(self.tree)]
        super().__init__(command, environment())
        self.receive_until(b"EXPECT action\n")
        # Action, backend, end of the backend path, hook, no settings.
        self._request = f"run\n{BACKEND}\n\n{HOOK}\n\n".encode()

    def time_requests(self, count: int) -> list[float]:
        """Writes each request after the result of the previous one."""
        samples = [_time(self._run) for _ in range(count + 3)][3:]
        # The caller's duty, which does not count as time of the worker.
        for capture in self._captures.iterdir():
            capture.unlink()
        return samples

    def _run(self) -> None:
        self.send(self._request)
        messages = b""
        while b"\nOK []\n" not in messages:
            messages += self.receive()
            if b"\nERROR " in messages or b"\nFATAL " in messages:
                raise RuntimeError(f"the hook failed: {messages!r}")


class PyprojectHooks:
    """pyproject_hooks, as frontends use it: a new process for each hook."""

    def __init__(self, arguments: argparse.Namespace, tree: Path) -> None:
        env = environment()

        def runner(
            cmd: Sequence[str],
            cwd: str | None = None,
            extra_environ: Mapping[str, str] | None = None,
        ) -> None:
            quiet_subprocess_runner(cmd, cwd, {**env, **(extra_environ or {})})

        self._caller = BuildBackendHookCaller(
            str(tree), BACKEND, runner=runner, python_executable=arguments.python
        )

    def call(self) -> None:
        if self._caller.get_requires_for_build_wheel() != []:
            raise RuntimeError("the hook gave something else")

    def time_requests(self, count: int) -> list[float]:
        return [_time(self.call) for _ in range(count)]


class Connection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("hookpool")
        self._path = path

    def connect(self) -> None:
        """Connect; called when the first request is sent."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


@contextmanager
def service(command: list[str], path: Path, env: Mapping[str, str]) -> Iterator[int]:
    """A service that is ready, by its process."""
    with subprocess.Popen([*command, "--socket", str(path)], env=env) as process:
        try:
            while not is_ready(path):
                sleep(0.01)
            yield process.pid
        finally:
            process.terminate()


def is_ready(path: Path) -> bool:
    """Whether the service admits work."""
    connection = Connection(path)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _time(action: Callable[[], object]) -> float:
    start = perf_counter()
    action()
    return perf_counter() - start
