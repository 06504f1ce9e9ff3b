"""The same question again: metadata whose answers are kept, against uv, which keeps them, too."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import file_system, machine
from programs import HERE, parser
from whole_runs import OURS, OURS_BY_PIP, UV, Bench, Goal, Kept, measure

sys.path.insert(0, str(HERE.parent / "tests" / "e2e"))
import sdists


def main() -> None:
    flags = parser(__doc__, rounds=9)
    flags.add_argument("--uv", default=Path(sys.executable).with_name("uv"), help="its program")
    arguments = flags.parse_args()
    print(machine(), f"; temporary files on {file_system(os.environ.get('TMPDIR', '/tmp'))}\n")
    archives = list(sdists.fetch_archives(HERE.parent / "target" / "test-sdists").values())
    # Some hooks list the folders above their tree, and their answers are kept only if nothing
    # changes there, as it does among the temporary files; others ask git, and theirs are kept only
    # if there is no repository above.
    with TemporaryDirectory(prefix=".hookpool-bench-", dir=Path.home()) as folder:
        contestants = Bench(arguments, Path(folder), Kept.ANSWERS).metadata(archives)
        contestants.pop(OURS_BY_PIP)
        title = f"metadata of {len(archives)} archives, {Kept.ANSWERS.value}"
        measure(title, contestants, [Goal(OURS, UV, 2.0)], arguments.rounds)


if __name__ == "__main__":
    main()
