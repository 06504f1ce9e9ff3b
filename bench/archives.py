"""Archives with many different backends and environments, against uv.

Each environment is used once or twice, so making it, and unpacking, count more than hooks.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from footprint import print_footprint
from measure import file_system, machine
from programs import HERE, parser
from whole_runs import OURS, OURS_BY_PIP, UV, Bench, Goal, Kept, measure

sys.path.insert(0, str(HERE.parent / "tests" / "e2e"))
import sdists

LIST = HERE / "archives.txt"
PURE = (
    *("attrs", "cachetools", "docopt", "exceptiongroup", "httplib2", "ipykernel", "jsonschema"),
    *("ply", "pyproject_hooks", "pytest_xdist", "rsa", "scikit_build_core", "sqlmodel"),
    *("structlog", "termcolor", "trove_classifiers", "typer"),
)
"""Those whose wheels take no compiler."""
PARTS = {
    "metadata": (Kept.ENVIRONMENTS, [Goal(OURS, UV, 1 / 1.5), Goal(OURS, UV, 0.6, True)]),
    "metadata-new": (Kept.DOWNLOADS, [Goal(OURS, UV, 1 / 1.3)]),
    "wheels-new": (Kept.DOWNLOADS, [Goal(OURS, UV, 1 / 1.5)]),
}
"""What is measured: what is kept, and the goals."""


def main() -> None:
    flags = parser(__doc__, rounds=5)
    flags.add_argument("--uv", default=Path(sys.executable).with_name("uv"), help="its program")
    flags.add_argument("--only", choices=PARTS, action="append", help="default: each of them")
    arguments = flags.parse_args()
    print(machine(), f"; temporary files on {file_system(os.environ.get('TMPDIR', '/tmp'))}\n")
    archives = sdists.fetch_archives(HERE.parent / "target" / "test-sdists", LIST)
    for part in arguments.only or PARTS:
        kept, goals = PARTS[part]
        with TemporaryDirectory(prefix="hookpool-bench-") as folder:
            bench = Bench(arguments, Path(folder), kept)
            if part == "wheels-new":
                chosen = [archives[name] for name in PURE]
                contestants = bench.wheels(chosen)
            else:
                chosen = list(archives.values())
                contestants = bench.metadata(chosen)
                contestants.pop(OURS_BY_PIP)
            title = f"{part.removesuffix('-new')} of {len(chosen)} archives, {kept.value}"
            measure(title, contestants, goals, arguments.rounds)
            if kept is Kept.DOWNLOADS:
                print_footprint(title, contestants, bench.cache("uv"))


if __name__ == "__main__":
    main()
