"""The commands metadata, wheel, sdist and editable: results and messages."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builds import EDITABLE, PREPARE, arguments, build, make_project, names, unpack_to
from conftest import BOTH_POOLS, Setting
from gate import Gate

pytestmark = BOTH_POOLS


def test_wheels_appear_under_their_names(setting: Setting, tmp_path: Path) -> None:
    trees = [make_project(tmp_path / name, name=name) for name in ("one", "two")]
    out = tmp_path / "out" / "wheels"
    built = build(setting, "wheel", *trees, "-o", out)
    assert built.code == 0, built.stderr
    wheels = [out / f"{name}-1.0-py3-none-any.whl" for name in ("one", "two")]
    assert sorted(built.stdout.splitlines()) == [
        f"{wheel}  from {tree}" for wheel, tree in zip(wheels, trees, strict=True)
    ]
    assert sorted(out.iterdir()) == wheels
    assert "module.py" in names(wheels[0])
    assert "2 sources: 2 done" in built.stderr
    again = build(setting, "wheel", trees[0], "-o", out, "--format", "json").result
    assert not again["environment"]["made"]


def test_the_source_that_took_longest_is_begun_first(setting: Setting, tmp_path: Path) -> None:
    names = ("quick", "slow")
    trees = [make_project(tmp_path / name, name=name, additional=[]) for name in names]
    log = tmp_path / "log"
    name = "import os, time; name = os.path.basename(os.getcwd())\n"
    begun = f"{name}with open({str(log)!r}, 'a') as log: print(name, file=log)"
    # The measured time, which is far from that of the other.
    slow = f"{name}if name == 'slow': time.sleep(2)"
    settings = ["-C", f"get_requires={begun}", "-C", f"build_wheel={slow}"]
    for _ in range(2):
        built = build(setting, "wheel", *trees, *settings, "-o", tmp_path / "out", jobs=1)
        assert built.code == 0, built.stderr
    assert log.read_text().split() == ["quick", "slow", "slow", "quick"]


def test_the_same_file_is_left_alone_and_another_is_replaced(
    setting: Setting, tmp_path: Path
) -> None:
    tree = make_project(tmp_path / "tree")
    out = tmp_path / "out"
    first = build(setting, "wheel", tree, "-o", out, "--format", "json").result
    assert first["file"]["before"] == "nothing"
    wheel = Path(first["file"]["path"])
    before = wheel.stat()
    same = build(setting, "wheel", tree, "-o", out, "--format", "json").result
    assert same["file"] == {"path": str(wheel), "before": "same_content"}
    assert wheel.stat().st_ino == before.st_ino
    (tree / "module.py").write_text("VALUE = 22\n")
    other = build(setting, "wheel", tree, "-o", out)
    assert other.stdout == f"{wheel} (replaced)  from {tree}\n"
    assert wheel.stat().st_ino != before.st_ino


def test_two_sources_of_one_name(setting: Setting, tmp_path: Path) -> None:
    trees = [make_project(tmp_path / name) for name in ("one", "two")]
    (trees[1] / "module.py").write_text("VALUE = 2\n")
    built = build(setting, "wheel", *trees, "-o", tmp_path / "out", "--format", "json")
    assert built.code == 1
    failed = next(result for result in built.results if not result["ok"])
    assert failed["error"]["kind"] == "OutputConflict"
    assert "was already made from" in failed["error"]["message"]
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_metadata_by_hook_by_wheel_and_of_a_wheel(setting: Setting, tmp_path: Path) -> None:
    with_hook = make_project(tmp_path / "hook", name="hooked")
    without = make_project(tmp_path / "wheel", more="", name="wheeled")
    kept = tmp_path / "kept"
    built = build(
        setting, "metadata", with_hook, without, "--keep-wheels", kept, "--format", "json"
    )
    assert built.code == 0, built.stderr
    results = {result["name"]: result for result in built.results}
    hooks = {name: [run["hook"] for run in result["hooks"]] for name, result in results.items()}
    assert hooks == {
        "hooked": ["get_requires_for_build_wheel", "prepare_metadata_for_build_wheel"],
        "wheeled": [
            "get_requires_for_build_wheel",
            "prepare_metadata_for_build_wheel",
            "build_wheel",
        ],
    }
    assert results["hooked"]["origin"] == "prepare_metadata"
    assert results["wheeled"]["origin"] == "built_wheel"
    assert results["wheeled"]["metadata"].startswith("Metadata-Version: 2.1\nName: wheeled\n")
    (wheel,) = kept.iterdir()
    assert results["wheeled"]["kept_wheel"]["path"] == str(wheel)
    assert results["hooked"]["kept_wheel"] is None
    of_wheel = build(setting, "metadata", wheel, "--format", "json").result
    assert (of_wheel["name"], of_wheel["origin"], of_wheel["hooks"]) == ("wheeled", "wheel", [])
    text = build(setting, "metadata", with_hook).stdout
    assert text == f"hooked 1.0  (by hook)  from {with_hook}\n"


def test_via_sdist_builds_from_what_is_in_it(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree")
    (tree / "extra.txt").write_text("the backend forgets it in the source distribution\n")
    straight = build(setting, "wheel", tree, "-o", tmp_path / "a", "--format", "json").result
    via = build(
        setting, "wheel", tree, "-o", tmp_path / "b", "--via-sdist", "--format", "json"
    ).result
    assert "extra.txt" in names(Path(straight["file"]["path"]))
    assert "extra.txt" not in names(Path(via["file"]["path"]))
    assert [run["hook"] for run in via["hooks"]][-1] == "build_wheel"
    assert "build_sdist" in [run["hook"] for run in via["hooks"]]
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["sample-1.0-py3-none-any.whl"]


def test_a_source_distribution_and_a_wheel_from_it(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree")
    out = tmp_path / "out"
    sdist = Path(
        build(setting, "sdist", tree, "-o", out, "--format", "json").result["file"]["path"]
    )
    assert sdist == out / "sample-1.0.tar.gz"
    wheel = build(setting, "wheel", sdist, "-o", out, "--format", "json").result
    assert Path(wheel["file"]["path"]).exists()
    # The same from a zip file of the tree.
    unpacked = unpack_to(sdist, tmp_path / "unpacked")
    shutil.make_archive(str(tmp_path / "sample-1.0"), "zip", unpacked.parent, unpacked.name)
    zipped = build(setting, "wheel", tmp_path / "sample-1.0.zip", "-o", tmp_path / "zip")
    assert zipped.code == 0, zipped.stderr


def test_a_backend_that_cannot_make_a_source_distribution(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree")
    setting_ = "build_sdist=raise UnsupportedOperation('no clone')"
    sdist = build(
        setting, "sdist", tree, "-o", tmp_path / "out", "-C", setting_, "--format", "json"
    )
    assert sdist.code == 0
    assert (sdist.result["ok"], sdist.result["sdist_unsupported"]) == (True, True)
    assert sdist.result["file"] is None
    wheel = build(setting, "wheel", "--via-sdist", tree, "-o", tmp_path / "out", "-C", setting_)
    assert wheel.code == 0, wheel.stderr
    text = build(setting, "sdist", tree, "-o", tmp_path / "out", "-C", setting_)
    assert text.stdout == f"{tree}: the build backend cannot make a source distribution of it\n"


def test_editable_wheels(setting: Setting, tmp_path: Path) -> None:
    able = make_project(tmp_path / "able", more=EDITABLE)
    unable = make_project(tmp_path / "unable", more=PREPARE)
    archive = tmp_path / "x-1.0.tar.gz"
    archive.write_bytes(b"")
    built = build(
        setting, "editable", able, unable, archive, "-o", tmp_path / "out", "--format", "json"
    )
    assert built.code == 1
    results = {result["source"]: result for result in built.results}
    assert results[str(able)]["ok"]
    assert results[str(unable)]["error"]["kind"] == "UnsupportedHook"
    assert "no editable wheels (PEP 660)" in results[str(unable)]["error"]["message"]
    assert results[str(archive)]["error"]["kind"] == "InvalidSource"


# An editable wheel differs from the published one.
OTHER_EDITABLE = """

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    global METADATA
    METADATA += "Keywords: editable\\n"
    return _wheel(wheel_directory)
"""


def test_editable_wheels_and_others_are_kept_apart(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree", more=OTHER_EDITABLE)
    here = tmp_path / "here"
    here.mkdir()
    for command in ("wheel", "editable"):
        built = build(setting, command, tree, cwd=here)
        assert built.code == 0, built.stderr
    name = "sample-1.0-py3-none-any.whl"
    wheel, editable = here / "dist" / name, here / "editable" / name
    assert wheel.read_bytes() != editable.read_bytes()
    for command, folder in {"editable": "dist", "wheel": "editable"}.items():
        before = (here / folder / name).read_bytes()
        result = build(setting, command, tree, "-o", here / folder, "--format", "json").result
        assert "of this name" in result["error"]["message"], result
        assert "another output folder" in result["error"]["hint"]
        assert (here / folder / name).read_bytes() == before
    # Each wheel replaces one of its own kind.
    (tree / "module.py").write_text("VALUE = 2\n")
    for command in ("wheel", "editable"):
        assert "(replaced)" in build(setting, command, tree, cwd=here).stdout


def test_static_metadata_of_a_source_distribution(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "sample-1.0")
    head = "Metadata-Version: 2.2\nName: sample\nVersion: 1.0\n"
    for name, more in {
        "static": "Requires-Dist: a\nDynamic: License-File\n",
        "dynamic": "Dynamic: requires-dist\n",
    }.items():
        (tree / "PKG-INFO").write_text(head + more)
        shutil.make_archive(str(tmp_path / name / "sample-1.0"), "gztar", tmp_path, tree.name)
    static, dynamic = (tmp_path / name / "sample-1.0.tar.gz" for name in ("static", "dynamic"))
    results = build(setting, "metadata", static, dynamic, "--format", "json").results
    found = {Path(result["source"]): result for result in results}
    assert found[static]["origin"] == "static"
    assert found[static]["requires_dist"] == ["a"]
    assert found[static]["hooks"] == []
    assert found[dynamic]["origin"] == "prepare_metadata"
    assert "Requires-Dist" in found[dynamic]["not_static"]
    by_hook = build(setting, "metadata", static, "--no-static", "--format", "json").result
    assert (by_hook["origin"], by_hook["not_static"]) == ("prepare_metadata", None)
    assert by_hook["requires_dist"] == []
    verbose = build(setting, "metadata", "-v", dynamic)
    assert "hooks ran, because" in verbose.stdout


def test_static_metadata_do_not_wait_for_hooks(
    setting: Setting, tmp_path: Path, gate: Gate
) -> None:
    """More sources than are begun at once wait for a job slot."""
    head = "Metadata-Version: 2.2\nName: sample\nVersion: 1.0\n"
    archives = []
    for number in range(6):
        tree = make_project(tmp_path / str(number) / "sample-1.0")
        # The last one is static. It is also the smallest, whose turn comes last.
        is_dynamic = number < 5
        (tree / "PKG-INFO").write_text(head + ("Dynamic: Requires-Dist\n" if is_dynamic else ""))
        (tree / "data").write_bytes(os.urandom(10000 if is_dynamic else 0))
        folder = tree.parent
        archives.append(shutil.make_archive(f"{folder}/sample-1.0", "gztar", folder, tree.name))
    flags = ["-C", f"prepare={gate.code}", "--format", "json"]
    run = arguments(setting, "metadata", *archives, *flags, jobs=1)
    with subprocess.Popen(run, env=setting.env, stdout=subprocess.PIPE, text=True) as process:
        gate.arrived()
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        gate.release(5)
        rest, _ = process.communicate(timeout=30)
    assert (first["source"], first["origin"]) == (archives[-1], "static")
    assert [json.loads(line)["ok"] for line in rest.splitlines()] == [True] * 5
    assert process.returncode == 0


def test_static_metadata_that_the_project_table_determines(
    setting: Setting, tmp_path: Path
) -> None:
    """A PKG-INFO of an older version is right if the table says the same of all fields."""
    tree = make_project(tmp_path / "sample-1.0")
    (tree / "PKG-INFO").write_text(
        "Metadata-Version: 2.1\nName: sample\nVersion: 1.0\nRequires-Dist: a\n"
    )
    pyproject = tree / "pyproject.toml"
    table = '\n[project]\nname = "sample"\nversion = "1.0"\ndependencies = ["a"]\n'
    pyproject.write_text(pyproject.read_text() + table)

    def metadata(name: str) -> dict[str, Any]:
        archive = tmp_path / name / "sample-1.0"
        packed = shutil.make_archive(str(archive), "gztar", tmp_path, tree.name)
        result: dict[str, Any] = build(setting, "metadata", packed, "--format", "json").result
        return result

    found = metadata("determined")
    assert (found["origin"], found["requires_dist"]) == ("static", ["a"])
    # setuptools writes this into each source distribution.
    setup_py, setup_cfg, options = (tree / name for name in ("setup.py", "setup.cfg", "options"))
    setup_cfg.write_text("[egg_info]\ntag_build = \ntag_date = 0\n")
    assert metadata("egg-info")["origin"] == "static"
    # It takes from these what the table does not mention.
    options.write_text("[options]\n")
    cases: dict[str, Callable[[], object]] = {
        "setup.py": setup_py.touch,
        "setup.cfg": lambda: options.rename(setup_cfg),
        "link": lambda: setup_cfg.symlink_to(setup_cfg.rename(options).name),
    }
    for case, write in cases.items():
        write()
        found = metadata(case)
        assert (found["origin"], found["requires_dist"]) == ("prepare_metadata", [])
        assert found["not_static"].endswith("pyproject.toml does not determine Requires-Python")
        setup_py.unlink(missing_ok=True)
    setup_cfg.unlink()
    pyproject.write_text(pyproject.read_text() + 'dynamic = ["optional-dependencies"]\n')
    assert metadata("dynamic")["not_static"].endswith("does not determine Provides-Extra")


@pytest.mark.timeout(200)
def test_an_unpacked_source_distribution_that_was_patched(setting: Setting, tmp_path: Path) -> None:
    tree = unpack_to(flit_sdist(setting, tmp_path, ["idna>=2", "six"]), tmp_path / "unpacked")
    pyproject, pkg_info = tree / "pyproject.toml", tree / "PKG-INFO"
    assert "Requires-Dist: six" in pkg_info.read_text()
    pyproject.write_text(pyproject.read_text().replace(', "six"', ""))
    # The patch keeps the time of the file.
    os.utime(pkg_info, (time.time() + 1000, time.time() + 1000))
    packed = shutil.make_archive(str(tmp_path / "flitted-1.0"), "gztar", tree.parent, tree.name)
    repacked = Path(packed)
    for source in (tree, repacked):
        result = build(setting, "metadata", source, "--format", "json").result
        assert result["requires_dist"] == ["idna>=2"], result
        assert result["origin"] == "prepare_metadata"
    reasons = {
        tree: "a source tree may have been edited",
        repacked: "PKG-INFO and pyproject.toml do not agree on Requires-Dist",
    }
    for source, reason in reasons.items():
        assert reason in build(setting, "metadata", "-v", source).stdout


def test_an_archive_of_another_distribution(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "trees" / "tree")
    out = tmp_path / "out"

    def archive(name: str, pkg_info: str | None = None) -> Path:
        (tree / "PKG-INFO").unlink(missing_ok=True)
        if pkg_info:
            (tree / "PKG-INFO").write_text(f"Metadata-Version: 2.2\n{pkg_info}\n")
        return Path(shutil.make_archive(str(tmp_path / name), "gztar", tree.parent, tree.name))

    sources = [
        archive("sample-2.0"),
        archive("other-1.0"),
        archive("snapshot", "Name: sample\nVersion: 2"),
    ]
    # Static metadata that do not match the name of the archive.
    sources.append(archive("sample-3", "Name: sample\nVersion: 2"))
    for command in (["wheel", "-o", out], ["sdist", "-o", out], ["metadata"]):
        built = build(setting, *command, *sources[:2], sources[3], "--format", "json")
        assert built.code == 1
        for result in built.results:
            assert result["error"]["kind"] == "InconsistentMetadata"
            name = Path(result["source"]).name.removesuffix(".tar.gz")
            claimed = name.replace("-", " ")
            expected = f"built as sample 1.0, but the name of the archive says that it is {claimed}"
            assert expected in result["error"]["message"]
    refused = build(setting, "wheel", sources[2], "-o", out, "--format", "json").result
    assert "its PKG-INFO says that it is sample 2" in refused["error"]["message"]
    assert list(out.iterdir()) == []
    # An archive that was renamed or packed again; pip and uv accept it too.
    repacked = archive("sample-1.0", "Name: sample\nVersion: 2")
    wheel = build(setting, "wheel", repacked, "-o", out)
    assert wheel.code == 0
    assert f"warning: {repacked}: its PKG-INFO says that it is sample 2" in wheel.stderr
    metadata = build(setting, "metadata", repacked, "--format", "json").result
    assert metadata["version"] == "1.0"
    assert metadata["warnings"] == ["its PKG-INFO says that it is sample 2"]
    assert metadata["not_static"].startswith("PKG-INFO and the name of the archive do not agree")


@pytest.mark.timeout(200)
def test_a_project_without_a_name(setting: Setting, tmp_path: Path) -> None:
    tree = tmp_path / "trees" / "tree"
    tree.mkdir(parents=True)
    (tree / "setup.py").write_text("from setuptools import setup\nsetup()\n")
    out = tmp_path / "out"
    result = build(setting, "wheel", tree, "-o", out, "--format", "json").result
    assert Path(result["file"]["path"]).name == "unknown-0.0.0-py3-none-any.whl"
    assert result["warnings"] == ["the build backend found no name for it"]
    archive = shutil.make_archive(str(tmp_path / "unk-2.0"), "gztar", tree.parent, tree.name)
    error = build(setting, "wheel", archive, "-o", out, "--format", "json").result["error"]
    assert error["kind"] == "InconsistentMetadata"
    assert "found no name for the project" in error["hint"]


def flit_sdist(setting: Setting, folder: Path, dependencies: list[str]) -> Path:
    """A source distribution by flit, with static metadata."""
    tree = folder / "flitted"
    tree.mkdir()
    (tree / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["flit_core>=3.9"]\nbuild-backend = "flit_core.buildapi"\n'
        '[project]\nname = "flitted"\nversion = "1.0"\ndescription = "x"\n'
        f"dependencies = {json.dumps(dependencies)}\n"
    )
    (tree / "flitted.py").touch()
    result = build(setting, "sdist", tree, "-o", folder / "sdist", "--format", "json").result
    assert result["ok"], result["error"]
    sdist = Path(result["file"]["path"])
    metadata = build(setting, "metadata", sdist, "--format", "json").result
    assert (metadata["origin"], metadata["requires_dist"]) == ("static", dependencies)
    return sdist


@pytest.mark.parametrize("where", ["pyproject.toml", "PKG-INFO", "METADATA"])
def test_a_project_that_does_not_support_the_interpreter(
    setting: Setting, tmp_path: Path, where: str
) -> None:
    source = project_for_python(tmp_path, where)
    warning = f"it requires Python <3, and is built with {platform.python_version()}"
    out = ["-o", tmp_path / "out"]
    wheel = build(setting, "wheel", source, *out)
    assert wheel.code == 0, wheel.stderr
    assert f"warning: {source}: {warning}" in wheel.stderr
    metadata = build(setting, "metadata", "--no-static", source, "--format", "json").result
    assert metadata["ok"]
    assert metadata["warnings"] == [warning]
    for command in (["wheel", *out], ["metadata"]):
        flags = ["--check-requires-python", "--format", "json"]
        result = build(setting, *command, source, *flags).result
        assert result["error"]["kind"] == "UnsupportedPython"
        assert warning in result["error"]["message"]
        assert "--python" in result["error"]["hint"]
        # If it is known in advance, no hook runs.
        assert (result["hooks"] == []) == (where != "METADATA")
    if where != "METADATA":
        code = "build_wheel=exec('match 1:')"
        failed = build(setting, "wheel", source, *out, "-C", code, "--format", "json").result
        assert failed["error"]["kind"] == "HookRuntimeError"
        assert failed["error"]["hint"] == f"{warning} (--python)"


def project_for_python(folder: Path, where: str) -> Path:
    """A project whose PKG-INFO says that it is for Python 2."""
    tree = make_project(folder / "sample-1.0")
    if where == "pyproject.toml":
        table = "[project]\nname = 'sample'\nversion = '1.0'\nrequires-python = '<3'\n"
        (tree / where).write_text((tree / where).read_text() + table)
    elif where == "METADATA":
        backend = tree / "own_backend.py"
        backend.write_text(backend.read_text() + "\nMETADATA += 'Requires-Python: <3\\n'\n")
    else:
        text = "Metadata-Version: 2.1\nName: sample\nVersion: 1.0\nRequires-Python: <3\n"
        (tree / where).write_text(text)
        packed = shutil.make_archive(str(folder / "sample-1.0"), "gztar", folder, tree.name)
        return Path(packed)
    return tree


def test_lists_and_sources_that_are_the_same(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree")
    (tmp_path / "link").symlink_to(tree)
    listed = tmp_path / "sources"
    listed.write_text(f"# two names of one tree\n{tree}\n\n{tmp_path / 'link'}\n")
    built = build(setting, "metadata", "--from", listed, "--format", "json")
    assert [result["source"] for result in built.results] == [str(tree), str(tmp_path / "link")]
    assert built.results[0]["hooks"] == built.results[1]["hooks"]
    assert "1 source: 1 done" in built.stderr
    stdin = build(setting, "metadata", "-", stdin=f"{tree}\n", cwd=tmp_path)
    assert stdin.stdout == f"sample 1.0  (by hook)  from {tree}\n"
    missing = build(setting, "metadata", "--from", tmp_path / "no-list")
    assert (missing.code, "no-list" in missing.stderr) == (2, True)
    assert build(setting, "metadata").code == 2


def test_copies_of_an_archive_are_one_source(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "sample-1.0")
    archive = Path(
        shutil.make_archive(str(tmp_path / "a" / "sample-1.0"), "zip", tmp_path, tree.name)
    )
    copy = tmp_path / "copy" / "Sample-1.0.zip"
    copy.parent.mkdir()
    shutil.copy(archive, copy)
    # Each build gives a different wheel.
    code = "import os; open('extra.txt', 'w').write(os.urandom(8).hex())"
    flags = ["-o", tmp_path / "out", "-C", f"build_wheel={code}", "--format", "json"]
    built = build(setting, "wheel", archive, copy, *flags)
    assert [result["source"] for result in built.results] == [str(archive), str(copy)]
    assert [result["ok"] for result in built.results] == [True, True], built.stderr
    assert "1 source: 1 done" in built.stderr


def test_what_is_no_source_fails_alone(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree")
    (tmp_path / "text.txt").write_text("no source")
    bad = [tmp_path / "missing", tmp_path / "text.txt"]
    built = build(setting, "metadata", *bad, tree, "--format", "json")
    assert built.code == 1
    results = {result["source"]: result for result in built.results}
    assert results[str(tree)]["ok"]
    for source in bad:
        assert results[str(source)]["error"]["kind"] == "InvalidSource"
        assert source.name in results[str(source)]["error"]["message"]


@pytest.mark.parametrize("file", ["README", "setup.cfg"])
def test_what_is_no_project_is_not_built(setting: Setting, tmp_path: Path, file: str) -> None:
    folder = tmp_path / "trees" / "sample-1.0"
    folder.mkdir(parents=True)
    (folder / file).write_text("[metadata]\nname = sample\nversion = 1.0\n")
    archive = shutil.make_archive(str(tmp_path / "sample-1.0"), "zip", folder.parent, folder.name)
    out = tmp_path / "out"
    for command in (["metadata"], ["wheel", "-o", out], ["sdist", "-o", out]):
        built = build(setting, *command, folder, archive, "--format", "json")
        assert built.code == 1
        errors = {result["source"]: result["error"] for result in built.results}
        assert {error["kind"] for error in errors.values()} == {"InvalidSource"}
        assert "with pyproject.toml or setup.py" in errors[str(folder)]["message"]
        expected = f"{archive}: expected pyproject.toml or setup.py at the top of sample-1.0.zip"
        assert errors[archive]["message"] == expected


def test_a_failure_is_shown_with_its_log(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree")
    code = "print('last words'); import surely_missing"
    flags = [tree, "-o", tmp_path / "out", "-C", f"build_wheel={code}"]
    built = build(setting, "wheel", *flags)
    assert (built.code, built.stdout) == (1, "")
    assert f"error: build_wheel of {tree}: HookRuntimeError" in built.stderr
    assert "    last words" in built.stderr
    assert "hint: the build imports surely_missing" in built.stderr
    log = Path(built.stderr.partition("full log: ")[2].splitlines()[0])
    assert "last words" in log.read_text()
    assert "ModuleNotFoundError" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    shutil.rmtree(log.parent)
    result = build(
        setting, "wheel", *flags, "--format", "json", "--log-dir", tmp_path / "logs"
    ).result
    assert Path(result["log"]).parent == tmp_path / "logs"
    assert result["stdout"] == "last words\n"
    assert len(list((tmp_path / "logs").iterdir())) == len(result["hooks"])
    assert list((tmp_path / "out").iterdir()) == []


def test_all_output_is_in_the_log(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree")
    code = "import sys; sys.stdout.write('x' * 1000000 + 'end')"
    flags = ["-o", tmp_path / "out", "-C", f"build_wheel={code}", "--log-dir", tmp_path / "logs"]
    result = build(setting, "wheel", tree, *flags, "--format", "json").result
    (log,) = [run["log"] for run in result["hooks"] if run["hook"] == "build_wheel"]
    assert "x" * 1000000 + "end" in Path(log).read_text()


def test_output_is_shown_while_it_is_written(setting: Setting, tmp_path: Path, gate: Gate) -> None:
    tree = make_project(tmp_path / "tree")
    code = f"print('begun', flush=True)\n{gate.code}"
    command = arguments(
        setting, "wheel", "-v", tree, "-o", tmp_path / "out", "-C", f"build_wheel={code}"
    )
    with subprocess.Popen(command, env=setting.env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any(line == f"{tree} | begun\n" for line in lines)
        # The hook still runs: the gate is closed.
        gate.release()
        assert process.wait(60) == 0


def test_fail_fast_ends_what_runs(setting: Setting, tmp_path: Path, gate: Gate) -> None:
    waits = make_project(tmp_path / "waits", name="waits")
    fails = make_project(tmp_path / "fails", name="fails")
    other = Gate(tmp_path, "other")
    code = (
        "import os\n"
        f"exec({gate.code!r} if os.getcwd().endswith('waits') else {other.code!r})\n"
        "raise ValueError('x')"
    )
    flags = ["-o", tmp_path / "out", "-C", f"build_wheel={code}", "--fail-fast"]
    command = arguments(setting, "wheel", waits, fails, *flags, "--format", "json")
    with subprocess.Popen(
        command, env=setting.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        gate.arrived()
        other.arrived()
        other.release()
        stdout, _ = process.communicate(timeout=60)
    other.close()
    assert process.returncode == 1
    results = map(json.loads, stdout.splitlines())
    kinds = {Path(result["source"]).name: result["error"]["kind"] for result in results}
    assert kinds == {"fails": "HookRuntimeError", "waits": "Cancelled"}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_and_run_again(
    setting: Setting, tmp_path: Path, gate: Gate, how: signal.Signals
) -> None:
    tree = make_project(tmp_path / "tree")
    out = tmp_path / "out"
    command = arguments(setting, "wheel", tree, "-o", out, "-C", f"build_wheel={gate.code}")
    with subprocess.Popen(command, env=setting.env, stderr=subprocess.DEVNULL) as process:
        gate.arrived()
        process.send_signal(how)
        code = process.wait(60)
    assert code == (130 if how == signal.SIGINT else -how)
    assert [path for path in out.iterdir() if not path.name.startswith(".hookpool-")] == []
    again = build(setting, "wheel", tree, "-o", out)
    assert again.code == 0, again.stderr
    assert [path.name for path in out.iterdir()] == ["sample-1.0-py3-none-any.whl"]


def test_settings_reach_the_backend(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree")
    (tree / "own_backend.py").write_text(
        (tree / "own_backend.py")
        .read_text()
        .replace(
            '    _do("build_wheel", config_settings)', "    print(sorted(config_settings.items()))"
        )
    )
    flags = ["-C", "a=1", "-C", "b=x=y", "--config-setting", "a=2", "--log-dir", tmp_path / "logs"]
    result = build(
        setting, "wheel", tree, "-o", tmp_path / "out", *flags, "--format", "json"
    ).result
    log = Path(result["hooks"][-1]["log"]).read_text()
    assert "[('a', ['1', '2']), ('b', 'x=y')]" in log
    wrong = build(setting, "wheel", tree, "-C", "novalue")
    assert (wrong.code, "expected KEY=VALUE" in wrong.stderr) == (2, True)


def test_what_get_requires_asks_for_is_installed(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree", additional=["iniconfig==2.0.0"])
    code = "import iniconfig; print(iniconfig.__file__)"
    flags = ["-o", tmp_path / "out", "-C", f"build_wheel={code}", "--format", "json"]
    result = build(setting, "wheel", tree, *flags).result
    assert result["ok"], result["error"]
    # Already satisfied: the first environment is used, and none is made.
    simple = make_project(
        tmp_path / "simple", name="simple", requires=["iniconfig==2.0.0"], additional=["iniconfig"]
    )
    again = build(setting, "wheel", simple, *flags).result
    assert again["environment"]["made"] is False
    assert again["environment"]["id"] == result["environment"]["id"]


def test_without_isolation_the_interpreter_is_used_as_it_is(
    setting: Setting, tmp_path: Path
) -> None:
    tree = make_project(tmp_path / "tree", requires=["no-such-distribution-anywhere"])
    result = build(
        setting, "wheel", tree, "-o", tmp_path / "out", "--format", "json", isolated=False
    ).result
    assert result["ok"], result["error"]
    assert result["environment"] is None
    assert [run["hook"] for run in result["hooks"]] == ["build_wheel"]


def test_results_go_on_while_nobody_reads_them_to_the_end(setting: Setting, tmp_path: Path) -> None:
    trees = [make_project(tmp_path / str(number), name=f"n{number}") for number in range(4)]
    command = arguments(setting, "metadata", *trees, "--format", "json", jobs=1)
    with subprocess.Popen(
        command, env=setting.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["ok"]
        process.stdout.close()
        assert process.wait(60) in (0, 141)


def test_an_output_folder_that_is_none(setting: Setting, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("a file")
    tree = make_project(tmp_path / "tree")
    built = build(setting, "wheel", tree, "-o", out)
    assert (built.code, f"output folder {out}" in built.stderr) == (3, True)
