"""Keeps modules out of a trial that were found to do harm, and finds out who asks for them.

So a trial goes on after a module that needs one of them, and one that needs that module is known
without being tried.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

    from hookd.callers import Callers

    # `reason`, for people to read, and `lasting`.
    Blame = Dict[str, Any]


class NotAdmitted(BaseException):
    """Raised by the import of a module that is kept out. No ImportError, as modules expect those
    and do something else then, which would be found harmless.
    """


class Gate:
    """A finder for the front of ``sys.meta_path``."""

    def __init__(self, blames: Dict[str, Blame], callers: Callers) -> None:
        self.blames = blames
        """Why which modules are kept out."""
        self._callers = callers
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
        """A module is about to be imported."""
        self._asked_for = None
        sys.meta_path.insert(0, self)

    def close(self) -> Optional[str]:
        """It is done. Returns the name of what was kept out, if anything was asked for."""
        # By identity: others may compare as they like. Only once: what a module did with it shows.
        for position, finder in enumerate(sys.meta_path):
            if finder is self:
                del sys.meta_path[position]
                break
        return self._asked_for

    def passed_by(self, imported: List[Dict[str, Any]]) -> List[str]:
        """What is wrong if a module was imported in spite of all, for people to read."""
        names = [module["name"] for module in imported if module["name"] in self.blames]
        return ["it imported {}, which is refused".format(name) for name in names]

    def blame(self, text: str, modules: List[str]) -> None:
        """Keep out the first of these, for this reason, and the others, which import it."""
        self.blames.setdefault(modules[0], {"reason": text, "lasting": True})
        for name in modules[1:]:
            self.blames.setdefault(name, because_of(modules[0], self.blames[modules[0]]))

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Called by the import system."""
        blame = self.blames.get(name)
        if blame is None:
            return
        self._asked_for = self._asked_for or name
        for importer in self._callers.bodies(sys._getframe(1)):
            self.blames.setdefault(importer, because_of(name, blame))
        raise NotAdmitted("{!r} is kept out".format(name))


def because_of(name: str, blame: Blame, how: str = "it imports") -> Blame:
    """Why a module is kept out that needs another one that is."""
    reason = blame["reason"]
    if not reason.startswith("it imports "):
        reason = "{} {}, which is refused: {}".format(how, name, reason)
    return dict(blame, reason=reason)
