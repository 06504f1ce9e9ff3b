"""What hook processes start from. It is computed once, before they are forked.

Python counts references in the objects themselves. A hook process that looked at all modules would
write to all their pages of memory, and the kernel would have to copy each.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import BuiltinImporter, FileFinder, FrozenImporter, PathFinder

from hookd.hook.modules import ModulesBefore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional


class StartingPoint:
    """The loaded modules, and an import system with empty caches.

    It is valid for processes that are forked from now on, until something is imported.
    """

    def __init__(self) -> None:
        _forget_folders()
        self._finders = [
            finder
            for finder in sys.meta_path
            if finder is not BuiltinImporter
            and finder is not FrozenImporter
            and finder is not PathFinder
        ]
        self.modules = ModulesBefore()

    def enter(self) -> None:
        """Clear the caches of finders that are not Python's own. For the hook process only, as that
        may run any code.
        """
        for finder in self._finders:
            if hasattr(finder, "invalidate_caches"):
                finder.invalidate_caches()


def _forget_folders() -> None:
    """Make Python's own finders look at all folders and archives again."""
    for path, finder in list(sys.path_importer_cache.items()):
        # Keep these: making them again takes each hook process half a millisecond.
        if type(finder) is FileFinder and os.path.isabs(path):
            finder.invalidate_caches()
        else:
            del sys.path_importer_cache[path]
    # The contents of archives, which all their finders share.
    getattr(sys.modules.get("zipimport"), "_zip_directory_cache", {}).clear()
    # Otherwise this would import that module: see `invalidate_import_caches`.
    if "importlib.metadata" in sys.modules:
        PathFinder.invalidate_caches()


_current: Optional[StartingPoint] = None
_hidden = False


def starting_point() -> StartingPoint:
    """Return the current starting point, or make a new one."""
    global _current  # noqa: PLW0603
    if _current is None:
        _current = StartingPoint()
    return _current


def forget_starting_point() -> None:
    """Something was imported, or may have been."""
    global _current  # noqa: PLW0603
    _current = None


def hide_hookd() -> None:
    """Remove hookd's traces from this process, so that a backend of the same name can be imported.

    Our functions go on working, as they keep their own globals.
    """
    global _hidden  # noqa: PLW0603
    sys.argv = sys.argv[:1]
    if _hidden:
        # The template has done it. A package of that name is a user's by now.
        return
    _hidden = True
    package = __name__.partition(".")[0]
    for name in list(sys.modules):
        if name == package or name.startswith(package + "."):
            del sys.modules[name]
