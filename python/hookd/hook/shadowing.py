"""Preloaded modules that a hook would have found elsewhere, by its own ``sys.path``."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Set, Tuple

_learned: Set[str] = set()
"""Names of modules that a template imported because other hooks had."""


def note_learned(names: List[str]) -> None:
    """In a template: these modules would not be there yet in a fresh process."""
    _learned.update(names)


class PathWatch:
    """Takes down what ``sys.path`` holds, until the end of a hook process."""

    def __init__(self) -> None:
        self._seen: List[Tuple[str, ...]] = []
        self.look()
        # Python 3.8. Hooks change sys.path for a while only; there is an event whenever a file
        # is opened, and code compiled or run.
        add_audit_hook = getattr(sys, "addaudithook", None)
        if add_audit_hook is not None and _learned:
            add_audit_hook(self._on_event)

    def _on_event(self, event: str, arguments: object) -> None:
        self.look()

    def look(self) -> None:
        """Take down what it holds now."""
        try:
            # Relative entries mean the current folder, which hooks may change.
            path = tuple(str.__str__(entry) for entry in sys.path if isinstance(entry, str))
        except BaseException:
            # A hook may have put anything in its place.
            return
        if not self._seen or self._seen[-1] != path:
            self._seen.append(path)

    def shadowed(self) -> List[Dict[str, str]]:
        """The modules that would have come from elsewhere, with both files."""
        self.look()
        paths = list(dict.fromkeys(self._seen))
        found = (_elsewhere(name, paths) for name in sorted(_learned) if "." not in name)
        return [shadowed for shadowed in found if shadowed is not None]


def _elsewhere(name: str, paths: List[Tuple[str, ...]]) -> Optional[Dict[str, str]]:
    loaded = _file_of(sys.modules.get(name))
    if loaded is None:
        return None
    for path in paths:
        found = _find(name, path)
        if found is not None and not _same_file(found, loaded):
            return {"name": name, "loaded": loaded, "found": found}
    return None


def _find(name: str, path: Tuple[str, ...]) -> Optional[str]:
    import importlib.machinery

    try:
        spec = importlib.machinery.PathFinder.find_spec(name, list(path))
    except BaseException:
        return None
    # A folder without __init__ has no origin, and goes behind all others.
    return spec.origin if spec is not None and isinstance(spec.origin, str) else None


def _file_of(module: Any) -> Optional[str]:
    try:
        file = vars(module).get("__file__")
    except BaseException:
        return None
    return file if isinstance(file, str) else None


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.abspath(one) == os.path.abspath(other)
