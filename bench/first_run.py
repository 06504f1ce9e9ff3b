"""First runs, as in continuous integration: against uv, build and pip.

Three projects are built alone, as wheels; of all projects of the tests the metadata are asked for,
from archives, where many are static, and from source trees, by hooks.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory

from footprint import print_footprint
from measure import file_system, machine
from programs import HERE, parser
from whole_runs import (
    BUILD,
    OURS,
    OURS_BY_PIP,
    PIP,
    PIP_METADATA,
    UV,
    Bench,
    Goal,
    Kept,
    measure,
)

sys.path.insert(0, str(HERE.parent / "tests" / "e2e"))
import sdists

PROJECTS = {"setuptools": "six", "flit": "idna", "hatchling": "urllib3"}
"""The project of each backend that is built alone."""
WHEELS = {
    Kept.DOWNLOADS: [Goal(OURS, UV, 0.8), Goal(OURS, BUILD, 0.35), Goal(OURS_BY_PIP, PIP, 1.2)],
    Kept.NOTHING: [Goal(OURS, UV, 1.1)],
    Kept.DISTRIBUTIONS: [Goal(OURS, UV, 0.6)],
}
METADATA = {
    Kept.DOWNLOADS: [Goal(OURS, UV, 1 / 2.5), Goal(OURS, UV, 0.5, of_processors=True)],
    Kept.NOTHING: [Goal(OURS, UV, 1 / 1.5)],
    Kept.DISTRIBUTIONS: [],
}
BY_PIP = Goal(OURS_BY_PIP, PIP_METADATA, 1 / 3)
"""For many projects."""


def main() -> None:
    flags = parser(__doc__, rounds=5)
    flags.add_argument("--uv", default=Path(sys.executable).with_name("uv"), help="its program")
    only = ("wheels", "archives", "trees")
    flags.add_argument("--only", choices=only, action="append", help="default: each of them")
    names = [kept.name.lower() for kept in WHEELS]
    flags.add_argument("--kept", choices=names, action="append", help="default: each of them")
    arguments = flags.parse_args()
    print(machine(), f"; temporary files on {file_system(os.environ.get('TMPDIR', '/tmp'))}\n")
    archives = sdists.fetch_archives(HERE.parent / "target" / "test-sdists")
    for kept in (Kept[name.upper()] for name in arguments.kept or names):
        for part in arguments.only or only:
            if part == "wheels":
                for backend, project in PROJECTS.items():
                    _measure_wheel(arguments, kept, backend, archives[project])
            else:
                _measure_metadata(arguments, kept, part, list(archives.values()))


def _measure_wheel(arguments: Namespace, kept: Kept, backend: str, archive: Path) -> None:
    with TemporaryDirectory(prefix="hookpool-bench-") as folder:
        contestants = Bench(arguments, Path(folder), kept).wheel(archive)
        title = f"wheel of {archive.name.partition('-')[0]} ({backend}), {kept.value}"
        measure(title, contestants, WHEELS[kept], arguments.rounds)


def _measure_metadata(arguments: Namespace, kept: Kept, part: str, archives: list[Path]) -> None:
    with TemporaryDirectory(prefix="hookpool-bench-") as folder:
        bench = Bench(arguments, Path(folder), kept)
        title = f"metadata of {len(archives)} {part}"
        contestants = (bench.metadata_of_trees if part == "trees" else bench.metadata)(archives)
        goals = METADATA[kept]
        if kept is not Kept.DOWNLOADS:
            # It takes a minute, which would be the same.
            contestants.pop(PIP_METADATA, None)
        elif part == "archives":
            goals = [*goals, BY_PIP]
        measure(f"{title}, {kept.value}", contestants, goals, arguments.rounds)
        print(bench.count_hooks(contestants), "\n", flush=True)
        if kept is Kept.DOWNLOADS:
            for name in (PIP_METADATA, OURS_BY_PIP):
                contestants.pop(name, None)
            print_footprint(title, contestants, bench.cache("uv"))


if __name__ == "__main__":
    main()
