"""Real projects with `hookpool metadata` and `wheel`, in their own build environments."""

from __future__ import annotations

import email
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
import sdists
import wheels
from builds import Built, build
from conftest import Setting

HERE = Path(__file__).parent
PREPARE = "prepare_metadata_for_build_wheel"
NATIVE = HERE / "native_sdists.txt"
INSTALLERS = ["uv", "pip"]
# One for each backend, and for each way of requiring setuptools.
WHEELS = ["six", "chardet", "pluggy", "soupsieve", "platformdirs", "idna", "tomlkit", "fastapi"]
WHEELS += ["poetry-core"]
# Those that list the folders above their tree, as setuptools-scm does: there are temporary files of
# others, so they may have to run again.
LISTING = {"pluggy", "tqdm", "zipp"}
# Some backends iterate over sets, whose order depends on the hash seed.
SEED = {"PYTHONHASHSEED": "0"}
FIELDS = {
    "name": "Name",
    "version": "Version",
    "requires_python": "Requires-Python",
    "requires_dist": "Requires-Dist",
    "provides_extra": "Provides-Extra",
}
LISTS = ("requires_dist", "provides_extra")
# Those with a PKG-INFO of Metadata-Version 2.2 or newer, and those with a [project] table that
# determines what resolvers use.
STATIC = {"platformdirs", "soupsieve", "urllib3", "virtualenv"}
STATIC |= {"colorama", "django", "fastapi", "flask", "idna", "packaging", "sniffio", "tqdm", "zipp"}


@pytest.fixture(scope="module")
def archives(target: Path) -> dict[str, Path]:
    return sdists.fetch_archives(target / "test-sdists")


def by_archive(built: Built, archives: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """The results by project, which must all be successful."""
    assert built.code == 0, built.stderr
    names = {str(path): name for name, path in archives.items()}
    found = {names[result["source"]]: result for result in built.results}
    assert found.keys() == archives.keys()
    return found


def fields(metadata: str) -> dict[str, Any]:
    """The core metadata that resolvers use."""
    message = email.message_from_string(metadata)
    return {
        field: (message.get_all(header) or []) if field in LISTS else message.get(header)
        for field, header in FIELDS.items()
    }


def by_pyproject_hooks(
    results: dict[str, dict[str, Any]], target: Path, folder: Path, env: dict[str, str]
) -> dict[str, str]:
    """The metadata from fresh processes, in the environments that the results name."""
    trees = sdists.fetch_all(target / "test-sdists")
    requests: list[list[list[str]]] = [[], []]
    for number, (name, result) in enumerate(results.items()):
        tree = sdists.copy(trees[name], folder / name / trees[name].name)
        (folder / "out" / name).mkdir(parents=True)
        python = result["environment"]["python"]
        requests[number % 2].append([str(tree), python, PREPARE, str(folder / "out" / name)])
    running = []
    for number, half in enumerate(requests):
        path = folder / f"requests-{number}.json"
        path.write_text(json.dumps(half))
        # Our processes must not change the environments.
        unsealed = {**env, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, str(HERE / "reference.py"), str(path)]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, env=unsealed))
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    return {name: metadata_in(folder / "out" / name) for name in results}


def metadata_in(folder: Path) -> str:
    (path,) = folder.glob("*.dist-info/METADATA")
    return path.read_bytes().decode()


@pytest.mark.timeout(300)
def test_metadata_of_all_sdists_by_hooks(
    setting: Setting, archives: dict[str, Path], target: Path, tmp_path: Path
) -> None:
    wanted = ["metadata", "--no-static", *archives.values(), "--format", "json"]
    results = by_archive(build(setting, *wanted, env=SEED), archives)
    expected = by_pyproject_hooks(results, target, tmp_path / "work", {**setting.env, **SEED})
    for name, result in results.items():
        assert result["origin"] == "prepare_metadata", name
        assert result["metadata"] == expected[name], name
        assert {field: result[field] for field in FIELDS} == fields(expected[name]), name
    # Neither our processes nor the hooks have changed the environments.
    again = build(setting, *wanted, "--offline", "--answers", "none", env=SEED)
    assert "build environment" not in again.stderr
    for name, result in by_archive(again, archives).items():
        environment = result["environment"]
        assert (environment["made"], environment["modified"]) == (False, []), name
        assert environment["id"] == results[name]["environment"]["id"], name
        assert result["metadata"] == expected[name], name
    static = by_archive(
        build(setting, "metadata", *archives.values(), "--format", "json"), archives
    )
    assert {name for name, result in static.items() if result["origin"] == "static"} == STATIC
    for name in STATIC:
        # Backends do not write them in the same order each time.
        for field in FIELDS:
            found, by_hook = static[name][field], results[name][field]
            assert (set(found) == set(by_hook)) if field in LISTS else (found == by_hook), name
    # What is kept is the same, and so is what a service does.
    kept = by_archive(build(setting, *wanted, env=SEED), archives)
    setting.builds_by_service = True
    served = by_archive(build(setting, *wanted, "--refresh", env=SEED), archives)
    assert {name: result["metadata"] for name, result in served.items()} == expected
    assert {name: result["metadata"] for name, result in kept.items()} == expected
    for name in kept.keys() - LISTING:
        assert {hook["answer"]["is"] for hook in kept[name]["hooks"]} == {"used"}, name


@pytest.mark.timeout(300)
def test_wheels_are_those_of_build(
    setting: Setting, archives: dict[str, Path], target: Path, tmp_path: Path
) -> None:
    trees = sdists.fetch_all(target / "test-sdists")
    # The time of the files in wheels.
    seed = {**SEED, "SOURCE_DATE_EPOCH": "1700000000"}
    env = {**setting.env, **seed}
    wheels.build_references({name: trees[name] for name in WHEELS}, tmp_path / "build", env)

    def ours(
        folder: str, chosen: dict[str, Path], *flags: str
    ) -> tuple[dict[str, bytes], set[str]]:
        """The wheels, and the projects without a hook that ran."""
        out = tmp_path / folder
        words = [*chosen.values(), "-o", out, *flags, "--format", "json"]
        results = by_archive(build(setting, "wheel", *words, env=seed), chosen)
        used = {
            name
            for name, result in results.items()
            if {hook["answer"]["is"] for hook in result["hooks"]} == {"used"}
        }
        return {wheel.name: wheel.read_bytes() for wheel in out.iterdir()}, used

    made, _ = ours("made", archives)
    assert len(made) == len(archives)
    for name in WHEELS:
        reference = wheels.only(tmp_path / "build" / name)
        assert wheels.differences(tmp_path / "made" / reference.name, reference) == [], name
    # What is kept is the same, byte for byte, and so is what the hooks make again, for a service.
    kept, used = ours("kept", archives)
    assert kept == made
    assert archives.keys() - used <= LISTING
    setting.builds_by_service = True
    again, used = ours("again", {name: archives[name] for name in WHEELS}, "--refresh")
    assert not used
    assert again.items() <= made.items()


# The code to run with each installed project.
USES = {
    "markupsafe": "import markupsafe._speedups as m; assert m.__file__.endswith('.so')",
    "pybind11": "import pathlib, pybind11; assert pathlib.Path(pybind11.get_include()).is_dir()",
    "rpds-py": "import rpds; assert rpds.HashTrieMap({1: 2})[1] == 2",
}


@pytest.mark.timeout(400)
def test_projects_that_compile(setting: Setting, target: Path, tmp_path: Path) -> None:
    native = sdists.fetch_archives(target / "test-sdists", NATIVE)
    out = tmp_path / "out"
    # The results and the speed of the compiled code do not matter.
    unoptimized = {"CARGO_PROFILE_RELEASE_OPT_LEVEL": "0", "CARGO_PROFILE_RELEASE_LTO": "off"}
    env = {**rust_folders(), **unoptimized}
    built = build(setting, "wheel", *native.values(), "-o", out, env=env)
    assert built.code == 0, built.stderr
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    install = ["install", "--quiet", "--no-deps", "--no-index", *map(str, out.glob("*.whl"))]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *install], check=True)
    for name in native:
        subprocess.run([python, "-I", "-c", USES[name]], check=True, cwd=tmp_path)


def rust_folders() -> dict[str, str]:
    """The folders of cargo and rustup: by default in HOME, which a test replaces."""
    home = Path.home()
    defaults = {"CARGO_HOME": home / ".cargo", "RUSTUP_HOME": home / ".rustup"}
    return {name: os.environ.get(name, str(folder)) for name, folder in defaults.items()}


@pytest.mark.timeout(200)
def test_both_installers_give_the_same_environments(
    setting: Setting, archives: dict[str, Path], tmp_path: Path
) -> None:
    results = []
    for installer in INSTALLERS:
        sources = [archives["platformdirs"], archives["idna"]]
        flags = ["--cache-dir", tmp_path / installer, "--installer", installer, "--format", "json"]
        built = build(setting, "metadata", "--no-static", *sources, *flags)
        found = by_archive(built, {name: archives[name] for name in ("platformdirs", "idna")})
        assert {result["environment"]["made"] for result in found.values()} == {True}
        results.append(found)
    for by_uv, by_pip in zip(*(found.values() for found in results), strict=True):
        assert by_uv["environment"]["id"] == by_pip["environment"]["id"]
        assert by_uv["metadata"] == by_pip["metadata"]


@pytest.mark.timeout(200)
@pytest.mark.parametrize("installer", INSTALLERS)
def test_without_a_network(
    setting: Setting, archives: dict[str, Path], tmp_path: Path, installer: str
) -> None:
    def metadata(number: int, *flags: object) -> Built:
        # Each has its own cache folder.
        own = ["--cache-dir", tmp_path / str(number), "--installer", installer, *flags]
        env = {"UV_CACHE_DIR": str(tmp_path / "uv"), "PIP_NO_CACHE_DIR": "1"}
        for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
            env[name] = ""
        source = archives["idna"]
        return build(setting, "metadata", "--no-static", source, *own, "--format", "json", env=env)

    failed = metadata(1, "--no-index")
    assert failed.code == 1
    error = failed.result["error"]
    assert error["kind"] == "EnvironmentFailed"
    assert f"{installer} could not install `flit-core>=3.2,<4`" in error["message"]
    words = {"uv": "flit-core was not found", "pip": "No matching distribution found for flit-core"}
    assert words[installer] in error["message"].replace("flit_core", "flit-core")
    wheels_here = tmp_path / "wheels"
    download = ["download", "--quiet", "--only-binary", ":all:", "--dest", str(wheels_here)]
    subprocess.run([sys.executable, "-m", "pip", *download, "flit_core>=3.2,<4"], check=True)
    made = metadata(2, "--no-index", "--find-links", wheels_here).result
    assert made["ok"], made["error"]
    assert made["environment"]["made"]
    # Nothing in the folder has changed; nothing else is checked.
    again = metadata(2, "--no-index", "--find-links", wheels_here, "--answers", "none").result
    assert again["ok"], again["error"]
    assert not again["environment"]["made"]
    assert again["environment"]["id"] == made["environment"]["id"]


@pytest.mark.timeout(200)
def test_uv_has_what_it_needs_in_its_own_cache(
    setting: Setting, archives: dict[str, Path], tmp_path: Path
) -> None:
    env = {"UV_CACHE_DIR": str(tmp_path / "uv")}
    wanted = ["metadata", "--no-static", archives["idna"], "--format", "json"]

    def metadata(folder: str, *flags: str) -> dict[str, Any]:
        own = ["--installer", "uv", "--cache-dir", tmp_path / folder, *flags]
        return build(setting, *wanted, *own, env=env).result

    assert "not found in the cache" in metadata("empty", "--offline")["error"]["message"]
    online, offline = metadata("online"), metadata("offline", "--offline")
    assert offline["ok"], offline["error"]
    assert offline["environment"]["made"]
    assert offline["environment"]["id"] == online["environment"]["id"]
