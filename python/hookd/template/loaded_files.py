"""The files and folders that modules were loaded from, as they were then."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Sequence


class LoadedFiles:
    """By which a change of them is seen."""

    def __init__(self) -> None:
        self.modules: List[Dict[str, Any]] = []
        self.folders: List[List[Any]] = []

    def add(self, imported: Sequence[Dict[str, Any]]) -> None:
        """Look at those of modules that are as `imported_since` describes them."""
        self.modules += loaded_modules(imported)
        self.folders += [
            stamp(folder) for module in imported for folder in _package_folders(module["name"])
        ]


def loaded_modules(imported: Sequence[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Those of the modules that have a file, with all by which a change of it is seen."""
    described = []
    for module in imported:
        if module["file"] is not None:
            entry = {"name": module["name"], "file": module["file"]}
            entry.update(_identity(module["file"]))
            described.append(entry)
    return described


def stamp(path: str) -> List[Any]:
    """A folder, and when it was changed."""
    path = os.path.abspath(path)
    return [path, _identity(path)["mtime_ns"]]


def _identity(file: str) -> Dict[str, Optional[int]]:
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        # In a zip file, or gone.
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
        # It is no module, or its __path__ is of somebody's own making.
        return []
