"""The source trees, their requirements, and the current version of each."""

from __future__ import annotations

import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import backend

PROJECT = '[build-system]\nrequires = [{requires}]\nbuild-backend = "{name}"\n'


class Versioned:
    """A file with a version, which is replaced atomically."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version = 0

    def text(self) -> str:
        """The content for the current version."""
        raise NotImplementedError

    def renew(self) -> None:
        """Write the next version."""
        draft = self.path.with_suffix(".draft")
        self.version += 1
        draft.write_text(self.text())
        draft.rename(self.path)


class Library(Versioned):
    """A module of the environment."""

    def text(self) -> str:
        return backend.library(self.version)


class Requirement(Versioned):
    """The `pyproject.toml` of a tree, whose backend is a wheel."""

    def __init__(self, path: Path, wheels: Path, group: int) -> None:
        super().__init__(path)
        self._wheels = wheels
        # The trees of a group share their wheels.
        self._group = group

    def text(self) -> str:
        wheel = self._wheels / f"soak_backend-{self._group}.{self.version}-py3-none-any.whl"
        write_wheel(wheel, self._group, self.version)
        requires = f'"soak-backend @ {wheel.as_uri()}"'
        return PROJECT.format(requires=requires, name="soak_backend")


def write_wheel(path: Path, group: int, version: int) -> None:
    """Make the wheel of the backend in this version, if it is missing."""
    if path.exists():
        return
    number = f"{group}.{version}"
    own = f"soak_backend-{number}.dist-info"
    files = {
        "soak_backend.py": backend.in_tree(version),
        f"{own}/METADATA": f"Metadata-Version: 2.1\nName: soak-backend\nVersion: {number}\n",
        f"{own}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{own}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{own}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


class Backend(Versioned):
    """The in-tree backend of a tree."""

    def text(self) -> str:
        return backend.in_tree(self.version)


@dataclass
class Tree:
    """A source tree. Its results have the version of `source`."""

    path: Path
    source: Versioned
    counts: Path

    def runs(self) -> list[str]:
        """The tokens of all hook starts, with repetitions."""
        return self.counts.read_text().splitlines()


class World:
    """Trees, every second one with an in-tree backend.

    The backend of the others is in the environment that all share; with build isolation, where each
    has its own environment, it comes from a wheel.
    """

    def __init__(self, folder: Path, trees: int, build_isolation: bool) -> None:
        self._wheels = folder / "wheels"
        self._wheels.mkdir()
        environment = folder / "environment"
        venv.create(environment, with_pip=False, symlinks=True)
        self.python = environment / "bin" / "python"
        variables = {"base": str(environment), "platbase": str(environment)}
        site = Path(sysconfig.get_path("purelib", vars=variables))
        (site / "soak_backend.py").write_text(backend.of_environment())
        self.library = Library(site / "soak_library.py")
        self.library.renew()
        (folder / "counts").mkdir()
        self.trees = [self._tree(folder, number, build_isolation) for number in range(trees)]

    def sources(self, kind: type[Versioned]) -> list[Versioned]:
        """The sources of this kind, without duplicates."""
        found = {id(tree.source): tree.source for tree in self.trees}
        return [source for source in found.values() if isinstance(source, kind)]

    def _tree(self, folder: Path, number: int, build_isolation: bool) -> Tree:
        path = folder / "trees" / f"tree-{number}"
        path.mkdir(parents=True)
        counts = folder / "counts" / str(number)
        counts.touch()
        project = path / "pyproject.toml"
        if number % 2:
            text = PROJECT.format(requires="", name="own_backend") + 'backend-path = ["."]\n'
            project.write_text(text)
            source: Versioned = Backend(path / "own_backend.py")
            source.renew()
        elif build_isolation:
            source = Requirement(project, self._wheels, group=number // 4)
            source.renew()
        else:
            project.write_text(PROJECT.format(requires="", name="soak_backend"))
            source = self.library
        return Tree(path, source, counts)
