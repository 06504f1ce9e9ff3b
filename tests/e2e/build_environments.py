"""Trees with requirements, and the build environments that they get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from builds import build, make_project
from conftest import Setting

# The requirements of an interpreter with a newer pip than the one of Python.
NEWEST_PIP = Path(__file__).with_name("newest_pip.txt")


class BuildEnvironments:
    """Builds trees with requirements, with a private cache folder."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self._setting = setting
        self._folder = folder
        self._count = 0
        self.cache = folder / "own-cache"

    def of(
        self,
        requires: list[str],
        *flags: object,
        **options: Any,
    ) -> dict[str, Any]:
        """The environment for these requirements, from the result."""
        result = self.result(requires, *flags, **options)
        assert result["ok"], result["error"]
        environment: dict[str, Any] = result["environment"]
        return environment

    def result(self, requires: list[str], *flags: object, **options: Any) -> dict[str, Any]:
        """The whole result."""
        self._count += 1
        tree = make_project(self._folder / f"tree-{self._count}", requires=requires)
        own = ["--cache-dir", self.cache, "--format", "json"]
        return build(self._setting, "metadata", tree, *own, *flags, **options).result


def file_of(environment: dict[str, Any], name: str) -> Path:
    """The only file with this name in the environment."""
    (path,) = Path(environment["python"]).parent.parent.rglob(name)
    return path


def versions(environment: dict[str, Any]) -> dict[str, str]:
    """The versions of the installed distributions, by name."""
    folder = Path(environment["python"]).parent.parent
    found = (path.stem.split("-") for path in folder.glob("lib/*/site-packages/*.dist-info"))
    return {name.replace("_", "-"): version for name, version in found}
