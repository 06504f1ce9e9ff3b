"""Credentials for installers must not become visible to others."""

from __future__ import annotations

from pathlib import Path

import pytest
from builds import build, make_project
from conftest import BOTH_POOLS, Setting
from index import Index
from installer import Installer
from packages import make_wheel
from trees import call, make_tree

INSTALLERS = pytest.mark.parametrize("installer", ["pip", "uv"])
SECRET = "very-secret-token"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """The wheels of the index."""
    folder = tmp_path / "wheels"
    for name, version in (("tool_one", "1.0"), ("tool_one", "2.0"), ("tool_two", "1.0")):
        make_wheel(folder, name, version, {f"{name}.py": ""})
    (folder / "constraints.txt").write_text("tool-one<2\n")
    return folder


def arguments() -> str:
    """The command lines of all running processes, as every user sees them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # The process has ended.
            continue
    return "\n".join(found)


@BOTH_POOLS
@INSTALLERS
def test_f99_credentials_in_all_kinds_of_addresses(
    setting: Setting, tmp_path: Path, wheels: Path, installer: str
) -> None:
    seen: list[str] = []
    told = tmp_path / "told"
    told.mkdir()
    with Index(wheels, SECRET, meanwhile=lambda: seen.append(arguments())) as index:
        root = index.url(f"user:{SECRET}").removesuffix("simple/")
        tree = make_project(
            tmp_path / "tree",
            requires=["tool-one", f"tool-two @ {root}files/tool_two-1.0-py3-none-any.whl"],
        )
        env = {
            "HOOKPOOL_FIND_LINKS": f"{root}simple/tool-one/",
            "PIP_BUILD_CONSTRAINT": f"{root}files/constraints.txt",
        }
        # A service has the same one.
        setting.env["HOOKPOOL_CACHE_DIR"] = str(told / "cache")
        flags = ["--installer", installer, "--no-index", "--format", "json", "-vvv"]
        flags += ["--log-dir", str(told / "logs"), "--timings", str(told / "timings.html")]
        # The environment is removed after the run, since the content of such an address may change.
        look = "from importlib.metadata import version; assert version('tool-one') == '1.0'"
        built = build(setting, "metadata", tree, *flags, "-C", f"prepare={look}", env=env)
    assert built.result["ok"], built.result["error"]
    asked = "\n".join(seen)
    assert "--requirement" in asked
    assert SECRET not in asked
    assert SECRET not in built.stderr + str(built.results)
    for service in setting.services:
        assert service.end() == 0
        assert SECRET not in service.stderr
    files = [path for path in told.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert list(setting.tmp.iterdir()) == []


@INSTALLERS
def test_f99_credentials_in_what_cannot_be_installed(
    setting: Setting, tmp_path: Path, wheels: Path, installer: str
) -> None:
    with Index(wheels, SECRET) as index:
        root = index.url(f"user:{SECRET}").removesuffix("simple/")
        missing = f"tool-two @ {root}files/tool_two-2.0-py3-none-any.whl"
        trees = [
            make_project(tmp_path / "one", name="one", requires=["tool-three"]),
            make_project(tmp_path / "two", name="two", requires=[missing]),
            make_project(tmp_path / "three", name="three", requires=[f"{missing} [bad"]),
        ]
        env = {"HOOKPOOL_FIND_LINKS": f"{root}simple/tool-one/"}
        flags = ["--installer", installer, "--no-index", "--format", "json", "-vvv"]
        built = build(setting, "metadata", *trees, *flags, env=env)
    messages = [result["error"]["message"] for result in built.results]
    assert len(messages) == 3
    assert SECRET not in built.stderr + str(built.results)
    # The log does not name the file for the installer either, which no longer exists.
    assert [message for message in messages if str(tmp_path) in message] == []


def test_f99_another_token_is_no_other_question(setting: Setting, tmp_path: Path) -> None:
    installer = Installer(tmp_path, named_by_requirement=True)
    trees = []
    for token in ("first", "second"):
        requirement = f"tool-two @ https://user:{token}@localhost/tool.whl"
        trees.append(make_project(tmp_path / token, name=token, requires=[requirement]))
    flags = ["--installer", "uv", "--format", "json"]
    built = build(setting, "metadata", *trees, *flags, env=installer.env)
    assert [result["error"] for result in built.results] == [None, None]
    assert installer.calls == 1


@INSTALLERS
@pytest.mark.parametrize("by", ["project", "hook", "request"])
@pytest.mark.parametrize(
    "address", ["{index}${{TOKEN}}/tool.whl", "{index}tool.whl?a=${{TOKEN}}", "${{TOKEN}}/tool.whl"]
)
def test_f99_no_source_has_the_value_of_a_variable_sent(
    setting: Setting, tmp_path: Path, wheels: Path, installer: str, address: str, by: str
) -> None:
    env = {"TOKEN": SECRET, "HOOKPOOL_INSTALLER": installer}
    with Index(wheels) as index:
        requirement = f"tool-two @ {address.format(index=index.url())}"
        if by == "request":
            pool = setting.start(env=env, build_isolation=True)
            response = pool.ask(call(make_tree(tmp_path / "tree"), requires=[requirement]))
            assert pool.finish() == ([], 1)
            error, stderr = response["error"], pool.stderr
        else:
            of_project, of_hook = ([requirement], []) if by == "project" else ([], [requirement])
            tree = make_project(tmp_path / "tree", requires=of_project, additional=of_hook)
            flags = ["--format", "json", "-o", tmp_path / "out"]
            built = build(setting, "wheel", tree, *flags, env=env)
            error, stderr = built.result["error"], built.stderr
        assert index.asked == []
    assert "an address cannot have `${` in it" in error["message"]
    assert SECRET not in stderr + str(error)
    assert error["kind"] == ("HookRuntimeError" if by == "hook" else "InvalidPyproject")


@pytest.mark.parametrize("source", ["https://u:secret@host/x.tar.gz", "x @ https://u:secret@host/"])
def test_f99_an_address_in_the_place_of_a_source(setting: Setting, source: str) -> None:
    built = build(setting, "metadata", source)
    assert built.code == 1
    assert "sources are not downloaded" in built.stderr
    assert "secret" not in built.stderr
