"""Finds preloaded modules that a hook's own ``sys.path`` would have led elsewhere for."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Set, Tuple

_learned: Set[str] = set()
"""Names of the learned modules that the template has imported."""


def note_learned(names: List[str]) -> None:
    """Remember, in a template, that these modules would not be loaded in a fresh process."""
    _learned.update(names)


class PathWatch:
    """Records the values of ``sys.path``, until the end of a hook process."""

    def __init__(self) -> None:
        self._seen: List[Tuple[str, ...]] = []
        self.look()
        # Python 3.8. Hooks may change sys.path for a short time only. An audit event comes whenever
        # a file is opened, or code is compiled or run.
        add_audit_hook = getattr(sys, "addaudithook", None)
        if add_audit_hook is not None and _learned:
            add_audit_hook(self._on_event)

    def _on_event(self, event: str, arguments: object) -> None:
        self.look()

    def look(self) -> None:
        """Record the current value."""
        try:
            # A tuple of plain strings, whatever a hook has put there.
            path = tuple(str.__str__(entry) for entry in sys.path if isinstance(entry, str))
        except BaseException:
            # A hook may have replaced it by anything.
            return
        if not self._seen or self._seen[-1] != path:
            self._seen.append(path)

    def shadowed(self) -> List[Dict[str, str]]:
        """The modules that would have come from another file, with both files."""
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
    # A namespace package has no origin, and any other module comes before it.
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
