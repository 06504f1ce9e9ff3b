"""The same question again: answers that are kept, of archives, of trees, and of single requests."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Any

from measure import Samples, compare, file_system, goal, machine
from programs import GET_REQUIRES, HERE, PREPARE, Program, environment, parser, run_to_end
from whole_runs import JOBS, OURS, UV, Bench, Goal, Kept, measure

sys.path.insert(0, str(HERE.parent / "tests" / "e2e"))
import sdists

DOWNLOADS = HERE.parent / "target" / "test-sdists"
LISTS = (sdists.LIST, HERE / "archives.txt", sdists.LIST.with_name("native_sdists.txt"))
SAME_FILES = "a loop that writes the same metadata"
PARTS = ("uv", "archives", "trees", "requests")
SECONDS_OF_92 = {"archives": 0.15, "trees": 0.4}
"""The goals, for that many sources."""
WARM_UP = 2
"""The first makes the answers, the second is not measured either."""
SETTLED_AFTER = 2.5
"""Seconds: what changed less than two seconds ago is read again, since its times may not tell."""


def against_uv(arguments: Namespace, folder: Path) -> None:
    archives = list(sdists.fetch_archives(DOWNLOADS).values())
    contestants = Bench(arguments, folder, Kept.ANSWERS).metadata(archives, by_hooks=True)
    contestants = {name: contestants[name] for name in (UV, OURS)}
    title = f"metadata of {len(archives)} archives, {Kept.ANSWERS.value}"
    measure(title, contestants, [Goal(OURS, UV, 2.0)], arguments.rounds)


def alone(arguments: Namespace, folder: Path, part: str) -> None:
    """As many archives, or unpacked trees, as there are."""
    sources = archives() if part == "archives" else trees(folder / "trees")
    flags = ["--answers", "trees"] if part == "trees" else []
    always = [str(arguments.hookpool), "metadata", "--quiet", "--no-static", "--format", "json"]
    always += [*ours(arguments, folder), *flags]
    for _ in range(WARM_UP):
        output = run_to_end([*always, *map(str, sources)], own(arguments)).output
    results = [json.loads(line) for line in output.splitlines()]
    kept = [
        result["source"]
        for result in results
        if all(hook["answer"]["is"] == "used" for hook in result["hooks"])
    ]
    others = {Path(result["source"]).name for result in results if result["source"] not in kept}
    print(f"left out, since their answers are not kept: {', '.join(sorted(others)) or 'none'}\n")
    command = [*always, *kept]
    wall, processors = Samples(), Samples()
    for _ in range(arguments.rounds):
        took = run_to_end(command, own(arguments))
        wall.rounds.append([took.wall])
        processors.rounds.append([took.processors])
    title = f"metadata of {len(kept)} {part}, answers kept"
    print(compare(title, {"wall time": wall, "processor time": processors}, "wall time"))
    print(goal(title, wall, SECONDS_OF_92[part] * len(kept) / 92), "\n")


def requests(arguments: Namespace, folder: Path) -> None:
    """One request at a time, of a process that stays."""
    sources = list(sdists.fetch_all(DOWNLOADS))
    chosen = trees(folder / "trees", sources[:5])
    command = [str(arguments.hookpool), "run", *ours(arguments, folder), "--answers", "trees"]
    samples = {name: Samples() for name in (GET_REQUIRES, PREPARE, SAME_FILES)}
    sizes = [sum(1 for _ in tree.rglob("*")) for tree in chosen]
    with Program(command, own(arguments)) as program:
        for number in range(arguments.rounds + WARM_UP):
            if number == WARM_UP:
                sleep(SETTLED_AFTER)
            for hook in (GET_REQUIRES, PREPARE):
                round_: list[float] = []
                copies: list[float] = []
                for tree in chosen:
                    out = folder / "out" / f"{number}-{tree.name}"
                    out.mkdir(parents=True, exist_ok=True)
                    request: dict[str, Any] = {"id": 1, "tree": str(tree), "hook": hook}
                    if hook == PREPARE:
                        request["metadata_directory"] = str(out)
                    line = json.dumps(request).encode() + b"\n"
                    start = perf_counter()
                    program.send(line)
                    answer = program.receive_until(b"\n")
                    took = perf_counter() - start
                    response = json.loads(answer)
                    if number < WARM_UP:
                        continue
                    if response["answer"]["is"] != "used":
                        raise RuntimeError(f"a hook ran: {response}")
                    round_.append(took)
                    if hook == PREPARE:
                        copies.append(copy(out / response["result"], out / "copy"))
                if round_:
                    samples[hook].rounds.append(round_)
                if copies:
                    samples[SAME_FILES].rounds.append(copies)
    title = f"requests about {len(chosen)} trees, answers kept"
    print(f"sizes of the trees, files and folders: {', '.join(map(str, sorted(sizes)))}\n")
    print(compare(title, samples, GET_REQUIRES))
    for hook in (GET_REQUIRES, PREPARE):
        print(goal(hook, samples[hook], 0.0005))
    print()


def copy(folder: Path, target: Path) -> float:
    """The seconds that it takes to write the files of a folder into another one."""
    files = {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    start = perf_counter()
    for parent in sorted({target / path.parent for path in files}):
        parent.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        (target / path).write_bytes(content)
    return perf_counter() - start


def archives() -> list[Path]:
    """The pinned source distributions of tests and benches."""
    return [path for listed in LISTS for path in sdists.fetch_archives(DOWNLOADS, listed).values()]


def trees(folder: Path, names: list[str] | None = None) -> list[Path]:
    """Copies of them, unpacked, without a repository above."""
    found = [item for listed in LISTS for item in sdists.fetch_all(DOWNLOADS, listed).items()]
    chosen = [tree for name, tree in found if names is None or name in names]
    return [sdists.copy(tree, folder / tree.name) for tree in chosen]


def ours(arguments: Namespace, folder: Path) -> list[str]:
    """The flags of hookpool."""
    flags = ["--jobs", str(JOBS), "--python", arguments.python, "--installer", "uv"]
    return [*flags, "--cache-dir", str(folder / "cache")]


def own(arguments: Namespace) -> dict[str, str]:
    """Its variables."""
    env = {name: text for name, text in environment().items() if name != "PYTHONPATH"}
    return env | {"UV": str(arguments.uv)}


def main() -> None:
    flags = parser(__doc__, rounds=9)
    flags.add_argument("--uv", default=Path(sys.executable).with_name("uv"), help="its program")
    flags.add_argument("--only", choices=PARTS, action="append", help="default: each of them")
    arguments = flags.parse_args()
    print(machine(), f"; temporary files on {file_system(os.environ.get('TMPDIR', '/tmp'))}\n")
    for part in arguments.only or PARTS:
        # Some hooks list the folders above their tree, and their answers are kept only if nothing
        # changes there, as it does among the temporary files; others ask git, and theirs are kept
        # only if there is no repository above.
        with TemporaryDirectory(prefix=".hookpool-bench-", dir=Path.home()) as name:
            folder = Path(name)
            if part == "uv":
                against_uv(arguments, folder)
            elif part == "requests":
                requests(arguments, folder)
            else:
                alone(arguments, folder, part)


if __name__ == "__main__":
    main()
