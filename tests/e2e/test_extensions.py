"""Extensions of metadata: a requirement on the installer must not be ignored."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builds import PREPARE, Built, build, make_project
from conftest import BOTH_POOLS, Setting
from packages import make_wheel

pytestmark = BOTH_POOLS

WHEELS = Path(__file__).with_name("extension_wheels.txt")
FILES = ["pydist.json", "pysdist.json", "metadata.json", "pep426-20131213.json"]
FLAGS = ["required_extension", "installer_must_handle"]

REQUIRED = {"extensions": {"example.hooks": {"required_extension": True}}}

# Appended to the hooks of a backend, these write a declaration beside METADATA.
DECLARE_IN_FOLDER = """

prepare_without = prepare_metadata_for_build_wheel


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    name = prepare_without(metadata_directory, config_settings)
    with open(os.path.join(metadata_directory, name, "pydist.json"), "w") as file:
        file.write({text!r})
    return name
"""
DECLARE_IN_WHEEL = """

build_without = build_wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = build_without(wheel_directory, config_settings)
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "a") as wheel:
        wheel.writestr(NAME + "-" + VERSION + ".dist-info/pydist.json", {text!r})
    return name
"""


def declaring_wheel(folder: Path, declared: Any = REQUIRED, file: str = FILES[0]) -> Path:
    """A wheel of sample 1.0 with this content in that file."""
    text = declared if isinstance(declared, str) else json.dumps(declared)
    return make_wheel(folder, "sample", "1.0", {f"sample-1.0.dist-info/{file}": text})


def metadata(setting: Setting, *words: object) -> Built:
    """Run `hookpool metadata`."""
    return build(setting, "metadata", *words, "--format", "json")


def extension(name: str, required: bool, supported: bool, file: str = FILES[0]) -> dict[str, Any]:
    """An extension in a result."""
    return {"name": name, "required": required, "supported": supported, "file": file}


def test_every_file_flag_and_shape_is_heeded(setting: Setting, tmp_path: Path) -> None:
    wheels = {}
    for file in FILES:
        for flag in FLAGS:
            nested = {"name": "sample", "extensions": {"example.hooks": {flag: True}}}
            flat = {"name": "sample", "classifiers": [], "example.hooks": {flag: True}}
            for shape, declared in (("nested", nested), ("flat", flat)):
                folder = tmp_path / f"{file}-{flag}-{shape}"
                wheels[str(declaring_wheel(folder, declared, file))] = file
    built = metadata(setting, *wheels)
    assert built.code == 1
    assert len(built.results) == len(wheels) == 16
    for result in built.results:
        assert result["error"]["kind"] == "RequiredExtension"
        assert "sample 1.0 requires the extension example.hooks" in result["error"]["message"]
        file = wheels[result["source"]]
        assert result["extensions"] == [extension("example.hooks", True, False, file)]
        assert (result["name"], result["fallback"]) == (None, None)


def test_what_is_supported_or_optional_is_reported_only(setting: Setting, tmp_path: Path) -> None:
    declared = {
        "extensions": {
            "example.hooks": {"required_extension": True},
            "example.more": {"installer_must_handle": True},
            "plain": {"required_extension": False, "installer_must_handle": False},
            "other.plain": {},
        }
    }
    wheel = declaring_wheel(tmp_path, declared)
    listed = [
        extension("example.hooks", True, True),
        extension("example.more", True, True),
        extension("plain", False, False),
        extension("other.plain", False, False),
    ]
    one_by_one = ["--supports-extension", "example.hooks", "--supports-extension", "example.more"]
    for flags in (one_by_one, ["--supports-extension", "example.*"]):
        result = metadata(setting, wheel, *flags).result
        assert (result["ok"], result["name"], result["extensions"]) == (True, "sample", listed)
    for patterns in (["example"], ["example.hooks"], ["example.more.*", "example.hooks"]):
        flags = [word for pattern in patterns for word in ("--supports-extension", pattern)]
        result = metadata(setting, wheel, *flags).result
        assert result["error"]["kind"] == "RequiredExtension"
        assert "example.more" in result["error"]["message"]
    text = build(setting, "metadata", wheel, "--supports-extension", "example.*")
    assert text.stdout == f"sample 1.0  (of the wheel)  from {wheel}\n"


def test_a_malformed_file_is_an_error_that_names_it(setting: Setting, tmp_path: Path) -> None:
    contents = [
        "",
        "[]",
        "{",
        '{"extensions": []}',
        '{"extensions": {"a": {"required_extension": 1}}}',
    ]
    wheels = {
        str(declaring_wheel(tmp_path / str(number), text, file)): file
        for number, (text, file) in enumerate(zip(contents, [*FILES, FILES[0]], strict=True))
    }
    # It fails even if a source is named or all extensions are supported.
    tree = make_project(tmp_path / "tree")
    flags = ["--on-required-extension", "source", "--source-for", f"sample={tree}"]
    results = metadata(setting, *wheels, *flags, "--supports-extension", "a").results
    assert len(results) == len(contents)
    for result in results:
        assert result["error"]["kind"] == "InvalidSource"
        file = f"sample-1.0.dist-info/{wheels[result['source']]}"
        assert f"{file} cannot be understood" in result["error"]["message"]


def test_what_hooks_make_is_looked_at_too(setting: Setting, tmp_path: Path) -> None:
    text = json.dumps(REQUIRED)
    prepared = PREPARE + DECLARE_IN_FOLDER.format(text=text)
    trees = {
        "prepared": make_project(tmp_path / "prepared", prepared),
        "built": make_project(tmp_path / "built", DECLARE_IN_WHEEL.format(text=text)),
        "malformed": make_project(
            tmp_path / "malformed", PREPARE + DECLARE_IN_FOLDER.format(text="{")
        ),
    }
    kept = tmp_path / "kept"
    results = {
        Path(result["source"]).name: result
        for result in metadata(setting, *trees.values(), "--keep-wheels", kept).results
    }
    for name in ("prepared", "built"):
        error = results[name]["error"]
        assert error["kind"] == "RequiredExtension"
        assert error["message"] == (
            f"{trees[name]}: sample 1.0 requires the extension example.hooks, "
            "which is not supported"
        )
        assert results[name]["extensions"] == [extension("example.hooks", True, False)]
    assert results["malformed"]["error"]["kind"] == "HookRuntimeError"
    assert "sample-1.0.dist-info/pydist.json cannot be" in results["malformed"]["error"]["message"]
    assert list(kept.iterdir()) == []
    supported = metadata(setting, *trees.values(), "--supports-extension", "example.hooks").results
    assert sorted(result["ok"] for result in supported) == [False, True, True]
    # Building a wheel does not install it.
    wheel = build(setting, "wheel", trees["built"], "-o", tmp_path / "out", "--format", "json")
    assert (wheel.result["ok"], wheel.result["extensions"]) == (True, None)


def test_a_wheel_gives_way_to_its_source_where_that_is_wanted(
    setting: Setting, tmp_path: Path
) -> None:
    wheel = declaring_wheel(tmp_path)
    tree = make_project(tmp_path / "tree")
    # Static metadata have no extensions.
    (tree / "PKG-INFO").write_text("Metadata-Version: 2.2\nName: sample\nVersion: 1.0\n")
    source_for = ["--source-for", f"Sample={tree}"]
    failed = metadata(setting, wheel, *source_for).result
    assert failed["error"]["kind"] == "RequiredExtension"
    assert "--on-required-extension source" in failed["error"]["hint"]
    assert (failed["fallback"], failed["hooks"]) == (None, [])

    flags = ["--on-required-extension", "source", *source_for]
    result = metadata(setting, wheel, *flags).result
    assert (result["ok"], result["source"], result["name"]) == (True, str(wheel), "sample")
    assert (result["origin"], result["extensions"]) == ("prepare_metadata", [])
    fallback = {"wheel": str(wheel), "source": str(tree), "extensions": ["example.hooks"]}
    assert result["fallback"] == fallback
    assert [run["hook"] for run in result["hooks"]][-1] == "prepare_metadata_for_build_wheel"
    assert build(setting, "metadata", wheel, *flags).stdout == (
        f"sample 1.0  (by hook)  from {wheel}\n"
        f"    by its source, {tree}: the wheel requires example.hooks, which is not supported\n"
    )
    # A wheel without required extensions needs no source.
    plain = make_wheel(tmp_path / "plain", "sample", "1.0", {})
    assert metadata(setting, plain, *flags).result["origin"] == "wheel"

    sdist = build(setting, "sdist", tree, "-o", tmp_path / "out", "--format", "json").result
    archive = sdist["file"]["path"]
    result = metadata(setting, wheel, *flags[:3], f"sample={archive}").result
    assert (result["ok"], result["fallback"]["source"]) == (True, archive)


def test_a_source_has_to_be_that_of_the_wheel_and_require_no_more(
    setting: Setting, tmp_path: Path
) -> None:
    wheel = declaring_wheel(tmp_path)
    source = ["--on-required-extension", "source"]
    without = metadata(setting, wheel, *source).result
    assert without["error"]["kind"] == "RequiredExtension"
    assert "--source-for sample=TREE" in without["error"]["hint"]

    declaring = PREPARE + DECLARE_IN_FOLDER.format(text=json.dumps(REQUIRED))
    tree = make_project(tmp_path / "declaring", declaring)
    result = metadata(setting, wheel, *source, "--source-for", f"sample={tree}").result
    assert result["error"]["kind"] == "RequiredExtension"
    assert result["error"]["message"].startswith(f"{tree}: sample 1.0 requires")
    assert result["fallback"]["source"] == str(tree)

    other = make_project(tmp_path / "other", name="other")
    result = metadata(setting, wheel, *source, "--source-for", f"sample={other}").result
    assert result["error"]["kind"] == "InvalidSource"
    expected = f"{other} is other 1.0: expected the source of the wheel, sample 1.0"
    assert result["error"]["message"] == expected


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--supports-extension", "a*"], "such as example.*"),
        (["--on-required-extension", "pass"], "possible values: fail, source"),
        (["--source-for", "sample"], "expected NAME=TREE"),
        (["--source-for", "sample=/no/such/tree"], '"/no/such/tree" does not exist'),
        (["--source-for", "sample=WHEEL"], "expected a source tree or a source distribution"),
        (["--source-for=-x=TREE"], "-x: expected the name of a distribution"),
        (["--source-for", "a.b=TREE", "--source-for", "A_B=WHEEL/.."], "A_B: expected one source"),
    ],
)
def test_wrong_usage(setting: Setting, tmp_path: Path, flags: list[str], words: str) -> None:
    wheel = declaring_wheel(tmp_path / "wheels")
    tree = make_project(tmp_path / "tree")
    places = {"WHEEL/..": str(wheel.parent), "WHEEL": str(wheel), "TREE": str(tree)}
    for place, path in places.items():
        flags = [flag.replace(place, path) for flag in flags]
    built = metadata(setting, wheel, *flags)
    assert (built.code, built.stdout) == (2, "")
    assert words in built.stderr


@pytest.fixture(scope="session")
def real_wheels(target: Path) -> list[Path]:
    """The pinned wheels, downloaded once and kept between runs."""
    folder = target / "test-wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--require-hashes", "--requirement", str(WHEELS)]
    if len(list(folder.glob("*.whl"))) < len(WHEELS.read_text().splitlines()) - 1:
        subprocess.run([*command, "--dest", str(folder)], check=True)
    return sorted(folder.glob("*.whl"))


def test_real_wheels_declare_extensions_and_require_none(
    setting: Setting, real_wheels: list[Path]
) -> None:
    built = metadata(setting, *real_wheels)
    assert built.code == 0, built.stderr
    listed = {result["name"]: result["extensions"] for result in built.results}
    details, commands, exports = (
        extension(f"python.{name}", False, False, "metadata.json")
        for name in ("details", "commands", "exports")
    )
    assert listed["requests"] == [details]
    for name in ("Django", "Flask", "wheel"):
        assert listed[name] == [commands, details, exports]
