"""The import system: what it knows before a hook, and what it learned by it."""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Collection, Dict, List


def invalidate_import_caches() -> None:
    """Have the import system look at all folders anew, as `importlib.invalidate_caches` does.

    That imports importlib.metadata first, for the sake of its cache (Python 3.13): 25 ms in each
    hook process, for a cache that does not exist as long as nothing else has imported it.
    """
    if "importlib.metadata" in sys.modules:
        importlib.invalidate_caches()
        return
    for finder in sys.meta_path:
        if finder is importlib.machinery.PathFinder:
            sys.path_importer_cache.clear()
        elif hasattr(finder, "invalidate_caches"):
            finder.invalidate_caches()


def imported_since(names: Collection[str]) -> List[Dict[str, Any]]:
    """The modules that are not among `names`, in the order in which their imports were completed:
    a module comes after those that it needs.
    """
    # The import system moves a module to the end of this dict when it is complete. A copy is
    # looked at, as another thread of the hook may still be importing.
    return [
        _describe(str.__str__(name), module)
        for name, module in list(sys.modules.items())
        if name not in names and issubclass(type(name), str)
    ]


def _describe(name: str, module: object) -> Dict[str, Any]:
    file = _file_of(module)
    described: Dict[str, Any] = {"name": name, "file": file, "mtime_ns": None, "size": None}
    if file is not None:
        try:
            status = os.stat(file)
        except BaseException:
            return described
        described["mtime_ns"] = status.st_mtime_ns
        described["size"] = status.st_size
    return described


def _file_of(module: object) -> Any:
    # Not by getattr: there are lazy modules, which would now do what they put off.
    try:
        file = vars(module).get("__file__")
        return os.path.abspath(str.__str__(file)) if isinstance(file, str) else None
    except BaseException:
        # It has no dict, or one of anybody's making.
        return None
