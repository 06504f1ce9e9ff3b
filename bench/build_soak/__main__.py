"""Builds small projects repeatedly while faults happen, and checks the results.

    python bench/build_soak --iterations 500 --seed 1

Each iteration disturbs a run or damages the cache, and then runs a command undisturbed, which must
give the right wheels, metadata or source distributions and leave nothing behind. Exit code 0
if all iterations did.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

# Shared with the soak of single hooks.
sys.path.append(str(Path(__file__).resolve().parents[1] / "soak"))

import projects  # noqa: E402
import surroundings  # noqa: E402
from disk import SmallDisk, small_disk  # noqa: E402
from disturbances import Disturbances  # noqa: E402
from runs import COMMANDS, Command, Place, Run  # noqa: E402

TARGET = Path(__file__).resolve().parents[2] / "target"
# Large enough for the environments of both installers.
DISK = 256 << 20
INSTALLERS = ("uv", "pip")


def parse() -> argparse.Namespace:
    """Parse the flags."""
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    flags.add_argument("--hookpool", type=Path, default=TARGET / "release" / "hookpool")
    flags.add_argument("--iterations", type=int, default=500)
    flags.add_argument("--seconds", type=float, help="end after this time")
    flags.add_argument("--seed", type=int, default=1)
    flags.add_argument("--first", type=int, default=0, help="begin with this iteration")
    flags.add_argument("--faults", help="only these, separated by commas")
    flags.add_argument("--backends", type=Path, default=TARGET / "build-soak-wheels")
    return flags.parse_args()


class Soak:
    """Runs the iterations."""

    def __init__(self, arguments: argparse.Namespace, place: Place, disk: SmallDisk | None) -> None:
        self._arguments = arguments
        self._place = place
        self._disturbances = Disturbances(place, disk)
        names = arguments.faults.split(",") if arguments.faults else list(self._disturbances.all)
        self._names = [name for name in names if name in self._disturbances.all]
        self._right: dict[Command, dict[str, object]] = {}
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def _clean(self, command: Command, installer: str) -> list[str]:
        """A run that must give the results of the first one."""
        shutil.rmtree(self._place.out, ignore_errors=True)
        run = Run(self._place, self._arguments.hookpool, command, installer)
        run.start()
        wrong = run.end({0})
        if not wrong:
            results = run.results()
            right = self._right.setdefault(command, results)
            wrong = [
                f"{name} is not as it was" for name in right if results.get(name) != right[name]
            ]
            wrong += run.leftovers()
        return wrong

    def prepare(self) -> None:
        """Record the right results, which must be the same with both installers."""
        first, other = INSTALLERS
        runs = [(command, first) for command in COMMANDS] + [(COMMANDS[0], other)]
        for command, installer in runs:
            wrong = self._clean(command, installer)
            assert not wrong, (wrong, self._place.stderr.read_text())
        assert all(None not in results.values() for results in self._right.values())
        assert all(len(results) == len(projects.TREES) for results in self._right.values())

    def iterate(self, number: int) -> None:
        """A disturbance, and a clean run."""
        chance = random.Random(f"{self._arguments.seed}-{number}")
        name, command = chance.choice(self._names), chance.choice(COMMANDS)
        installer = chance.choice(INSTALLERS)
        run = Run(self._place, self._arguments.hookpool, command, installer)
        what, wrong = self._disturbances.all[name](run, chance)
        what = f"{number}: {' '.join(command)} by {installer}, {name}: {what}"
        self.counts[name] += 1
        if not wrong and hasattr(run, "process"):
            wrong = [
                f"{source} is wrong"
                for source, result in run.results().items()
                if result is not None and result != self._right[command][source]
            ]
        said = self._place.stderr.read_text(errors="replace")
        if not wrong:
            again = chance.choice(COMMANDS)
            wrong = [f"then {' '.join(again)}: {each}" for each in self._clean(again, installer)]
            said = self._place.stderr.read_text(errors="replace")
        if wrong:
            self.wrong.append(what)
            print("WRONG:", what, *wrong, *said.splitlines()[-8:], sep="\n    ", flush=True)
            # The next iteration begins with a working cache.
            shutil.rmtree(self._place.cache, ignore_errors=True)
            for path in self._place.tmp.iterdir():
                shutil.rmtree(path, ignore_errors=True)


def main() -> int:
    arguments = parse()
    surroundings.prepare()
    arguments.backends.mkdir(parents=True, exist_ok=True)
    projects.fetch_wheels(arguments.backends)
    with TemporaryDirectory(prefix="hookpool-build-soak-") as name, ExitStack() as stack:
        place = Place(Path(name))
        place.disk.mkdir(mode=0o700)
        disk = small_disk(place.disk, DISK)
        if disk is not None:
            stack.callback(disk.close)
        stack.callback(place.stop)
        place.tmp.mkdir(mode=0o700)
        projects.make_wheels(place.wheels, arguments.backends)
        soak = Soak(arguments, place, disk)
        soak.prepare()
        began, done = time.monotonic(), 0
        for number in range(arguments.first, arguments.first + arguments.iterations):
            if arguments.seconds is not None and time.monotonic() - began > arguments.seconds:
                break
            soak.iterate(number)
            done += 1
        took = time.monotonic() - began
    print(f"seed {arguments.seed}: {done} iterations in {took:.0f} s")
    print("faults:", ", ".join(f"{name} {count}" for name, count in soak.counts.most_common()))
    print(f"{len(soak.wrong)} wrong" if soak.wrong else "all was right again")
    return 1 if soak.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
