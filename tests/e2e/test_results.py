"""The files that hooks make are checked before they become results."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from builds import EDITABLE, PREPARE, build, make_project
from conftest import BOTH_POOLS, Setting

pytestmark = BOTH_POOLS

INFO = "sample-1.0.dist-info"
WHEEL = "sample-1.0-py3-none-any.whl"
METADATA = "Metadata-Version: 2.2\nName: sample\nVersion: 1.0\n"
TAG = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
WHOLE = [(f"{INFO}/METADATA", METADATA), (f"{INFO}/WHEEL", TAG)]

# In place of the backend's own file, a copy of a file of the test.
COPY = """

def _wheel(folder):
    import shutil
    return os.path.basename(shutil.copy("made/" + {name!r}, folder))


def build_sdist(folder, config_settings=None):
    return _wheel(folder)
"""


def zipped(*members: tuple[str, str]) -> bytes:
    """A zip file with these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members:
            archive.writestr(name, text)
    return buffer.getvalue()


def tarred(*members: tuple[str, str]) -> bytes:
    """A `.tar.gz` file with these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in members:
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def project_of(folder: Path, name: str, content: bytes) -> Path:
    """A source tree whose hooks make a file with this name and content."""
    tree = make_project(folder, more=EDITABLE + COPY.format(name=name))
    (tree / "made").mkdir()
    (tree / "made" / name).write_bytes(content)
    return tree


def other(text: str, old: str, new: str) -> str:
    """The text with a replacement."""
    assert old in text
    return text.replace(old, new)


WRONG_WHEELS = {
    "empty": (b"", "is not a zip file, or a damaged one"),
    "garbage": (bytes(range(256)) * 100, "is not a zip file, or a damaged one"),
    "cut": (zipped(*WHOLE)[:-10], "is not a zip file, or a damaged one"),
    "without dist-info": (zipped(("module.py", "")), "has no .dist-info folder"),
    "two dist-info": (
        zipped(*WHOLE, ("other-1.dist-info/METADATA", METADATA)),
        "has several .dist-info folders",
    ),
    "dist-info of another": (
        zipped(*((other(name, "1.0", "2.0"), text) for name, text in WHOLE)),
        "has the folder sample-2.0.dist-info",
    ),
    "without METADATA": (zipped(WHOLE[1]), f"has no {INFO}/METADATA"),
    "without WHEEL": (zipped(WHOLE[0]), f"has no {INFO}/WHEEL"),
    "METADATA of another": (
        zipped((WHOLE[0][0], other(METADATA, "sample", "simple")), WHOLE[1]),
        f"has the name and version simple 1.0 in {INFO}/METADATA",
    ),
    "METADATA without a version": (
        zipped((WHOLE[0][0], other(METADATA, "Version: 1.0\n", "")), WHOLE[1]),
        f"{INFO}/METADATA is not core metadata: it has no field",
    ),
    "METADATA twice": (zipped(*WHOLE, WHOLE[0]), "has several members with the same name"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", WRONG_WHEELS)
def test_f94_a_wheel_that_is_none(setting: Setting, tmp_path: Path, case: str) -> None:
    content, problem = WRONG_WHEELS[case]
    tree = project_of(tmp_path / "tree", WHEEL, content)
    out = tmp_path / "out"
    for hook, words in [
        ("build_wheel", ["wheel", tree, "-o", out]),
        ("build_editable", ["editable", tree, "-o", out]),
        ("build_wheel", ["metadata", tree, "--keep-wheels", out]),
    ]:
        built = build(setting, *words, "--format", "json", isolated=False)
        error = built.result["error"]
        assert (built.code, error["kind"]) == (1, "HookRuntimeError")
        expected = f"what {hook} made cannot be used: {WHEEL}: {problem}"
        assert error["message"].startswith(expected), error["message"]
        assert list(out.iterdir()) == []


SDIST = "sample-1.0.tar.gz"
WRONG_SDISTS = {
    "empty": (SDIST, b"", "the archive"),
    "garbage": (SDIST, bytes(range(256)) * 100, "the archive is damaged or incomplete"),
    "cut": (SDIST, tarred(("sample-1.0/setup.py", "x" * 999))[:-20], "member"),
    "no archive": ("sample-1.0.txt", b"text", "expected a name that ends in .tar.gz"),
    "no project": (SDIST, tarred(("sample-1.0/PKG-INFO", METADATA)), "expected pyproject.toml"),
    "outside": (SDIST, tarred(("../setup.py", "")), 'member "../setup.py": its name has `..`'),
}


@pytest.mark.parametrize("case", WRONG_SDISTS)
def test_f94_a_source_distribution_that_is_none(
    setting: Setting, tmp_path: Path, case: str
) -> None:
    name, content, problem = WRONG_SDISTS[case]
    tree = project_of(tmp_path / "tree", name, content)
    out = tmp_path / "out"
    for words in (["sdist"], ["wheel", "--via-sdist"]):
        built = build(setting, *words, tree, "-o", out, "--format", "json", isolated=False)
        error = built.result["error"]
        assert (built.code, error["kind"]) == (1, "HookRuntimeError")
        assert error["message"].startswith("what build_sdist made cannot be used: ")
        assert problem in error["message"]
        assert list(out.iterdir()) == []


@pytest.mark.parametrize("archive", ["sample-1.0.tar.gz", "sample-1.0.zip"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_f94_of_two_members_of_one_name_the_last_counts(
    setting: Setting, tmp_path: Path, archive: str
) -> None:
    tree = make_project(tmp_path / "tree")
    # PKG-INFO is about the tree that is built.
    backend = (tree / "own_backend.py").read_text() + 'METADATA = open("PKG-INFO").read()\n'
    first, last = (METADATA + f"Requires-Dist: {name}\n" for name in ("first", "last"))
    members = [
        ("sample-1.0/PKG-INFO", first),
        ("sample-1.0/pyproject.toml", (tree / "pyproject.toml").read_text()),
        ("sample-1.0/own_backend.py", backend),
        ("sample-1.0/PKG-INFO", last),
    ]
    pack = zipped if archive.endswith(".zip") else tarred
    (tmp_path / archive).write_bytes(pack(*members))
    for flags, origin in ([], "static"), (["--no-static"], "prepare_metadata"):
        words = ["metadata", tmp_path / archive, *flags, "--format", "json"]
        result = build(setting, *words, isolated=False).result
        assert (result["origin"], result["requires_dist"]) == (origin, ["last"])


def test_f94_metadata_that_are_none(setting: Setting, tmp_path: Path) -> None:
    tree = make_project(tmp_path / "tree", more=PREPARE.replace('"METADATA"', '"metadata.txt"'))
    error = build(setting, "metadata", tree, "--format", "json", isolated=False).result["error"]
    assert error["kind"] == "HookRuntimeError"
    expected = f"what prepare_metadata_for_build_wheel made cannot be used: {INFO}/METADATA: "
    assert error["message"].startswith(expected + "cannot be read")
