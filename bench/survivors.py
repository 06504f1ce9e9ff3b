"""Kills supervisors of busy pools at random moments, and looks for surviving processes.

    python bench/survivors.py --kills 1000 --seed 1

Exit code 0 if no process survives a kill for more than one second.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# Shared with the soak.
sys.path.insert(0, str(Path(__file__).resolve().parent / "soak"))

import family  # noqa: E402

PROMISED = 1.0
"""Seconds after which no process may be left."""

# Time from the start of the program to the kill. The first workers start within about 0.2 s.
LONGEST_RUN = 0.8
FOR_EVER = "while True:\n    time.sleep(1000)\n"
IGNORING = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
COMPILER = "import signal, time\n" + IGNORING + FOR_EVER
DETACH = """\
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    while True:
        time.sleep(1000)
"""
ACTS = {
    "returns at once": "",
    "takes a while": "time.sleep(0.05)\n",
    "hangs": FOR_EVER,
    "ignores signals": IGNORING + FOR_EVER,
    "waits for a compiler": f"subprocess.run([sys.executable, '-S', '-c', {COMPILER!r}])\n",
    "detaches a server": DETACH,
    "blocks in C": "ctypes.PyDLL(None).pause()\n",
}
BACKEND = """\
import ctypes, os, signal, subprocess, sys, time


def get_requires_for_build_wheel(config_settings=None):
    exec(config_settings["code"], dict(globals()))
    return []
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n'


def parse() -> argparse.Namespace:
    """Parse the flags."""
    flags = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    program = Path(__file__).resolve().parents[1] / "target" / "release" / "hookpool"
    flags.add_argument("--hookpool", type=Path, default=program)
    flags.add_argument("--kills", type=int, default=100)
    flags.add_argument("--seconds", type=float, help="end after this time")
    flags.add_argument("--seed", type=int, default=1)
    return flags.parse_args()


def make_trees(folder: Path, count: int) -> list[Path]:
    """Source trees whose hooks run the code in the request."""
    trees = [folder / f"tree-{number}" for number in range(count)]
    for tree in trees:
        tree.mkdir(parents=True)
        (tree / "pyproject.toml").write_text(PROJECT)
        (tree / "own.py").write_text(BACKEND)
    return trees


def request(number: int, tree: Path, act: str) -> bytes:
    """A request for a hook."""
    line: dict[str, Any] = {
        "id": number,
        "tree": str(tree),
        "hook": "get_requires_for_build_wheel",
        "config_settings": {"code": ACTS[act]},
    }
    return json.dumps(line).encode() + b"\n"


def run_and_kill(
    generator: random.Random, command: list[str], env: dict[str, str], trees: list[Path]
) -> list[int]:
    """Start a pool, keep it busy for a while, and kill it. Returns its processes at that moment."""
    end = time.monotonic() + generator.uniform(0, LONGEST_RUN)
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env,
        bufsize=0,
    )
    assert process.stdin is not None and process.stdout is not None
    for number in range(40):
        act = generator.choice(list(ACTS))
        process.stdin.write(request(number, generator.choice(trees), act))
    while (left := end - time.monotonic()) > 0:
        if select.select([process.stdout], [], [], left)[0]:
            process.stdout.read(1 << 16)
    there = list(family.marked(env["SURVIVORS_MARK"]))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    return there


def main() -> int:
    arguments = parse()
    generator = random.Random(arguments.seed)
    unwanted = ("HOOKPOOL_", "PYTHON", "XDG_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    settings = list(itertools.product(("forkserver", "spawn"), ("hook", "none")))
    began = time.monotonic()
    kills = descendants = survivors = 0
    slowest = 0.0
    with TemporaryDirectory(prefix="hookpool-survivors-") as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        env |= {"TMPDIR": str(folder / "tmp"), "HOME": str(folder / "tmp")}
        trees = make_trees(folder / "trees", 12)
        for number in range(arguments.kills):
            if arguments.seconds is not None and time.monotonic() - began > arguments.seconds:
                break
            method, isolation = settings[number % len(settings)]
            command = [str(arguments.hookpool), "run", "--no-build-isolation", "-q"]
            command += ["--python", sys.executable, "--jobs", "6", "--max-workers", "8"]
            command += ["--start-method", method, "--isolation", isolation]
            command += ["--cache-dir", str(folder / "cache")]
            env["SURVIVORS_MARK"] = mark = uuid.uuid4().hex
            there = run_and_kill(generator, command, env, trees)
            killed = time.monotonic()
            kills += 1
            descendants += max(0, len(there) - 1)
            left = family.survivors(mark, PROMISED)
            slowest = max(slowest, time.monotonic() - killed)
            survivors += len(left)
            for pid, line in left.items():
                print(f"SURVIVOR after kill {number} ({method}, {isolation}): {pid}: {line}")
                os.kill(pid, signal.SIGKILL)
    print(f"{kills} kills with seed {arguments.seed}: {descendants} descendants")
    print(
        f"{survivors} survivors after {PROMISED} s; the last was gone {slowest * 1000:.0f} ms after"
    )
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
