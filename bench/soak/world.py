"""What requests are about: source trees, an environment, and the version of each that is there."""

from __future__ import annotations

import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import backend

PROJECT = '[build-system]\nrequires = []\nbuild-backend = "{name}"\n'


class Versioned:
    """A file with a version in it, which is only ever replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version = 0

    def text(self) -> str:
        """What is to be in it."""
        raise NotImplementedError

    def renew(self) -> None:
        """The next version. When this returns, it is there."""
        draft = self.path.with_suffix(".draft")
        self.version += 1
        draft.write_text(self.text())
        draft.rename(self.path)


class Library(Versioned):
    """A module of the environment."""

    def text(self) -> str:
        return backend.library(self.version)


class Backend(Versioned):
    """The backend of one tree."""

    def text(self) -> str:
        return backend.in_tree(self.version)


@dataclass
class Tree:
    """A source tree. Its answers have the version of `source`."""

    path: Path
    source: Versioned
    counts: Path

    @property
    def has_own_backend(self) -> bool:
        return isinstance(self.source, Backend)

    def runs(self) -> list[str]:
        """The tokens of all hooks that were started, as often as they were."""
        return self.counts.read_text().splitlines()


class World:
    """An environment, and trees of which every second has a backend of its own."""

    def __init__(self, folder: Path, trees: int) -> None:
        environment = folder / "environment"
        venv.create(environment, with_pip=False, symlinks=True)
        self.python = environment / "bin" / "python"
        variables = {"base": str(environment), "platbase": str(environment)}
        site = Path(sysconfig.get_path("purelib", vars=variables))
        (site / "soak_backend.py").write_text(backend.of_environment())
        self.library = Library(site / "soak_library.py")
        self.library.renew()
        (folder / "counts").mkdir()
        self.trees = [self._tree(folder, number) for number in range(trees)]

    def _tree(self, folder: Path, number: int) -> Tree:
        path = folder / "trees" / f"tree-{number}"
        path.mkdir(parents=True)
        counts = folder / "counts" / str(number)
        counts.touch()
        if number % 2:
            text = PROJECT.format(name="own_backend") + 'backend-path = ["."]\n'
            source: Versioned = Backend(path / "own_backend.py")
            source.renew()
        else:
            text, source = PROJECT.format(name="soak_backend"), self.library
        (path / "pyproject.toml").write_text(text)
        return Tree(path, source, counts)
