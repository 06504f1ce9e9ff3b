"""Small source trees whose in-tree backend does what the config_settings say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Runs the code in the request; its variable `result` is the result of the hook.
CODE_BACKEND = """\
def _run(hook, config_settings, **arguments):
    names = {"__name__": "code", "hook": hook, "settings": config_settings, **arguments}
    exec(config_settings["code"], names)
    return names.get("result", [])


def get_requires_for_build_wheel(config_settings=None):
    return _run("get_requires_for_build_wheel", config_settings)


def get_requires_for_build_sdist(config_settings=None):
    return _run("get_requires_for_build_sdist", config_settings)


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return _run(
        "build_wheel",
        config_settings,
        wheel_directory=wheel_directory,
        metadata_directory=metadata_directory,
    )


def build_sdist(sdist_directory, config_settings=None):
    return _run("build_sdist", config_settings, sdist_directory=sdist_directory)
"""

# Returns its settings.
ECHO_BACKEND = """\
def get_requires_for_build_wheel(config_settings=None):
    return [config_settings["echo"]]
"""


def make_tree(
    folder: Path,
    backend: str = CODE_BACKEND,
    module: str = "in_tree_backend",
    extra: str = "",
) -> Path:
    """A source tree with `backend` as its in-tree backend."""
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        f'[build-system]\nrequires = []\nbuild-backend = "{module}"\nbackend-path = ["."]\n' + extra
    )
    (folder / f"{module}.py").write_text(backend)
    return folder


def call(tree: Path | str, code: str = "", id_: Any = 1, **fields: Any) -> dict[str, Any]:
    """A request that runs `code` in a hook of `tree`."""
    return {
        "id": id_,
        "tree": str(tree),
        "hook": "get_requires_for_build_wheel",
        "config_settings": {"code": code},
        **fields,
    }


def echo(tree: Path | str, id_: Any, text: str, **fields: Any) -> dict[str, Any]:
    """A request whose result is `[text]`."""
    return {
        "id": id_,
        "tree": str(tree),
        "hook": "get_requires_for_build_wheel",
        "config_settings": {"echo": text},
        **fields,
    }
