"""What hook processes start from: it is found out before they are forked, once for all of them.

Python counts references in the objects themselves. To look at every module in the hook process
would be to write to all pages that they lie in, each of which the kernel then has to copy.
"""

from __future__ import annotations

import importlib.machinery
import sys

from hookd.imports import KnownModules, invalidate_import_caches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Optional


class StartingPoint:
    """The modules that are there, and an import system that knows nothing of any folder.

    It holds for the processes that are forked from here on, until something is imported.
    """

    def __init__(self) -> None:
        try:
            invalidate_import_caches()
            self._finders: Optional[List[Any]] = _finders_of_others()
        except BaseException:
            # That is for the hook process to meet with.
            self._finders = None
        self.modules = KnownModules()

    def enter(self) -> None:
        """In a hook process, before anything is imported."""
        if self._finders is None:
            invalidate_import_caches()
            return
        for finder in self._finders:
            finder.invalidate_caches()


def _finders_of_others() -> List[Any]:
    """Those that may read more when they are told to forget: zip files are listed at once, say."""
    finders = [*sys.meta_path, *sys.path_importer_cache.values()]
    return [
        finder
        for finder in finders
        if finder is not importlib.machinery.PathFinder
        and type(finder) is not importlib.machinery.FileFinder
        and hasattr(finder, "invalidate_caches")
    ]


_current: Optional[StartingPoint] = None


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
    sys.argv = sys.argv[:1]
    package = __name__.partition(".")[0]
    # Not in a worker whose template has done so: see above.
    if package in sys.modules:
        for name in list(sys.modules):
            if name == package or name.startswith(package + "."):
                del sys.modules[name]
