"""Trap trees: whatever a hook depends on has changed, so the second answer is another one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from answers import (
    SCM,
    SETUPTOOLS,
    Told,
    ask,
    ask_all,
    git,
    make_archive,
    make_repository,
    make_trap,
    run,
    told,
    trap_files,
    write_all,
)
from builds import arguments, build, make_project
from conftest import BOTH_POOLS, Setting
from gate import Gate
from packages import make_wheel
from trees import call, make_tree

REQUIRES_SCM = f'["{SETUPTOOLS}", "{SCM}"]'
DESCRIBED = 'output("git", "describe", "--tags", "--dirty").replace("-", "+", 1)'
FOUND = '2 if os.path.exists("marker") else 1'


@dataclass
class Trap:
    """A tree in a folder of its own, and a change to either."""

    version: str
    """What setup.py computes the version with."""
    change: Callable[[Path], object]
    prepare: Callable[[Path], object] = lambda tree: None
    used: bool = True
    """Whether an unchanged tree has its answers kept."""
    requires: str = f'["{SETUPTOOLS}"]'
    before: str = "1"
    after: str = "2"


def writes(name: str, text: str) -> Callable[[Path], object]:
    """Write a file."""
    return lambda tree: write_all(tree, {name: text})


def edit_in_secret(tree: Path) -> None:
    """An edit that keeps size and time."""
    path = tree / "VERSION"
    before = path.stat()
    path.write_text("2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def with_repository(tree: Path) -> None:
    write_all(tree, {".gitignore": "*.egg-info\n", "file": ""})
    make_repository(tree)


def with_packed_repository(tree: Path) -> None:
    with_repository(tree)
    git(tree, "pack-refs", "--all")


def commit(tree: Path) -> None:
    git(tree, "commit", "--allow-empty", "-m", "second")
    git(tree, "tag", "2.0")


def with_repository_above(tree: Path) -> None:
    make_repository(tree.parent)


def as_submodule(tree: Path) -> None:
    """The tree becomes a submodule of the repository above it."""
    upstream = tree.parent / "upstream"
    with_repository(tree)
    tree.rename(upstream)
    whole = make_repository(tree.parent / "whole")
    git(whole, "submodule", "add", str(upstream), "sub")
    # The repository is elsewhere, and not above.
    git(whole / "sub", "fetch", "--tags")
    (whole / "sub").rename(tree)
    (tree / ".git").write_text(f"gitdir: {whole / '.git/modules/sub'}\n")
    git(tree, "--work-tree", str(tree), "config", "core.worktree", str(tree))


def with_submodule(tree: Path) -> None:
    """The tree has a submodule."""
    upstream = make_repository(tree.parent / "upstream")
    with_repository(tree)
    git(tree, "submodule", "add", str(upstream), "sub")
    git(tree, "commit", "-am", "sub")


def as_worktree(tree: Path) -> None:
    """The repository of the tree is elsewhere."""
    main = tree.parent / "main"
    with_repository(tree)
    tree.rename(main)
    git(main, "worktree", "add", "--detach", str(tree))


def link_to_outside(tree: Path) -> None:
    write_all(tree.parent, {"outside": "1"})
    (tree / "VERSION").symlink_to("../outside")


def link_within(tree: Path) -> None:
    write_all(tree, {"folder/file": "1"})
    (tree / "VERSION").symlink_to("folder/file")


def two_files_and_a_link(tree: Path) -> None:
    link_within(tree)
    write_all(tree, {"other": "2"})


def link_to_other(tree: Path) -> None:
    (tree / "VERSION").unlink()
    (tree / "VERSION").symlink_to("other")


def other_repository(tree: Path) -> None:
    make_repository(tree.parent / "other")


READS = 'read("VERSION")'
READS_OUTSIDE = 'read("../outside")'

TRAPS = {
    "edit": Trap(READS, writes("VERSION", "2"), writes("VERSION", "1")),
    "secret-edit": Trap(READS, edit_in_secret, writes("VERSION", "1")),
    "mode": Trap(
        '2 if os.stat("file").st_mode & 0o100 else 1',
        lambda tree: (tree / "file").chmod(0o755),
        writes("file", ""),
    ),
    "folder-mode": Trap(
        '2 if os.stat("folder").st_mode & 1 == 0 else 1',
        lambda tree: (tree / "folder").chmod(0o750),
        lambda tree: (tree / "folder").mkdir(mode=0o755),
    ),
    "deleted": Trap(
        '1 if os.path.exists("file") else 2',
        lambda tree: (tree / "file").unlink(),
        writes("file", ""),
    ),
    "renamed": Trap(
        FOUND, lambda tree: (tree / "file").rename(tree / "marker"), writes("file", "")
    ),
    "new": Trap(FOUND, writes("marker", "")),
    "new-folder": Trap(FOUND, lambda tree: (tree / "marker").mkdir()),
    "deep": Trap(
        'len(glob.glob("a/**/*.txt", recursive=True))',
        writes("a/b/c/2.txt", ""),
        writes("a/b/c/1.txt", ""),
    ),
    "outside": Trap(
        READS_OUTSIDE, writes("../outside", "2"), writes("../outside", "1"), used=False
    ),
    "outside-absolute": Trap(
        'read(os.path.abspath("../outside"))',
        writes("../outside", "2"),
        writes("../outside", "1"),
        used=False,
    ),
    "outside-by-descriptor": Trap(
        'os.read(os.open("outside", os.O_RDONLY, dir_fd=os.open("..", os.O_RDONLY)), 9).decode()',
        writes("../outside", "2"),
        writes("../outside", "1"),
        used=False,
    ),
    "outside-listed": Trap(
        'len(os.listdir("../folder"))',
        writes("../folder/2", ""),
        writes("../folder/1", ""),
        used=False,
    ),
    "outside-module": Trap(
        'sys.path.insert(0, "../modules") or __import__("outside_module").VERSION',
        writes("../modules/outside_module.py", "VERSION = 2  # longer"),
        writes("../modules/outside_module.py", "VERSION = 1"),
        used=False,
    ),
    "link-out": Trap(READS, writes("../outside", "2"), link_to_outside, used=False),
    "link-within": Trap(READS, writes("folder/file", "2"), link_within),
    # It is not even opened: what is in it cannot be compared.
    "pipe": Trap("1", lambda tree: None, lambda tree: os.mkfifo(tree / "pipe"), False, after="1"),
    "link-moved": Trap(READS, link_to_other, two_files_and_a_link),
    "program": Trap(
        'output("cat", "../outside")',
        writes("../outside", "2"),
        writes("../outside", "1"),
        used=False,
    ),
    "project-above": Trap(
        '2 if os.path.exists("../pyproject.toml") else 1', writes("../pyproject.toml", "")
    ),
    "tag": Trap(
        '__import__("setuptools_scm").get_version()',
        commit,
        with_repository,
        requires=REQUIRES_SCM,
        before="1.0",
        after="2.0",
    ),
    "dirty": Trap(
        '2 if output("git", "status", "--porcelain", "file") else 1',
        writes("file", "edited"),
        with_repository,
    ),
    "branch": Trap(
        'output("git", "rev-list", "--count", "HEAD")',
        lambda tree: git(tree, "commit", "--allow-empty", "-m", "second"),
        with_repository,
    ),
    "packed-tag": Trap(
        DESCRIBED,
        commit,
        with_packed_repository,
        before="1.0",
        after="2.0",
    ),
    "repository-above": Trap(
        DESCRIBED,
        lambda tree: commit(tree.parent),
        with_repository_above,
        used=False,
        before="1.0",
        after="2.0",
    ),
    "new-repository-above": Trap(
        'output("git", "rev-list", "--count", "--all") if os.path.exists("../.git") else 2',
        lambda tree: make_repository(tree.parent),
        before="2",
        after="1",
    ),
    "submodule": Trap(DESCRIBED, commit, as_submodule, used=False, before="1.0", after="2.0"),
    "in-submodule": Trap(
        'output("git", "describe", "--tags", cwd="sub")',
        lambda tree: commit(tree / "sub"),
        with_submodule,
        before="1.0",
        after="2.0",
    ),
    "worktree": Trap(
        DESCRIBED,
        lambda tree: git(tree.parent / "main", "tag", "-f", "-a", "-m", "m", "3.0"),
        as_worktree,
        used=False,
        before="1.0",
        after="3.0",
    ),
    "other-repository": Trap(
        'output("git", "describe", "--tags", cwd="../other")',
        lambda tree: commit(tree.parent / "other"),
        other_repository,
        used=False,
        before="1.0",
        after="2.0",
    ),
    "other-repository-argument": Trap(
        'output("git", "-C", "../other", "describe", "--tags")',
        lambda tree: commit(tree.parent / "other"),
        other_repository,
        used=False,
        before="1.0",
        after="2.0",
    ),
    "other-git-dir": Trap(
        'output("git", "--git-dir=" + os.path.abspath("../other/.git"), "describe", "--tags")',
        lambda tree: commit(tree.parent / "other"),
        other_repository,
        used=False,
        before="1.0",
        after="2.0",
    ),
}


@pytest.mark.timeout(180)
def test_the_second_answer_is_the_right_one(setting: Setting, tmp_path: Path) -> None:
    """All trees in one run, because each run starts workers."""
    trees = {name: tmp_path / "traps" / name / "tree" for name in TRAPS}
    for name, trap in TRAPS.items():
        make_trap(trees[name], trap.version, trap.requires)
        trap.prepare(trees[name])
    first = ask_all(setting, *trees.values())
    assert versions(first) == {name: trap.before for name, trap in TRAPS.items()}
    # Unchanged: the answers are kept, which shows that the traps are set.
    second = ask_all(setting, *trees.values())
    assert versions(second) == versions(first)
    are_used = {name: found.are_used for name, found in second.items()}
    expected = {name: trap.used for name, trap in TRAPS.items()}
    assert are_used == expected, {name: found.answers for name, found in second.items()}
    for name, trap in TRAPS.items():
        trap.change(trees[name])
    third = ask_all(setting, *trees.values())
    assert versions(third) == {name: trap.after for name, trap in TRAPS.items()}


@pytest.mark.timeout(180)
def test_the_second_wheel_is_the_right_one(setting: Setting, tmp_path: Path) -> None:
    """Also where wheels with compiled code are kept: what programs read is not known."""
    names = ("edit", "outside", "program", "dirty")
    trees = {name: tmp_path / "traps" / name / "tree" for name in names}
    for name, tree in trees.items():
        make_trap(tree, TRAPS[name].version)
        TRAPS[name].prepare(tree)

    def build_all() -> tuple[dict[str, str], set[str]]:
        """The versions, and which wheels were kept."""
        versions, used = {}, set()
        for name, tree in trees.items():
            out = tmp_path / f"{len(list(tmp_path.iterdir()))}"
            flags = ["-o", out, "--answers", "all", "--format", "json"]
            found = told(build(setting, "wheel", tree, *flags).result)
            versions[name] = Path(found.result["file"]["path"]).name.split("-")[1]
            if found.answers["build_wheel"] == "used":
                used.add(name)
        return versions, used

    assert build_all() == (dict.fromkeys(names, "1"), set())
    assert build_all() == (dict.fromkeys(names, "1"), {"edit", "dirty"})
    for name, tree in trees.items():
        TRAPS[name].change(tree)
    assert build_all() == (dict.fromkeys(names, "2"), set())


def versions(found: dict[str, Told]) -> dict[str, str]:
    """The versions by the names of the traps."""
    return {name: each.version for name, each in found.items()}


READERS = {
    "item": "os.environ[{name!r}]",
    "get": "os.environ.get({name!r})",
    "getenv": "os.getenv({name!r})",
    "getenvb": "os.getenvb({name!r}.encode()).decode()",
    "contains": "2 if {name!r} in os.environ and os.environ[{name!r}] == '2' else 1",
    "copy": "os.environ.copy()[{name!r}]",
    "dict": "dict(os.environ)[{name!r}]",
    "items": "[value for key, value in os.environ.items() if key == {name!r}][0]",
    "program": 'output("sh", "-c", "echo $" + {name!r})',
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("name", "is_kept"),
    [("VALUE", True), ("TERM", True), ("ImageVersion", True), ("MY_TOKEN", False)],
)
def test_a_variable_that_a_hook_reads(
    setting: Setting, tmp_path: Path, name: str, is_kept: bool
) -> None:
    """By whatever means it is read, the answer is that for its value now."""
    trees = [
        make_trap(tmp_path / "traps" / reader / "tree", code.format(name=name))
        for reader, code in READERS.items()
    ]
    for value in ("1", "2", "1"):
        found = ask_all(setting, *trees, env={name: value})
        assert versions(found) == dict.fromkeys(READERS, value)
    used = {reader for reader, each in found.items() if each.are_used}
    assert used == (set(READERS) - {"program"} if is_kept else set())


def test_an_edit_while_the_hook_runs(setting: Setting, tmp_path: Path) -> None:
    """Edited after the hook has read the file: what it returned is not the answer for later."""
    tree = make_trap(
        tmp_path / "tree", '[read("VERSION"), open("here", "w").close(), read("go")][0]'
    )
    write_all(tree, {"VERSION": "1"})
    with Gates(tree, [None, "2"]):
        first = ask(setting, tree)
    assert (first.version, "was changed" in first.reasons) == ("1", True), first.answers
    with Gates(tree, []):
        assert ask(setting, tree).version == "2"


def test_an_edit_that_is_taken_back_while_the_hook_runs(setting: Setting, tmp_path: Path) -> None:
    """The hook has read what was in the file neither before nor afterwards."""
    steps = 'open("here", "w").close(), read("go")'
    tree = make_trap(tmp_path / "tree", f'[{steps}, read("VERSION"), {steps}][2]')
    write_all(tree, {"VERSION": "1"})
    with Gates(tree, [None, None, "2", "1"]):
        assert ask(setting, tree).version == "2"
    with Gates(tree, []):
        assert ask(setting, tree).version == "1"


class Gates:
    """Named pipes in a tree, at which hooks wait for edits of its file VERSION.

    Two hooks run setup.py, the second one for the version.
    """

    def __init__(self, tree: Path, edits: list[str | None]) -> None:
        self._tree, self._edits, self._ends = tree, edits, False
        for name in ("here", "go"):
            if not (tree / name).exists():
                os.mkfifo(tree / name)
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while True:
            (self._tree / "here").read_bytes()
            if self._ends:
                return
            edit = self._edits.pop(0) if self._edits else None
            if edit is not None:
                (self._tree / "VERSION").write_text(edit)
            (self._tree / "go").write_bytes(b"")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ends = True
        (self._tree / "here").write_bytes(b"")
        self._thread.join()


def test_the_configuration_of_distutils(setting: Setting, tmp_path: Path) -> None:
    tree = make_trap(tmp_path / "tree", "1")
    home = tmp_path / "user"
    env = {"HOME": str(home)}
    write_all(home, {".pydistutils.cfg": "[egg_info]\ntag_build = a1\n"})
    assert ask(setting, tree, env=env).version == "1a1"
    again = ask(setting, tree, env=env)
    assert (again.version, again.are_used) == ("1a1", True), again.answers
    write_all(home, {".pydistutils.cfg": "[egg_info]\ntag_build = a2\n"})
    assert ask(setting, tree, env=env).version == "1a2"
    (home / ".pydistutils.cfg").unlink()
    assert ask(setting, tree, env=env).version == "1"


def test_the_configuration_of_distutils_changes_while_a_hook_runs(
    setting: Setting, tmp_path: Path, gate: Gate
) -> None:
    tree = make_project(tmp_path / "tree")
    home = tmp_path / "user"
    home.mkdir()
    flags = ["--answers", "trees", "-C", f"prepare={gate.code}", "--format", "json"]
    process = subprocess.Popen(
        arguments(setting, "metadata", tree, *flags),
        env={**setting.env, "HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    gate.arrived()
    (home / ".pydistutils.cfg").touch()
    gate.release()
    stdout, _ = process.communicate(timeout=60)
    reasons = told(json.loads(stdout)).answers
    assert reasons["get_requires_for_build_wheel"] == "kept"
    outside = "a file or folder outside of the source was changed while the hook ran"
    assert reasons["prepare_metadata_for_build_wheel"].startswith(outside)


@pytest.mark.parametrize("name", ["user/.gitconfig", "own/git/config", "named"])
def test_the_configuration_of_git(setting: Setting, tmp_path: Path, name: str) -> None:
    """It counts for hooks that start git, and for no other one."""
    tree = make_trap(tmp_path / "git/tree", 'output("git", "config", "trap.version")')
    with_repository(tree)
    other = make_trap(tmp_path / "other/tree", "1")
    env = {"HOME": str(tmp_path / "user"), "XDG_CONFIG_HOME": str(tmp_path / "own")}
    env |= {"GIT_CONFIG_GLOBAL": str(tmp_path / "named")} if name == "named" else {}
    for number, version in enumerate(("1", "2", "1")):
        write_all(tmp_path, {name: f"[trap]\nversion = {version}\n"})
        found = ask_all(setting, tree, other, env=env)
        assert versions(found) == {"git": version, "other": "1"}
        assert found["git"].are_used == (number == 2), found["git"].answers
        assert found["other"].are_used == (number > 0), found["other"].answers


def test_another_interpreter(setting: Setting, tmp_path: Path, newest: str) -> None:
    tree = make_trap(tmp_path / "tree", "sys.version_info[1]")
    found = [ask(setting, tree, python=python) for python in (sys.executable, newest) * 2]
    minor = newest_minor(newest)
    assert [each.version for each in found] == [str(sys.version_info[1]), minor] * 2
    assert [each.are_used for each in found] == [False, False, True, True]


def newest_minor(python: str) -> str:
    code = "import sys; print(sys.version_info[1])"
    return subprocess.check_output([python, "-c", code], text=True).strip()


BACKEND_OF_RESOLUTION = """\
import os, helper


def get_requires_for_build_wheel(config_settings=None):
    return []


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = "trap-" + helper.VERSION + ".dist-info"
    os.mkdir(os.path.join(metadata_directory, folder))
    with open(os.path.join(metadata_directory, folder, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\\nName: trap\\nVersion: " + helper.VERSION + "\\n")
    return folder
"""


def test_another_resolution_of_the_same_requirements(setting: Setting, tmp_path: Path) -> None:
    """The index has a new version, which the run of another tree has found."""
    wheels = tmp_path / "wheels"
    trees = [make_project(tmp_path / name, requires=["helper"]) for name in ("one", "other")]
    for tree in trees:
        (tree / "own_backend.py").write_text(BACKEND_OF_RESOLUTION)
    flags = ["--no-index", "--find-links", wheels]
    make_wheel(wheels, "helper", "1.0", {"helper.py": "VERSION = '1'"})
    assert ask(setting, trees[0], *flags).version == "1"
    assert ask(setting, trees[0], *flags).are_used
    make_wheel(wheels, "helper", "2.0", {"helper.py": "VERSION = '2'"})
    assert ask(setting, trees[1], *flags, "--refresh").version == "2"
    assert ask(setting, trees[0], *flags).version == "2"


def test_config_settings(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree", requires=[SETUPTOOLS])
    (tree / "own_backend.py").write_text(
        "import os\nfrom setuptools import build_meta\n"
        "def prepare_metadata_for_build_wheel(folder, config_settings):\n"
        "    os.environ['SETTING'] = config_settings['value']\n"
        "    return build_meta.prepare_metadata_for_build_wheel(folder)\n"
    )
    write_all(tree, {"setup.py": trap_files("os.environ['SETTING']")["setup.py"]})
    found = [ask(setting, tree, "-C", f"value={value}") for value in ("1", "2", "1")]
    assert [each.version for each in found] == ["1", "2", "1"]
    assert found[2].are_used, found[2].answers


def test_two_trees_with_the_same_content(setting: Setting, tmp_path: Path) -> None:
    """Hooks see where their tree is."""
    code = "os.path.basename(os.path.dirname(os.getcwd()))"
    trees = [make_trap(tmp_path / name / "tree", code) for name in ("1", "2")]
    for _ in range(2):
        found = ask_all(setting, *trees)
        assert versions(found) == {"1": "1", "2": "2"}
    assert all(each.are_used for each in found.values())


def test_a_tree_that_another_one_replaced(setting: Setting, tmp_path: Path) -> None:
    """Of the same size, and older."""
    trees = {}
    for version in ("1", "2"):
        trees[version] = make_trap(tmp_path / version, 'read("VERSION")')
        write_all(trees[version], {"VERSION": version})
        os.utime(trees[version] / "VERSION", (1e9, 1e9))
    for version in ("1", "2", "1"):
        place = tmp_path / "tree"
        trees[version].rename(place)
        assert ask(setting, place).version == version
        place.rename(trees[version])


@pytest.mark.parametrize("replace", ["written", "renamed"])
def test_an_archive_that_was_replaced(setting: Setting, tmp_path: Path, replace: str) -> None:
    """Under its name, with the same size and time."""
    archive = tmp_path / "trap.tar.gz"
    for version in ("1", "2", "1"):
        new = make_archive(tmp_path / "new.tar.gz", trap_files(version))
        if replace == "renamed":
            new.rename(archive)
        else:
            archive.write_bytes(new.read_bytes())
        os.utime(archive, (1e9, 1e9))
        assert ask(setting, archive).version == version
    assert ask(setting, archive).are_used


def test_what_does_not_count(setting: Setting, tmp_path: Path) -> None:
    """Nothing that the hook has read has changed: it does not run."""
    tree = make_trap(tmp_path / "place/tree", "1")
    archive = make_archive(tmp_path / "a/trap.tar.gz", trap_files("1"))
    write_all(tmp_path, {"place/beside": "1"})
    first = ask_all(setting, tree, archive)
    assert {name for each in first.values() for name in each.answers.values()} == {"kept"}
    # The hooks have left this.
    assert (tree / "trap.egg-info").is_dir()
    write_all(tmp_path, {"place/beside": "2", "place/new": ""})
    (tmp_path / "b").mkdir()
    moved = archive.rename(tmp_path / "b/other.tar.gz")
    env = {
        "TERM": "other",
        "COLUMNS": "17",
        "SSH_CLIENT": "x",
        "GITHUB_RUN_ID": "7",
        "GITLAB_USER_LOGIN": "x",
        "GIT_COMMIT": "x",
        "A_TOKEN": "x",
    }
    second = ask_all(setting, tree, moved, env=env, cwd=tmp_path / "b")
    assert all(each.are_used for each in second.values()), second
    os.utime(tree / "setup.py")
    # By another name of the same folder.
    (tmp_path / "link").symlink_to(tree)
    third = ask_all(setting, tmp_path / "link", env=env)
    assert all(each.are_used for each in third.values()), third


def test_a_hook_that_the_backend_does_not_have(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree", more="")
    first, second = ask(setting, tree), ask(setting, tree)
    assert set(first.answers.values()) == {"kept"}
    assert second.are_used
    assert (second.version, list(second.answers)) == (first.version, list(first.answers))
    errors = [hook["error"] for hook in second.result["hooks"]]
    assert errors == [hook["error"] for hook in first.result["hooks"]]
    assert "UnsupportedHook" in errors


def test_requests(setting: Setting, tmp_path: Path) -> None:
    """Of `hookpool run`, also within one run."""
    tree = make_trap(tmp_path / "tree", 'read("VERSION")')
    write_all(tree, {"VERSION": "1"})
    for expected in ("kept", "used"):
        pool = setting.start("--answers", "trees", build_isolation=True)
        requests = [
            {"id": number, "tree": str(tree), "hook": "get_requires_for_build_wheel"}
            for number in range(3)
        ]
        found = [pool.ask(request) for request in requests]
        assert pool.finish() == ([], 0)
        answers = [response["answer"]["is"] for response in found]
        assert answers == [expected, "used", "used"]
        assert [response["worker"] is None for response in found] == [
            answer == "used" for answer in answers
        ]


def test_a_wrong_answer_of_a_request(setting: Setting, tmp_path: Path) -> None:
    """Of a hook that nobody can know: the time decides what it returns."""
    tree = make_tree(tmp_path / "tree")
    request = call(tree, "import time; result = [str(time.time_ns())]", requires=[])
    verify = ("--verify-answers", "100", "--strict")
    for flags, expected, code in (((), "kept", 0), (verify, "wrong", 1)):
        pool = setting.start("--answers", "trees", *flags, build_isolation=True)
        assert pool.ask(request)["answer"]["is"] == expected
        assert pool.finish() == ([], code)
    assert "the kept answer of get_requires_for_build_wheel was wrong: it returned" in pool.stderr


@BOTH_POOLS
def test_failures_are_not_kept(setting: Setting, tmp_path: Path) -> None:
    tree = make_trap(tmp_path / "tree", "1 / 0")
    for _ in range(2):
        found = run(setting, tree).result
        assert not found["ok"]
        assert [hook["answer"] for hook in found["hooks"]] == [
            {"is": "not_kept", "reason": "the hook failed"}
        ]
    (tree / "setup.py").write_text(trap_files("1")["setup.py"])
    assert ask(setting, tree).version == "1"


def test_answers_of_trees_are_kept_on_demand_only(setting: Setting, tmp_path: Path) -> None:
    tree = make_trap(tmp_path / "tree", "1")
    for _ in range(2):
        for policy in ("none", "archives"):
            found = ask(setting, tree, "--answers", policy)
            assert set(found.answers.values()) == {"none"}
    assert set(ask(setting, tree).answers.values()) == {"kept"}
