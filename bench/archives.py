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
from whole_runs import OURS, UV, Bench, Goal, Kept, measure

sys.path.insert(0, str(HERE.parent / "tests" / "e2e"))
import sdists

LIST = HERE / "archives.txt"
PURE = (
    *("attrs", "cachetools", "docopt", "exceptiongroup", "httplib2", "ipykernel", "jsonschema"),
    *("ply", "pyproject_hooks", "pytest_xdist", "rsa", "scikit_build_core", "sqlmodel"),
    *("structlog", "termcolor", "trove_classifiers", "typer"),
)
"""Those whose wheels take no compiler."""
KEPT = [Goal(OURS, UV, 1 / 1.5), Goal(OURS, UV, 0.6, True)]
NEW = [Goal(OURS, UV, 1 / 1.3)]
PARTS = {
    "archives": (Kept.ENVIRONMENTS, KEPT),
    "archives-new": (Kept.DOWNLOADS, NEW),
    "trees": (Kept.ENVIRONMENTS, KEPT),
    "trees-new": (Kept.DOWNLOADS, NEW),
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
                title = f"wheels of {len(chosen)} archives"
            else:
                of_trees = part.startswith("trees")
                chosen = list(archives.values())
                contestants = (bench.metadata_of_trees if of_trees else bench.metadata)(chosen)
                contestants = {name: contestants[name] for name in (UV, OURS)}
                title = f"metadata of {len(chosen)} {part.removesuffix('-new')}"
            title += f", {kept.value}"
            measure(title, contestants, goals, arguments.rounds)
            if part != "wheels-new":
                print(bench.count_hooks(contestants), "\n", flush=True)
            if kept is Kept.DOWNLOADS:
                print_footprint(title, contestants, bench.cache("uv"))


if __name__ == "__main__":
    main()
