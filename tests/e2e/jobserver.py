"""Shared by tests of the jobserver: its fifo, jobs that wait, and hooks that are clients."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import time
from pathlib import Path

import processes
from gate import Gate
from pool import Pool
from trees import call

# How clients find the fifo; `take` and `put` are what make does for each job.
CLIENT = """\
import os
path = os.environ["MAKEFLAGS"].partition("--jobserver-auth=fifo:")[2].split()[0]
fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK)


def take(most):
    try:
        return os.read(fifo, most)
    except BlockingIOError:
        return b""


def put(tokens):
    os.write(fifo, tokens)

"""

# The number of free tokens: takes and returns them.
COUNT = CLIENT + "free = take(1000)\nif free:\n    put(free)\nresult = [str(len(free))]\n"


def wait_counted(pool: Pool, tree: Path, tokens: int, timeout: float = 10) -> None:
    """Wait until a hook finds this many tokens. Its own is taken when it already runs."""
    end = time.monotonic() + timeout
    while (found := pool.ask(call(tree, COUNT))["result"]) != [str(tokens)]:
        assert time.monotonic() < end, f"{found[0]} tokens are free, expected {tokens}"


class Fifo:
    """The fifo, as seen by a test that takes no token."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def free(self) -> int:
        """The number of tokens in it."""
        size = fcntl.ioctl(self._descriptor, termios.FIONREAD, b"\0" * 4)
        return int(struct.unpack("i", size)[0])

    def wait_free(self, tokens: int, timeout: float = 10) -> None:
        """Wait until it has this many tokens. Polls, since the kernel has no event for it."""
        end = time.monotonic() + timeout
        while (free := self.free()) != tokens:
            assert time.monotonic() < end, f"{free} tokens are free, expected {tokens}"
            time.sleep(processes.TICK)

    def close(self) -> None:
        """Close the descriptor; the fifo stays."""
        os.close(self._descriptor)


class Jobs:
    """A command for build files: each run is a job that passes a gate and is counted."""

    def __init__(self, folder: Path, gate: Gate) -> None:
        self._log = folder / "jobs.log"
        self._log.touch()
        self.script = folder / "job.sh"
        self.script.write_text(
            "#!/bin/sh\n"
            f"printf + >>{self._log}\n"
            f"echo $$ >{gate.arrivals}\n"
            f"dd if={gate.releases} of=/dev/null bs=1 count=1 2>/dev/null\n"
            f"printf -- - >>{self._log}\n"
        )
        self.script.chmod(0o755)

    def total(self) -> int:
        """The number of jobs that were started."""
        return self._log.read_text().count("+")

    def most_at_once(self) -> int:
        """The largest number of concurrent jobs."""
        running = most = 0
        for sign in self._log.read_text():
            running += 1 if sign == "+" else -1
            most = max(most, running)
        return most


def write_makefile(tree: Path, jobs: Jobs, count: int) -> str:
    """A build with make and this many jobs; returns the code of a hook that runs it."""
    names = " ".join(f"job{number}" for number in range(count))
    (tree / "Makefile").write_text(f"all: {names}\n{names}:\n\t@{jobs.script}\n")
    return run("make")


def write_ninja(tree: Path, jobs: Jobs, count: int) -> str:
    """The same with ninja."""
    builds = "".join(f"build job{number}: job\n" for number in range(count))
    (tree / "build.ninja").write_text(f"rule job\n  command = {jobs.script}\n{builds}")
    return run("ninja")


def write_crates(tree: Path, jobs: Jobs, count: int) -> str:
    """The same with cargo and independent crates."""
    members = [f"job{number}" for number in range(count)]
    (tree / "Cargo.toml").write_text(f"[workspace]\nresolver = '2'\nmembers = {members}\n")
    for member in members:
        (tree / member / "src").mkdir(parents=True)
        manifest = f"[package]\nname = '{member}'\nversion = '1.0.0'\nedition = '2021'\n"
        (tree / member / "Cargo.toml").write_text(manifest)
        (tree / member / "src" / "lib.rs").write_text("")
    wrapper = tree / "wrapper.sh"
    # cargo also asks the compiler for its version.
    wrapper.write_text(
        f'#!/bin/sh\ncase " $* " in *" --crate-name job"*) {jobs.script} ;; esac\nexec "$@"\n'
    )
    wrapper.chmod(0o755)
    return f"import os\nos.environ['RUSTC_WRAPPER'] = {str(wrapper)!r}\n" + run(
        "cargo", "build", "--quiet", "--offline"
    )


def run(*command: str) -> str:
    """The code of a hook that runs a command and returns its exit code."""
    return f"import subprocess\nresult = [str(subprocess.run({list(command)!r}).returncode)]\n"
