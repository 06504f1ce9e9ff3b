"""Sends damaged requests to real workers. Each must stay in step, or end in a known way.

    python bench/fuzz_hookd.py --seconds 600 --seed 1

Exit code 0 if nothing was found. A finding is printed as the bytes that were sent.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import select
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

# Shared with the soak.
sys.path.insert(0, str(Path(__file__).resolve().parent / "soak"))

import family  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[1]
PATIENCE = 20.0
ROUNDS_OF_A_WORKER = 60
# Ends every list and every request that a damaged request may have begun.
RESYNC = b"\n" * 8
MESSAGE = re.compile(rb"[A-Z][A-Z_]*( .*)?")
SETTINGS = b'{"a": ["b", "c"], "d": "\\ud800 \xc3\xa9"}'
REQUESTS = [
    b"run\nsample_module\n\nget_requires_for_build_wheel\n" + SETTINGS + b"\n",
    b"run\nsample_module\n\nbuild_wheel\nout\n" + SETTINGS + b"\nmetadata\n",
    b"run\nsample_object:backend.inner\n.\nsrc\n\nbuild_sdist\n\n{}\n",
    b"run\npackage.sub.backend\n\nprepare_metadata_for_build_wheel\nmeta\n\n",
    b"run\nfails_to_import\n\nbuild_editable\nout\nnull\n\n",
    b"run\n\n\nbuild_wheel\n\n\n\n",
    b"ping 12\n",
    b"cancel SIGTERM\n",
    b"\n\n",
]
TOKENS = [
    b"\n",
    b"\0",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\\n",
    b"../..",
    b"/",
    b":",
    b".",
    b"{",
    b"[" * 5000,
    b'"\\ud800"',
    b"1e999",
    b"NaN",
    b"9" * 5000,
    b"x" * 70000,
    b"run\n",
    b"ping",
    b"cancel ",
    b"hook_name",
    b" ",
    b"\r\n",
    "\u2028".encode(),
]
VARIANTS = [
    [],
    ["--json"],
    ["--json", "--control", "--report-imports"],
    ["--isolation", "hook"],
    ["--json", "--isolation", "hook"],
    ["--json", "--control", "--isolation", "hook", "--report-imports", "--report-shadowed"],
]


class Finding(Exception):
    """A fault of the worker."""


def damaged(generator: random.Random) -> bytes:
    """One to four requests with some changed bytes."""
    data = bytearray(b"".join(generator.choices(REQUESTS, k=generator.randint(1, 4))))
    for _ in range(generator.choice([0, 1, 1, 2, 4, 16])):
        place = generator.randrange(len(data) + 1)
        match generator.randrange(6):
            case 0:
                data[place : place + 1] = bytes([generator.randrange(256)])
            case 1:
                del data[place : place + generator.randint(1, 20)]
            case 2:
                data[place:place] = generator.choice(TOKENS)
            case 3:
                start = generator.randrange(len(data) + 1)
                data[place:place] = data[start : start + generator.randint(1, 60)]
            case 4:
                lines = bytes(data).split(b"\n")
                generator.shuffle(lines)
                data[:] = b"\n".join(lines)
            case _:
                data[place : place + 4] = generator.choice(TOKENS)
    return bytes(data)


class Worker:
    """A hookd that gets damaged requests."""

    def __init__(self, folder: Path, variant: list[str], env: dict[str, str]) -> None:
        self.sent: list[bytes] = []
        self._log = folder / "log"
        command = [sys.executable, str(REPOSITORY / "python" / "hookd"), *variant]
        command += ["--capture-dir", str(folder / "captures"), str(folder / "tree")]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=env
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input, self._output = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._input, False)
        self._unread = b""

    def survives(self, data: bytes) -> bool:
        """Send this, and check that the worker still works; returns false if it has ended."""
        self.sent.append(data)
        token = uuid.uuid4().hex
        settings = json.dumps({"token": token}).encode()
        probe = b"run\nsample_module\n\nget_requires_for_build_wheel\n" + settings + b"\n"
        ended = self._talk(data + b"\n" + RESYNC + probe, token.encode())
        return not ended

    def _talk(self, data: bytes, token: bytes) -> bool:
        """Write and read until a result with this token; returns whether the worker ended first."""
        end = time.monotonic() + PATIENCE
        view = memoryview(data)
        while time.monotonic() < end:
            writable = [self._input] if view else []
            ready = select.select([self._output], writable, [], end - time.monotonic())
            if ready[1]:
                try:
                    view = view[os.write(self._input, view[:65536]) :]
                except BrokenPipeError:
                    view = view[:0]
            if ready[0]:
                read = os.read(self._output, 1 << 16)
                if not read:
                    return True
                self._unread += read
                *lines, self._unread = self._unread.split(b"\n")
                for line in lines:
                    self._check(line)
                    if line.startswith(b"OK ") and token in line:
                        return False
        raise Finding(f"no answer to a good request in {PATIENCE} s")

    def _check(self, line: bytes) -> None:
        if not MESSAGE.fullmatch(line) and line:
            raise Finding(f"this is no message: {line[:200]!r}")
        if line.startswith(b"FATAL"):
            raise Finding(f"{line[:500]!r}")

    def end(self) -> None:
        """Check that the worker ends by itself, without a traceback of its own."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Finding("it does not end at the end of its input") from None
        self._process.stdout.close()
        said = self._log.read_text(errors="replace")
        if code != 0:
            raise Finding(f"exit code {code}: {said[-2000:]}")
        if "Traceback" in said:
            raise Finding(f"a fault of its own: {said[-2000:]}")

    def kill(self) -> None:
        """Kill the worker after a finding."""
        self._process.kill()
        self._process.wait()


def fuzz_one(
    generator: random.Random, folder: Path, env: dict[str, str], done: Counter[str]
) -> None:
    """Run a worker from its start to its end."""
    variant = generator.choice(VARIANTS)
    worker = Worker(folder, variant, env)
    try:
        for _ in range(ROUNDS_OF_A_WORKER):
            data = damaged(generator)
            done["inputs"] += 1
            if not worker.survives(data):
                # No request has `shutdown` or all its letters in sequence.
                raise Finding("it has ended before its input has")
        worker.end()
    except Finding as finding:
        worker.kill()
        print(f"FOUND with {variant}: {finding}")
        print(f"  the last input: {worker.sent[-1][:3000]!r}")
        done["findings"] += 1
    done["workers"] += 1
    for path in (folder / "captures").iterdir():
        path.unlink()


def main() -> int:
    flags = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    flags.add_argument("--seconds", type=float, default=20)
    flags.add_argument("--seed", type=int, default=1)
    arguments = flags.parse_args()
    generator = random.Random(arguments.seed)
    mark = uuid.uuid4().hex
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env |= {"PYTHONPATH": str(REPOSITORY / "python" / "tests" / "backends"), "FUZZ_MARK": mark}
    end = time.monotonic() + arguments.seconds
    done: Counter[str] = Counter()
    with TemporaryDirectory(prefix="hookd-fuzz-") as name:
        folder = Path(name)
        for place in ("captures", "tree/src"):
            (folder / place).mkdir(parents=True)
        while time.monotonic() < end:
            fuzz_one(generator, folder, env, done)
    left = family.survivors(mark, 5)
    for line in left.values():
        print(f"FOUND: left behind: {line}")
    print(f"seed {arguments.seed}: {done['inputs']} inputs to {done['workers']} workers")
    print(f"{done['findings'] + len(left)} findings")
    return 1 if done["findings"] or left else 0


if __name__ == "__main__":
    sys.exit(main())
