"""Custom build hooks of Hatch: their changes to build data are in the wheel and the sdist."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Setting
from hatch import PINNED, Wheel, build_by, edit, made, run, sdist_files, tree

# The build data of hatchling before the first hook; `force_include` also has some files.
FRESH = {"artifacts": [], "build_hooks": ["custom"], "dependencies": []}


def seen(source: Path) -> list[dict[str, Any]]:
    """The calls that the hook has recorded."""
    return [json.loads(line) for line in (source / "seen.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("form", ["relative", "absolute"])
def test_every_field_of_build_data_is_in_the_wheel(
    setting: Setting, tmp_path: Path, form: str
) -> None:
    source = tree("hatch-build-data", tmp_path)
    if form == "absolute":
        edit(source / "pyproject.toml", '= "relative"', '= "absolute" # form')
    path = made(setting, "wheel", source)
    wheel = Wheel.read(path)
    assert wheel.text("sample/generated.py") == "VALUE = 'generated'\n"
    # Beside the package, not in it, which artifacts cannot do.
    library = tmp_path / "lib.so"
    library.write_bytes(wheel.files["lib.so"])
    assert ctypes.CDLL(str(library)).answer() == 42
    assert wheel.metadata.get_all("Requires-Dist") == ["iniconfig>=2"]
    assert "Root-Is-Purelib: false" in wheel.info("WHEEL")
    assert "py3-none-any" not in path.name
    data = "hatch_build_data-1.0.data"
    assert wheel.info("extra_metadata/notes.txt") == "about this build\n"
    assert wheel.text(f"{data}/data/share/sample/data.txt") == "some data\n"
    assert wheel.text(f"{data}/scripts/sample-tool").endswith("echo a tool\n")
    assert wheel.text("sample/finalized.txt") == "iniconfig>=2"
    assert "only-editable.txt" not in wheel.files


def test_every_field_of_build_data_is_in_the_sdist(setting: Setting, tmp_path: Path) -> None:
    files = sdist_files(made(setting, "sdist", tree("hatch-build-data", tmp_path)))
    assert files["src/sample/generated.py"] == b"VALUE = 'generated'\n"
    assert files["src/lib.so"].startswith(b"\x7fELF")
    assert b"Requires-Dist: iniconfig>=2\n" in files["PKG-INFO"]


def test_hooks_read_what_hatchling_and_they_themselves_wrote(
    setting: Setting, tmp_path: Path, isolation: str
) -> None:
    source = tree("hatch-build-data", tmp_path)
    out = tmp_path / "out"
    pool = setting.start(*PINNED, "--isolation", isolation, build_isolation=True)
    hooks = ["build_wheel", "build_wheel", "build_sdist"]
    made = [build_by(pool, hook, source, out).name for hook in hooks]
    assert pool.finish() == ([], 0)
    calls = seen(source)
    assert [(call["stage"], call["target"], call["version"]) for call in calls] == [
        (stage, target, "standard")
        for target in ("wheel", "wheel", "sdist")
        for stage in ("initialize", "finalize")
    ]
    assert [call["artifact"] for call in calls[1::2]] == made
    for first, last in zip(calls[::2], calls[1::2], strict=True):
        # A change in `finalize` ends with its build.
        assert {name: first["build_data"][name] for name in FRESH} == FRESH
        first_files, last_files = (call["build_data"]["force_include"] for call in (first, last))
        assert last_files == {**first_files, "src/lib.so": "src/lib.so"}
        assert "no/such/file" not in first_files
        changed = last["build_data"]
        assert changed["artifacts"] == ["/src/sample/generated.py"]
        assert changed["dependencies"] == ["iniconfig>=2"]
        assert changed["build_hooks"] == ["custom"]
    at_first, at_last = (call["build_data"] for call in calls[:2])
    assert (at_first["pure_python"], at_first["infer_tag"]) == (True, False)
    assert (at_last["pure_python"], at_last["infer_tag"]) == (False, True)
    for field in ("extra_metadata", "shared_data", "shared_scripts", "force_include_editable"):
        assert at_first[field] == {}
        assert len(at_last[field]) == 1


def test_dependencies_that_a_hook_adds_are_in_metadata_that_come_from_a_wheel(
    setting: Setting, tmp_path: Path
) -> None:
    """Hatchling runs no build hooks to prepare metadata, and skips that if configured so."""
    source = tree("hatch-build-data", tmp_path)
    prepared = run(setting, "metadata", source).result
    assert (prepared["origin"], prepared["requires_dist"]) == ("prepare_metadata", [])
    tracker = tmp_path / "tracker"
    tracker.mkdir()
    built = run(setting, "metadata", source, env={"PIP_BUILD_TRACKER": str(tracker)}).result
    assert (built["origin"], built["requires_dist"]) == ("built_wheel", ["iniconfig>=2"])


def test_an_editable_wheel_has_build_data_of_its_own(setting: Setting, tmp_path: Path) -> None:
    source = tree("hatch-build-data", tmp_path)
    wheel = Wheel.read(made(setting, "editable", source))
    assert wheel.text("only-editable.txt") == "about this build\n"
    assert {call["version"] for call in seen(source)} == {"editable"}


def test_hooks_of_a_target_replace_those_of_all(setting: Setting, tmp_path: Path) -> None:
    source = tree("hatch-targets", tmp_path)
    told = json.loads(Wheel.read(made(setting, "wheel", source)).text("sample/told.json"))
    assert told == {
        "module": "build_wheels",
        "label": "for wheels",
        "target": "wheel",
        "build_hooks": ["version", "custom"],
        "version_was_written": True,
    }
    files = sdist_files(made(setting, "sdist", source))
    told = json.loads(files["src/sample/told.json"])
    assert (told["module"], told["label"], told["target"]) == (
        "hatch_build",
        "for all targets",
        "sdist",
    )
    assert files["src/sample/version.txt"] == b"1.0"


def test_hooks_run_in_the_order_of_the_configuration(setting: Setting, tmp_path: Path) -> None:
    source = tree("hatch-targets", tmp_path)
    table = "[tool.hatch.build.hooks.custom]\n"
    edit(source / "pyproject.toml", table + 'label = "for all targets"\n', "")
    edit(
        source / "pyproject.toml",
        "[tool.hatch.build.hooks.version]\n",
        f'{table}label = "first"\n\n[tool.hatch.build.hooks.version]\n',
    )
    told = json.loads(Wheel.read(made(setting, "wheel", source)).text("sample/told.json"))
    assert told["build_hooks"] == ["custom", "version"]
    assert not told["version_was_written"]


def test_hooks_run_for_each_version_of_a_target(setting: Setting, tmp_path: Path) -> None:
    source = tree("hatch-versions", tmp_path)
    (source / "told.txt").unlink(missing_ok=True)
    wheel = Wheel.read(made(setting, "wheel", source))
    assert (source / "told.txt").read_text().splitlines() == [
        "clean editable standard",
        "initialize editable",
        "finalize editable",
        "initialize standard",
        "finalize standard",
    ]
    # The target that was built last, with only its own artifact.
    assert wheel.text("sample/for_standard.txt") == "standard"
    assert "sample/for_editable.txt" not in wheel.files


def test_clean_runs_before_or_after_as_hatch_is_told(setting: Setting, tmp_path: Path) -> None:
    source = tree("hatch-clean", tmp_path)
    package = source / "src" / "sample"
    (package / "old.made").write_text("of an earlier build")
    unclean = Wheel.read(made(setting, "wheel", source))
    assert {"sample/old.made", "sample/now.made"} <= set(unclean.files)
    env = {"HATCH_BUILD_CLEAN": "1"}
    clean = Wheel.read(made(setting, "wheel", source, env=env))
    assert "sample/now.made" in clean.files
    assert "sample/old.made" not in clean.files
    assert (package / "now.made").exists()
    env = {"HATCH_BUILD_CLEAN_HOOKS_AFTER": "true"}
    assert "sample/now.made" in Wheel.read(made(setting, "wheel", source, env=env)).files
    assert list(package.glob("*.made")) == []


def test_what_hooks_depend_on_is_installed_before_they_run(
    setting: Setting, tmp_path: Path
) -> None:
    source = tree("hatch-dependencies", tmp_path)
    result = run(setting, "wheel", source, "-o", tmp_path / "out").result
    wheel = Wheel.read(Path(result["file"]["path"]))
    assert wheel.text("sample/found.txt") == "iniconfig mypy_extensions"
    asked, built = result["hooks"]
    assert (asked["hook"], built["hook"]) == ("get_requires_for_build_wheel", "build_wheel")
    # In another environment, and so in another worker.
    assert asked["worker"]["pid"] != built["worker"]["pid"]
