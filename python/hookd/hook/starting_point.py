"""What hook processes start from: it is found out before they are forked, once for all of them.

Python counts references in the objects themselves. To look at every module in the hook process
would be to write to all pages that they lie in, each of which the kernel then has to copy.
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
    """The modules that are there, and an import system that knows nothing of any folder.

    It holds for the processes that are forked from here on, until something is imported.
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
        """In a hook process, before anything is imported.

        Finders of other makers are told here only: that may run anything, imports included.
        """
        for finder in self._finders:
            if hasattr(finder, "invalidate_caches"):
                finder.invalidate_caches()


def _forget_folders() -> None:
    """Have Python's own finders look at all folders and archives anew."""
    for path, finder in list(sys.path_importer_cache.items()):
        # Hook processes need not make these anew, which takes them half a millisecond.
        if type(finder) is FileFinder and os.path.isabs(path):
            finder.invalidate_caches()
        else:
            del sys.path_importer_cache[path]
    # What lies in each archive, for all finders of them.
    getattr(sys.modules.get("zipimport"), "_zip_directory_cache", {}).clear()
    # It would import that first: see `invalidate_import_caches`. Of others' finders, none is left.
    if "importlib.metadata" in sys.modules:
        PathFinder.invalidate_caches()


_current: Optional[StartingPoint] = None
_hidden = False


def starting_point() -> StartingPoint:
    """The one that was found out last, or a new one if that does not hold any more."""
    global _current  # noqa: PLW0603
    if _current is None:
        _current = StartingPoint()
    return _current


def forget_starting_point() -> None:
    """Something was imported, or may have been."""
    global _current  # noqa: PLW0603
    _current = None


def hide_hookd() -> None:
    """Make this process look as if hookd had never been in it.

    That is, a backend of the same name can be imported. Our functions go on working: they hold on
    to their own globals.
    """
    global _hidden  # noqa: PLW0603
    sys.argv = sys.argv[:1]
    if _hidden:
        # By the template. A package of that name is a user's by now.
        return
    _hidden = True
    package = __name__.partition(".")[0]
    for name in list(sys.modules):
        if name == package or name.startswith(package + "."):
            del sys.modules[name]
