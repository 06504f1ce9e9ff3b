"""Keeps modules out of a trial that were found to do harm, and finds out who asks for them.

So a trial goes on after a module that needs one of them, and one that needs that module is known
without being tried.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, Callable, Dict, Iterator, List, Optional

    # `reason`, for people to read, and `lasting`.
    Blame = Dict[str, Any]


class NotAdmitted(BaseException):
    """Raised by the import of a module that is kept out. No ImportError, as modules expect those
    and do something else then, which would be found harmless.
    """


class Gate:
    """A finder for the front of ``sys.meta_path``."""

    def __init__(self, blames: Dict[str, Blame], is_judged: Callable[[FrameType], bool]) -> None:
        self.blames = blames
        """Why which modules are kept out."""
        self._is_judged = is_judged
        self._outermost: Optional[FrameType] = None
        self._asked_for: Optional[str] = None

    def blame_of(self, name: str) -> Optional[Blame]:
        """Why this module is kept out, if it is."""
        blame = self.blames.get(name)
        package = name.rpartition(".")[0]
        while blame is None and package:
            blame = self.blames.get(package)
            if blame is not None:
                blame = because_of(package, blame, "its package is")
            package = package.rpartition(".")[0]
        return blame

    def open(self) -> None:
        """The caller is about to import a module."""
        self._asked_for = None
        self._outermost = sys._getframe(1)
        sys.meta_path.insert(0, self)

    def close(self) -> Optional[str]:
        """It is done. Returns the name of what was kept out, if anything was asked for."""
        # By identity: others may compare as they like. Only once: what a module did with it shows.
        for position, finder in enumerate(sys.meta_path):
            if finder is self:
                del sys.meta_path[position]
                break
        self._outermost = None
        return self._asked_for

    def passed_by(self, imported: List[Dict[str, Any]]) -> List[str]:
        """What is wrong if a module was imported in spite of all, for people to read."""
        names = [module["name"] for module in imported if module["name"] in self.blames]
        return ["it imported {}, which is refused".format(name) for name in names]

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Called by the import system."""
        blame = self.blames.get(name)
        if blame is None:
            return
        self._asked_for = self._asked_for or name
        for importer in self.importers(sys._getframe(1)):
            self.blames.setdefault(importer, because_of(name, blame))
        raise NotAdmitted("{!r} is kept out".format(name))

    def importers(self, frame: Optional[FrameType]) -> Iterator[str]:
        """The modules whose import is under way, the innermost first: those to be judged."""
        while frame is not None and frame is not self._outermost:
            if frame.f_code.co_name == "<module>" and self._is_judged(frame):
                name = frame.f_globals.get("__name__")
                if type(name) is str:
                    yield name
            frame = frame.f_back


def because_of(name: str, blame: Blame, how: str = "it imports") -> Blame:
    """Why a module is kept out that needs another one that is."""
    reason = blame["reason"]
    if not reason.startswith("it imports "):
        reason = "{} {}, which is refused: {}".format(how, name, reason)
    return dict(blame, reason=reason)
