"""Runs thousands of hooks while faults happen, and checks every response.

    python bench/soak --requests 100000 --seed 1

Exit code 0 if every response is right and nothing is left.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import family
import surroundings
from account import Account
from client import Client
from clients import Clients
from disk import small_disk
from family import Usage
from session import Soak, Stuck
from world import World

MOST_SHOWN = 10
# Time for the end, after the last response.
PATIENCE = 30
# What records of environments and backends may take that were edited hundreds of times, and what
# the allocator keeps of the memory that open requests took, in KiB.
RECORDS = 8 << 10
# 32 for blocking work and 4 for files are the most; the others are few.
MOST_THREADS = 42


def parse() -> argparse.Namespace:
    """Parse the flags."""
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    program = Path(__file__).resolve().parents[2] / "target" / "release" / "hookpool"
    flags.add_argument("--hookpool", type=Path, default=program)
    flags.add_argument("--requests", type=int, default=2000)
    flags.add_argument("--seconds", type=float, help="end after this time")
    flags.add_argument("--trees", type=int, default=20)
    flags.add_argument("--seed", type=int, default=1)
    flags.add_argument("--start-method", choices=("forkserver", "spawn"), default="forkserver")
    flags.add_argument("--isolation", choices=("hook", "none"), default="hook")
    flags.add_argument("--no-build-isolation", dest="build_isolation", action="store_false")
    flags.add_argument("--jobs", type=int, default=4)
    flags.add_argument(
        "--rest",
        type=float,
        default=12,
        help="seconds of idleness whenever the resources of the supervisor are measured; they "
        "are compared unless this is 0 or isolation is `none`",
    )
    flags.add_argument("--max-workers", type=int, default=12)
    flags.add_argument(
        "--clients",
        type=int,
        default=0,
        help="clients of a `hookpool serve`, in place of one `hookpool run`",
    )
    return flags.parse_args()


def command(arguments: argparse.Namespace, world: World, folder: Path) -> list[str]:
    """The command line, with limits that take effect within minutes."""
    flags = {
        "--python": world.python,
        "--jobs": arguments.jobs,
        "--max-workers": arguments.max_workers,
        "--start-method": arguments.start_method,
        "--isolation": arguments.isolation,
        "--grace-period": "200ms",
        "--max-requests": 300,
        # Deliberate kills must not lead to a quarantine.
        "--max-restarts": 1_000_000,
        "--cache-dir": folder / "cache",
        "--capture-dir": folder / "disk" / "captures",
    }
    words = [str(word) for pair in flags.items() for word in pair]
    if not arguments.build_isolation:
        words.append("--no-build-isolation")
    return [str(arguments.hookpool), "serve" if arguments.clients else "run", "-q", *words]


def growth(early: Usage, late: Usage, workers: int) -> list[str]:
    """Resources that the supervisor has at the end and did not have early in the run."""
    held = {
        # The bounds of these records (64 keys of templates, 512 pools) are not reached early.
        "KiB of memory": (early.memory + max(early.memory // 4, RECORDS), late.memory),
        # Each worker may have had its own environment, which is released when the next one
        # is made.
        "descriptors": (early.descriptors + workers, late.descriptors),
        # Threads for files and other blocking work never end.
        "threads": (max(early.threads, MOST_THREADS), late.threads),
    }
    return [
        f"{now} {name} at the end, expected at most {most}"
        for name, (most, now) in held.items()
        if now > most
    ]


def environment(folder: Path, mark: str) -> dict[str, str]:
    """Our variables, with a mark that identifies all descendants."""
    unwanted = ("HOOKPOOL_", "PYTHON", "XDG_", "PIP_", "UV_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    # One heap for all threads: the fragmentation of many heaps adds up in a long run (mallopt(3)).
    kept["MALLOC_ARENA_MAX"] = "1"
    return kept | {"SOAK_MARK": mark, "TMPDIR": str(folder / "tmp"), "HOME": str(folder)}


def leftovers(folder: Path, mark: str) -> list[str]:
    """Processes and files that should not exist."""
    found = [f"process {pid}: {line}" for pid, line in family.survivors(mark, 5).items()]
    for place in (folder / "tmp", folder / "disk" / "captures"):
        found += [f"file {path}" for path in place.rglob("*")]
    return found


def main() -> int:
    arguments = parse()
    surroundings.prepare()
    with TemporaryDirectory(prefix="soak-") as name, ExitStack() as stack:
        folder = Path(name)
        for place in ("tmp", "disk"):
            (folder / place).mkdir(mode=0o700)
        disk = small_disk(folder / "disk")
        if disk is not None:
            stack.callback(disk.close)
        (folder / "disk" / "captures").mkdir(mode=0o700)
        world = World(folder, arguments.trees, arguments.build_isolation)
        account = Account(arguments.isolation)
        mark = uuid.uuid4().hex
        words = command(arguments, world, folder)
        env, stderr = environment(folder, mark), folder / "stderr"
        generator = random.Random(arguments.seed)
        client: Client | Clients
        if arguments.clients:
            # A path of a socket may have 107 bytes (unix(7)).
            client = Clients(words, env, stderr, folder / "s", arguments.clients, generator)
        else:
            client = Client(words, env, stderr)
        # Workers with isolation `none` stay for the processes of their hooks.
        rest = arguments.rest if arguments.isolation == "hook" else 0
        soak = Soak(generator, client, world, account, disk, rest)
        began = time.monotonic()
        try:
            client.wait_ready(PATIENCE)
            soak.run(arguments.requests, arguments.seconds)
            client.close_input()
            code = client.process.wait(PATIENCE)
            if code not in (0, 1):
                account.wrong.append(f"exit code {code}")
        except Stuck as stuck:
            account.wrong.append(str(stuck))
        finally:
            if client.process.poll() is None:
                client.process.kill()
                client.process.wait()
        took = time.monotonic() - began
        account.close(world.trees)
        if rest and soak.usages:
            account.wrong += growth(soak.usages[0], soak.usages[-1], arguments.max_workers)
        account.wrong += leftovers(folder, mark)
        where = "build isolation" if arguments.build_isolation else "no build isolation"
        print(f"seed {arguments.seed}, {arguments.start_method}, {arguments.isolation}, {where}")
        print(f"{account.answers} requests in {took:.0f} s over {arguments.trees} trees")
        print("outcomes:", *(f"{name} {count}" for name, count in account.outcomes.most_common()))
        print("workers:", *(f"{name} {count}" for name, count in account.methods.most_common()))
        faults = soak.faults.counts.most_common()
        print("faults:", ", ".join(f"{name} {count}" for name, count in faults))
        print("supervisor, in the course of the run:", *soak.usages, sep="\n  ")
        if account.wrong:
            print((folder / "stderr").read_text(errors="replace")[-3000:], file=sys.stderr)
    for line in account.wrong[:MOST_SHOWN]:
        print("WRONG:", line)
    print(f"{len(account.wrong)} wrong" if account.wrong else "the account balances")
    return 1 if account.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
