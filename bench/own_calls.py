"""What hookd itself does for a hook: calls of its own Python functions, and page faults.

A page of memory that a process shares with the one that it was forked from is copied when it is
written to, and Python writes to whatever it uses: it counts references. So each function that runs
after a fork costs more than its time.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import machine, table
from programs import BACKEND, HERE, ISOLATIONS, BareHookd, parser

FEW, MANY = 10, 30
"""The difference between two workers with so many hooks is what a hook costs a worker that has run
some."""

FLAGS = {
    "hook": ["--report-imports", "--reuse-captures", "--observe=LANG"],
    "none": ["--report-imports", "--reuse-captures"],
}
"""What hookpool passes, by isolation."""


def count(
    arguments: Namespace, folder: Path, isolation: str, what: str, hooks: int
) -> dict[int, list[int]]:
    """The figures of all processes, by how many forks they are away from the template."""
    out = folder / "counts"
    program: list[str | Path] = [HERE / "counted_hookd.py", out, what, BACKEND]
    flags = FLAGS[isolation]
    with BareHookd(arguments, folder, isolation, program=program, flags=flags) as hookd:
        hookd.time_requests(hooks - 3)
        # Its template would kill it if its input hung up.
        hookd.send(b"shutdown\n")
        hookd.process.wait()
    figures: dict[int, list[int]] = {}
    for line in out.read_text().splitlines():
        forks, figure = map(int, line.split())
        figures.setdefault(forks, []).append(figure)
    return figures


def rows(arguments: Namespace, isolation: str) -> list[list[str]]:
    """For the worker and, with isolation `hook`, for the hook process."""
    with TemporaryDirectory() as root:
        figures = {
            (what, hooks): count(arguments, Path(root) / f"{what}-{hooks}", isolation, what, hooks)
            for what in ("calls", "faults")
            for hooks in (FEW, MANY)
        }

    def of_worker(what: str) -> tuple[str, str]:
        """Without its hooks, and for each."""
        ((few,), (many,)) = (figures[what, hooks][1] for hooks in (FEW, MANY))
        each = (many - few) / (MANY - FEW)
        return str(round(few - FEW * each)), str(round(each))

    def of_hook(what: str) -> str:
        return str(round(statistics.median(figures[what, MANY][2])))

    (start_calls, calls), (start_faults, faults) = of_worker("calls"), of_worker("faults")
    found = [
        [f"{isolation}, template to worker", start_calls, start_faults],
        [f"{isolation}, the worker", calls, faults],
    ]
    if isolation == "hook":
        found.append([f"{isolation}, the hook process", of_hook("calls"), of_hook("faults")])
    return found


def main() -> None:
    arguments = parser(__doc__, rounds=1).parse_args()
    print(machine(), "\n")
    all_rows = [row for isolation in ISOLATIONS for row in rows(arguments, isolation)]
    print(table(["a hook that does nothing, isolation", "own calls", "page faults"], all_rows))


if __name__ == "__main__":
    main()
