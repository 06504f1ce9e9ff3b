"""The results of pyproject_hooks, with a fresh process for each hook.

As a program it runs the hooks of one tree: `reference.py REQUESTS`, where
REQUESTS is a file of `[[tree, python, hook, directory], ...]`; the results go
to stdout as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyproject_hooks


def caller(tree: Path, python: str) -> pyproject_hooks.BuildBackendHookCaller:
    """The hooks of `tree`, run by `python`."""
    project = tree / "pyproject.toml"
    table: dict[str, Any] = {}
    if project.exists():
        table = tomllib.loads(project.read_text()).get("build-system", {})
    return pyproject_hooks.BuildBackendHookCaller(
        str(tree),
        table.get("build-backend", "setuptools.build_meta:__legacy__"),
        backend_path=table.get("backend-path"),
        runner=_quietly,
        python_executable=python,
    )


def _quietly(
    cmd: Sequence[str],
    cwd: str | None = None,
    extra_environ: Mapping[str, str] | None = None,
) -> None:
    env = {**os.environ, **(extra_environ or {})}
    subprocess.run(cmd, cwd=cwd, env=env, check=True, capture_output=True)


def run(tree: Path, python: str, hook: str, directory: str | None) -> Any:
    """The result of a hook; None if the backend lacks it."""
    hooks = caller(tree, python)
    if hook == "get_requires_for_build_wheel":
        return hooks.get_requires_for_build_wheel()
    assert directory is not None
    if hook == "build_wheel":
        return hooks.build_wheel(directory)
    assert hook == "prepare_metadata_for_build_wheel"
    try:
        return hooks.prepare_metadata_for_build_wheel(directory, _allow_fallback=False)
    except pyproject_hooks.HookMissing:
        return None


if __name__ == "__main__":
    requests = json.loads(Path(sys.argv[1]).read_text())
    json.dump([run(Path(tree), *rest) for tree, *rest in requests], sys.stdout)
