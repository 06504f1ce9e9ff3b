"""First runs, as in continuous integration: against uv, build and pip.

Three projects are built alone, as wheels; of all projects of the tests the metadata are asked for.
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
from whole_runs import BUILD, OURS, OURS_BY_PIP, PIP, UV, Bench, Goal, Kept, measure

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
    Kept.DOWNLOADS: [
        Goal(OURS, UV, 1 / 2.5),
        Goal(OURS, UV, 0.5, of_processors=True),
        Goal(OURS_BY_PIP, UV, 1),
    ],
    Kept.NOTHING: [Goal(OURS, UV, 1 / 1.5)],
    Kept.DISTRIBUTIONS: [],
}


def main() -> None:
    flags = parser(__doc__, rounds=5)
    flags.add_argument("--uv", default=Path(sys.executable).with_name("uv"), help="its program")
    only = ("wheels", "metadata")
    flags.add_argument("--only", choices=only, action="append", help="default: both")
    names = [kept.name.lower() for kept in WHEELS]
    flags.add_argument("--kept", choices=names, action="append", help="default: each of them")
    arguments = flags.parse_args()
    print(machine(), f"; temporary files on {file_system(os.environ.get('TMPDIR', '/tmp'))}\n")
    archives = sdists.fetch_archives(HERE.parent / "target" / "test-sdists")
    for kept in (Kept[name.upper()] for name in arguments.kept or names):
        if "wheels" in (arguments.only or only):
            for backend, project in PROJECTS.items():
                title = f"wheel of {project} ({backend})"
                _measure(arguments, kept, title, [archives[project]], alone=True)
        if "metadata" in (arguments.only or only):
            title = f"metadata of {len(archives)} archives"
            _measure(arguments, kept, title, list(archives.values()), alone=False)


def _measure(
    arguments: Namespace, kept: Kept, title: str, archives: list[Path], alone: bool
) -> None:
    with TemporaryDirectory(prefix="hookpool-bench-") as folder:
        bench = Bench(arguments, Path(folder), kept)
        contestants = bench.wheel(archives[0]) if alone else bench.metadata(archives)
        goals = (WHEELS if alone else METADATA)[kept]
        measure(f"{title}, {kept.value}", contestants, goals, arguments.rounds)
        if not alone and kept is Kept.DOWNLOADS:
            contestants.pop(OURS_BY_PIP)
            print_footprint(title, contestants, bench.cache("uv"))


if __name__ == "__main__":
    main()
