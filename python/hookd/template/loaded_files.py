"""The files that modules were loaded from, and the folders of packages, for a later comparison."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Sequence


class LoadedFiles:
    """Collects the files and package folders of imported modules."""

    def __init__(self) -> None:
        self.modules: List[Dict[str, Any]] = []
        self.folders: List[List[Any]] = []

    def add(self, imported: Sequence[Dict[str, Any]]) -> None:
        """Add those of modules that `imported_since` has described."""
        self.modules += loaded_modules(imported)
        self.folders += [
            stamp(folder) for module in imported for folder in _package_folders(module["name"])
        ]


def loaded_modules(imported: Sequence[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Describe the modules that have a file, with what changes when the file changes."""
    described = []
    for module in imported:
        if module["file"] is not None:
            entry = {"name": module["name"], "file": module["file"]}
            entry.update(_identity(module["file"]))
            described.append(entry)
    return described


def stamp(path: str) -> List[Any]:
    """A folder, and when it was modified."""
    path = os.path.abspath(path)
    return [path, _identity(path)["mtime_ns"]]


def _identity(file: str) -> Dict[str, Optional[int]]:
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        # It is in a zip file, or gone.
        return {"device": None, "inode": None, "size": None, "mtime_ns": None}
    return {
        "device": status.st_dev,
        "inode": status.st_ino,
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }


def _package_folders(name: str) -> List[str]:
    """Where the import system looks for a package's modules."""
    try:
        path = vars(sys.modules[name]).get("__path__", ())
        return [os.path.abspath(entry) for entry in path if isinstance(entry, str)]
    except BaseException:
        # It is no module, or has an unusual __path__.
        return []
