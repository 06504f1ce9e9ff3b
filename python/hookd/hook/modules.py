"""The import system: what it knows before a hook, and what it learned by it."""

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


class ModulesBefore:
    """The modules that there are now, to tell later which are new.

    That looks at those only that came after what is the last one now: not at all of them, for the
    sake of memory that is shared with other processes. So new ones may be left out where a hook
    has removed others and had the last one imported again.
    """

    def __init__(self) -> None:
        self._names = frozenset(sys.modules)
        self._last = _last_modules(1)
        self._preloadable = Preloadable()

    def imported_since(self) -> List[Dict[str, Any]]:
        """The modules that are new, as the function of this name tells them."""
        count = len(sys.modules) - len(self._names)
        if count >= 0 and self._last:
            last = _last_modules(count + 1)
            # Empty if the hook has made something else of sys.modules.
            if last and last[-1][0] is self._last[0][0]:
                return _describe_all(last[-2::-1], self._preloadable)
        return imported_since(self._names, self._preloadable)


def _last_modules(count: int) -> List[Tuple[Any, Any]]:
    """So many entries, the last one first."""
    try:
        # In one go, as another thread of the hook may still be importing.
        return list(islice(reversed(sys.modules.items()), count))
    except TypeError:
        # Before Python 3.8.
        return []


def imported_since(names: Collection[str], preloadable: Preloadable) -> List[Dict[str, Any]]:
    """The modules that are not among `names`, in the order in which their imports were completed:
    a module comes after those that it needs.
    """
    # The import system moves a module to the end of this dict when it is complete. A copy is
    # looked at: see above.
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
    # Not by getattr: there are lazy modules, which would now do what they put off.
    try:
        file = vars(module).get("__file__")
        return os.path.abspath(str.__str__(file)) if isinstance(file, str) else None
    except BaseException:
        # It has no dict, or one of anybody's making.
        return None
