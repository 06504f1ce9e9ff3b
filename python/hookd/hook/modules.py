"""Which modules a hook imports, and making the import system look at the disk again."""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys
from itertools import islice

from hookd.template.preloadable import Preloadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Collection, Dict, List, Tuple


def invalidate_import_caches() -> None:
    """Make the import system look at all folders again, as `importlib.invalidate_caches` does.

    That function imports importlib.metadata to clear a cache of it (Python 3.13), which takes 25 ms
    in each hook process. As long as nothing has imported that module, there is no such cache.
    """
    if "importlib.metadata" in sys.modules:
        importlib.invalidate_caches()
        return
    for finder in sys.meta_path:
        if finder is importlib.machinery.PathFinder:
            sys.path_importer_cache.clear()
        elif hasattr(finder, "invalidate_caches"):
            finder.invalidate_caches()


class ModulesBefore:
    """Remembers the loaded modules, to tell later which are new.

    It looks only at modules that come after the one that is the last now, not at all of them:
    touching an object copies a page of memory that is shared with other processes. It may miss new
    modules if a hook has removed others and imported the last one again.
    """

    def __init__(self) -> None:
        self._names = frozenset(sys.modules)
        self._last = _last_modules(1)
        self._preloadable = Preloadable()

    def imported_since(self) -> List[Dict[str, Any]]:
        """Describe the modules that are new; see the function of this name."""
        count = len(sys.modules) - len(self._names)
        if count >= 0 and self._last:
            last = _last_modules(count + 1)
            # Empty if the hook has made something else of sys.modules.
            if last and last[-1][0] is self._last[0][0]:
                return _describe_all(last[-2::-1], self._preloadable)
        return imported_since(self._names, self._preloadable)


def _last_modules(count: int) -> List[Tuple[Any, Any]]:
    """The last entries of `sys.modules`, the very last one first."""
    try:
        # As one operation, since another thread of the hook may still be importing.
        return list(islice(reversed(sys.modules.items()), count))
    except TypeError:
        # Before Python 3.8.
        return []


def imported_since(names: Collection[str], preloadable: Preloadable) -> List[Dict[str, Any]]:
    """Describe the modules that are not among `names`, in the order in which their imports were
    completed: a module comes after those that it imports.
    """
    # The import system moves a module to the end of this dict when its import is complete. This is
    # a copy, as another thread may still be importing.
    modules = list(sys.modules.items())
    new = [entry for entry in modules if entry[0] not in names]
    return _describe_all(new, preloadable)


def _describe_all(modules: List[Tuple[Any, Any]], preloadable: Preloadable) -> List[Dict[str, Any]]:
    return [
        _describe(str.__str__(name), module, preloadable)
        for name, module in modules
        if issubclass(type(name), str)
    ]


def _describe(name: str, module: object, preloadable: Preloadable) -> Dict[str, Any]:
    file = _file_of(module)
    described: Dict[str, Any] = {
        "name": name,
        "file": file,
        "mtime_ns": None,
        "size": None,
        "preloadable": file is not None and preloadable.may_import(name, file),
    }
    if file is not None:
        try:
            status = os.stat(file)
        except BaseException:
            return described
        described["mtime_ns"] = status.st_mtime_ns
        described["size"] = status.st_size
    return described


def _file_of(module: object) -> Any:
    # Not by getattr, which would make lazy modules run.
    try:
        file = vars(module).get("__file__")
        return os.path.abspath(str.__str__(file)) if isinstance(file, str) else None
    except BaseException:
        # It has no __dict__, or an unusual one.
        return None
