"""Kept answers of archives: which are used, what they are worth, and what damages them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sdists
from answers import (
    ask,
    make_archive,
    make_trap,
    run,
    told,
    trap_files,
    why,
)
from builds import BACKEND, PREPARE, arguments, build, make_project
from conftest import BOTH_POOLS, Setting
from gate import Gate
from pool import PROGRAM
from test_default_way import small_disk

PREPARES = "prepare_metadata_for_build_wheel"
# One for each backend, of those without compiled code.
SELECTED = ("idna", "packaging", "six", "tomlkit", "platformdirs")
OWN_PROJECT = '[build-system]\nrequires = []\nbuild-backend = "own_backend"\nbackend-path = ["."]\n'


def own_files(more: str = PREPARE, before: str = "") -> dict[str, str]:
    """The files of a source distribution with a backend of its own, which needs no other."""
    backend = before + BACKEND.format(name="sample") + more
    return {"pyproject.toml": OWN_PROJECT, "own_backend.py": backend, "module.py": ""}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A source distribution whose answers are kept."""
    return make_archive(tmp_path / "sample.tar.gz", own_files())


def shown(setting: Setting) -> dict[str, str]:
    """What `hookpool cache show` says."""
    command = [PROGRAM, "cache", "show"]
    text = subprocess.check_output(command, text=True, env=setting.env)
    return dict(line.strip().split(": ", 1) for line in text.splitlines())


def contents(folder: Path) -> dict[str, str]:
    """The digests of the files in a folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.timeout(180)
def test_real_archives(setting: Setting, target: Path, tmp_path: Path) -> None:
    """Byte for byte what the hooks gave."""
    archives = sdists.fetch_archives(target / "test-sdists")
    sources = [archives[name] for name in SELECTED]
    wheels = []
    for number, kept in enumerate(("kept", "used")):
        out = tmp_path / str(number)
        built = build(setting, "wheel", *sources, "-o", out, "--format", "json")
        assert built.code == 0, built.stderr
        for result in built.results:
            assert set(told(result).answers.values()) == {kept}, result["source"]
        wheels.append(contents(out))
    assert wheels[0] == wheels[1]
    found = [
        {
            result["source"]: (result["metadata"], result["stdout"], result["requires_dist"])
            for result in run(setting, "--no-static", *sources, *flags).results
        }
        for flags in (["--refresh"], [])
    ]
    assert len(found[0]) == len(sources)
    assert found[0] == found[1]


# It lists a folder above its tree, as setuptools does with all of them.
LISTS = """
import os

folder = os.getcwd()
while os.path.basename(folder) != "above":
    folder = os.path.dirname(folder)
os.listdir(folder)
"""


def test_a_new_cache_folder_in_a_folder_that_is_listed(setting: Setting, tmp_path: Path) -> None:
    """The answers of the first run are kept, though it has changed what the hook lists."""
    archive = make_archive(tmp_path / "sample.tar.gz", own_files(before=LISTS))
    setting.env["HOOKPOOL_CACHE_DIR"] = str(tmp_path / "above" / "cache")
    assert set(ask(setting, archive).answers.values()) == {"kept"}
    assert ask(setting, archive).are_used
    (tmp_path / "above" / "new").touch()
    assert set(ask(setting, archive).answers.values()) == {"kept"}


@BOTH_POOLS
def test_policies(setting: Setting, archive: Path) -> None:
    def use(*flags: object) -> set[str]:
        return set(ask(setting, archive, *flags).answers.values())

    assert use("--answers", "none") == {"none"}
    assert use("--answers", "archives") == {"kept"}
    assert use("--answers", "none") == {"none"}
    assert use("--answers", "archives") == {"used"}
    assert use("--answers", "archives", "--refresh") == {"kept"}
    assert use("--answers", "all") == {"used"}
    assert use("--answers", "archives", "--no-build-isolation") == {"none"}


def test_verified_answers(setting: Setting, archive: Path, own_cache: Path) -> None:
    """Those that are right are as good as new; the hook runs in any case."""
    verify = ["--verify-answers", "100", "--strict"]
    ask(setting, archive)
    again = run(setting, archive, *verify)
    assert again.code == 0
    assert set(told(again.result).answers.values()) == {"kept"}
    # Of two hooks.
    assert shown(setting)["verified"] == "2"
    assert not [line for line in again.stderr.splitlines() if "warning" in line.lower()]


def test_a_wrong_answer(setting: Setting, tmp_path: Path, own_cache: Path) -> None:
    """Of a hook that nobody can know: the time decides what it returns."""
    before = "import time\n"
    more = PREPARE.replace("METADATA)", 'METADATA + "Summary: %s\\n" % time.time_ns())')
    archive = make_archive(tmp_path / "sample.tar.gz", own_files(more, before))
    first = ask(setting, archive).result["metadata"]
    assert ask(setting, archive).result["metadata"] == first
    for strict, code in ((["--strict"], 1), ([], 0)):
        found = run(setting, archive, "--verify-answers", "100", *strict)
        assert (found.code, "sample.tar.gz" in found.stderr) == (code, True)
        new = found.result["metadata"]
        assert new != first
        assert "wrong" in told(found.result).answers.values()
        # The new one has replaced it.
        assert ask(setting, archive).result["metadata"] == new
        first = new
    assert shown(setting)["verified, and different"] == "2"


def test_reasons_are_told(setting: Setting, tmp_path: Path, own_cache: Path) -> None:
    tree = make_project(tmp_path / "tree")
    kept = make_archive(tmp_path / "kept.tar.gz", own_files())
    before = "import subprocess\nsubprocess.run(['true'])\n"
    other = make_archive(tmp_path / "other.tar.gz", own_files(before=before))
    outcome = build(setting, "metadata", tree, kept, other, "-v", "--answers", "trees")
    assert outcome.code == 0
    name = "prepare_metadata_for_build_wheel"
    assert f"{tree}: {name}: kept" in why(setting, tree)
    assert f"{kept}: {name}: kept" in why(setting, kept)
    reason = "not kept: the hook started true"
    assert f"{other}: {name}: {reason}" in why(setting, other)
    assert f"the answer of {name} is not kept: the hook started true" in outcome.stdout
    moved = kept.rename(tmp_path / "moved.tar.gz")
    assert f"{moved}: {name}: kept" in why(setting, moved)
    run(setting, tree, moved)
    found = shown(setting)
    # Of two hooks each.
    assert found["hits"].split(",")[0] == "4"
    assert int(found["not kept"]) == int(found["program"]) > 0
    assert int(found["kept"]) == int(found["answers"].split(",")[0]) > 0


def test_an_answer_that_was_removed_is_told(
    setting: Setting, archive: Path, own_cache: Path
) -> None:
    ask(setting, archive)
    assert f"{archive}: {PREPARES}: kept" in why(setting, archive)
    # As if another hook of the archive had run since: what became of the answers stays.
    (noted,) = (own_cache / "answers/1/verdicts").rglob("*.json")
    os.utime(noted, (noted.stat().st_mtime + 60,) * 2)
    prune = [PROGRAM, "cache", "prune", "--max-size", "4K"]
    subprocess.run(prune, env=setting.env, check=True, capture_output=True)
    removed = f"{archive}: {PREPARES}: not kept: it was removed from the cache"
    assert removed in why(setting, archive)


def test_editable_wheels_are_never_kept(setting: Setting, tmp_path: Path) -> None:
    tree = make_trap(tmp_path / "tree", "1")
    for number in range(2):
        flags = ["-o", tmp_path / str(number), "--answers", "all", "--format", "json"]
        found = told(build(setting, "editable", tree, *flags).result)
        assert found.answers["build_editable"] == "none"


EXTENSION = """\
from setuptools import Extension, setup

setup(name="trap", version="1", ext_modules=[Extension("trap", ["trap.c"])])
"""
C_MODULE = """\
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "trap", 0, -1, 0};
PyMODINIT_FUNC PyInit_trap(void) { return PyModule_Create(&module); }
"""


def test_wheels_with_compiled_code(setting: Setting, tmp_path: Path) -> None:
    files = {**trap_files("1"), "setup.py": EXTENSION, "trap.c": C_MODULE}
    archive = make_archive(tmp_path / "trap.tar.gz", files)
    expected = {"archives": (False, False), "all": (False, True)}
    for policy, used in expected.items():
        made: list[dict[str, str]] = []
        for is_used in used:
            out = tmp_path / f"{policy}-{is_used}-{len(made)}"
            flags = ["-o", out, "--answers", policy, "--format", "json"]
            found = told(build(setting, "wheel", archive, *flags).result)
            assert (found.answers["build_wheel"] == "used") == is_used, found.answers
            made.append(contents(out))
            assert "none-any" not in next(iter(made[-1]))
        if used[1]:
            assert made[0] == made[1]
    # Another compiler.
    flags = ["-o", tmp_path / "other", "--answers", "all", "--format", "json"]
    env = {"CC": "gcc -O0"}
    found = told(build(setting, "wheel", archive, *flags, env=env).result)
    assert found.answers["build_wheel"] == "kept"


def test_a_wheel_by_way_of_a_source_distribution(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree")
    made = []
    for number, is_used in enumerate((False, True)):
        out = tmp_path / str(number)
        flags = ["--via-sdist", "-o", out, "--answers", "trees", "--format", "json"]
        found = told(build(setting, "wheel", tree, *flags).result)
        assert found.are_used == is_used, found.answers
        made.append(contents(out))
    assert made[0] == made[1]
    (tree / "module.py").write_text("VALUE = 2\n")
    flags = ["--via-sdist", "-o", tmp_path / "new", "--answers", "trees", "--format", "json"]
    found = told(build(setting, "wheel", tree, *flags).result)
    assert set(found.answers.values()) == {"kept"}
    assert contents(tmp_path / "new") != made[0]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def change(path: Path) -> None:
    """One byte, in a file of the same size and time."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": cut,
    "emptied": lambda path: os.truncate(path, 0),
    "changed": change,
    "removed": Path.unlink,
    "closed": lambda path: path.chmod(0),
}


@pytest.mark.parametrize(
    "kind",
    ["entries", "files", "sources", "archives", "trees", "tree-files", "originals"],
)
def test_damaged_files(setting: Setting, tmp_path: Path, own_cache: Path, kind: str) -> None:
    """The hook runs, and then the answer is kept again."""
    archive = make_archive(tmp_path / "sample.tar.gz", own_files())
    tree = make_project(tmp_path / "tree", name="other")
    first = [told(result).result["metadata"] for result in run(setting, archive, tree).results]
    for damage in DAMAGES.values():
        for path in (own_cache / "answers/1" / kind).rglob("*"):
            if path.is_file():
                damage(path)
        for _ in range(2):
            again = run(setting, archive, tree)
            assert again.code == 0
            found = [told(result) for result in again.results]
            assert sorted(each.result["metadata"] for each in found) == sorted(first)
        assert all(each.are_used for each in found), [each.answers for each in found]


def test_a_run_that_is_killed_while_it_writes(
    setting: Setting, tmp_path: Path, own_cache: Path
) -> None:
    """At any moment: the next one has the right answers, and the one after it keeps them."""
    archives = [
        make_archive(tmp_path / f"{number}.tar.gz", own_files(before=f"# {number}\n"))
        for number in range(8)
    ]
    expected = {str(path): ask(setting, path).result["metadata"] for path in archives[:1]}
    (metadata,) = expected.values()
    choose = random.Random(20)
    for _ in range(20):
        shutil.rmtree(own_cache / "answers")
        flags = ["metadata", *archives, "--format", "json"]
        process = subprocess.Popen(
            arguments(setting, *flags),
            env=setting.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert process.stdout is not None
        for _ in range(choose.randrange(1, len(archives))):
            process.stdout.readline()
        process.kill()
        process.communicate()
        setting.killed = True
        found = run(setting, *archives)
        assert {result["metadata"] for result in found.results} == {metadata}, found.stderr
        assert "damaged" not in found.stderr
    last = run(setting, *archives)
    assert all(told(result).are_used for result in last.results)
    prune = [PROGRAM, "cache", "prune"]
    subprocess.run(prune, env=setting.env, check=True, capture_output=True)
    assert not list((own_cache / "answers").rglob(".draft-*"))


def test_two_runs_at_once(setting: Setting, tmp_path: Path, own_cache: Path) -> None:
    archives = [
        make_archive(tmp_path / f"{number}.tar.gz", own_files(before=f"# {number}\n"))
        for number in range(4)
    ]
    command = arguments(setting, "metadata", *archives, "--format", "json")
    pipe = subprocess.PIPE
    both = [
        subprocess.Popen(command, env=setting.env, text=True, stdout=pipe, stderr=pipe)
        for _ in range(2)
    ]
    for process in both:
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
        assert len({json.loads(line)["metadata"] for line in stdout.splitlines()}) == 1
    last = run(setting, *archives)
    assert all(told(result).are_used for result in last.results)


def test_the_cache_is_cleaned_while_a_hook_runs(
    setting: Setting, tmp_path: Path, own_cache: Path, gate: Gate
) -> None:
    """The answer is kept or not, and is the right one."""
    before = f"import os\n{gate.code}\n"
    archive = make_archive(tmp_path / "sample.tar.gz", own_files())
    waiting = make_archive(tmp_path / "waiting.tar.gz", own_files(before=before))
    expected = ask(setting, archive).result["metadata"]
    command = arguments(setting, "metadata", archive, waiting, "--format", "json")
    process = subprocess.Popen(command, env=setting.env, stdout=subprocess.PIPE, text=True)
    gate.arrived()
    subprocess.run([PROGRAM, "cache", "clean"], env=setting.env, check=True, capture_output=True)
    gate.release()
    while process.poll() is None:
        if not gate.nobody():
            gate.arrived()
            gate.release()
    assert process.stdout is not None
    results = [json.loads(line) for line in process.stdout]
    process.stdout.close()
    assert [result["metadata"] for result in results] == [expected] * 2
    again = ask(setting, archive)
    assert again.result["metadata"] == expected


@contextmanager
def mounted(source: Path, place: Path, *options: str) -> Iterator[None]:
    """A folder at another place, too."""
    mount = ["mount", "--bind", str(source), str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("cannot mount a file system")
    try:
        if options:
            subprocess.run(["mount", "-o", ",".join(["remount,bind", *options]), place], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def nothing_new_is_kept(setting: Setting, archives: list[Path], expected: dict[str, bool]) -> None:
    """Twice, the answers are used as expected, with one warning."""
    for _ in range(2):
        found = run(setting, *archives)
        assert found.code == 0
        used = {Path(each["source"]).name: told(each).are_used for each in found.results}
        assert used == expected
        new = [told(each) for each in found.results if not told(each).are_used]
        assert all(each.answers[PREPARES].startswith("it could not be written: ") for each in new)
        assert found.stderr.count("answers are not kept") == 1, found.stderr


def test_the_cache_is_cleaned_while_answers_are_written_and_read(
    setting: Setting, archive: Path, own_cache: Path
) -> None:
    """Each run has the right answer, whatever was removed under it."""
    right = ask(setting, archive).result["metadata"]
    ends = threading.Event()
    told: set[str] = set()

    def clean() -> None:
        command = [PROGRAM, "cache", "clean"]
        while not ends.is_set():
            run = subprocess.run(
                command, env=setting.env, capture_output=True, text=True, check=False
            )
            told.add(run.stderr)

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        # Every other run writes, the others read what is there.
        for flags in ([], ["--refresh"]) * 6:
            assert ask(setting, archive, *flags).result["metadata"] == right
    finally:
        ends.set()
        cleaner.join()
    assert told == {""}
    ask(setting, archive)
    assert ask(setting, archive).are_used


def test_a_read_only_cache_folder(setting: Setting, tmp_path: Path, own_cache: Path) -> None:
    """What is there is used, and nothing is kept, with one warning."""
    archive = make_archive(tmp_path / "sample.tar.gz", own_files())
    new = [
        make_archive(tmp_path / f"{number}.tar.gz", own_files(before=f"# {number}\n"))
        for number in range(2)
    ]
    ask(setting, archive)
    answers = own_cache / "answers"
    before = sorted(answers.rglob("*"))
    with mounted(answers, answers, "ro"):
        expected = {"sample.tar.gz": True, "0.tar.gz": False, "1.tar.gz": False}
        nothing_new_is_kept(setting, [archive, *new], expected)
    assert sorted(answers.rglob("*")) == before


def test_a_full_disk(setting: Setting, tmp_path: Path, own_cache: Path) -> None:
    """The answers are right and not kept, with one warning."""
    first = make_archive(tmp_path / "first.tar.gz", own_files())
    large = PREPARE.replace("METADATA)", 'METADATA + "\\n" + "x" * 9_000_000)')
    archives = [
        make_archive(tmp_path / f"{number}.tar.gz", own_files(large, f"# {number}\n"))
        for number in range(2)
    ]
    ask(setting, first)
    with small_disk(tmp_path / "disk", "8m") as disk:
        shutil.move(own_cache / "answers", disk / "answers")
        (own_cache / "answers").mkdir(mode=0o700)
        with mounted(disk / "answers", own_cache / "answers"):
            expected = {"first.tar.gz": True, "0.tar.gz": False, "1.tar.gz": False}
            nothing_new_is_kept(setting, [first, *archives], expected)
