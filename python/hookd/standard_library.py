"""Which files are the standard library's."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List


class StandardLibrary:
    """Knows its folders, as they were when this was made."""

    def __init__(self) -> None:
        self._folders = _folders()
        self._known: Dict[str, bool] = {}

    def holds(self, file: str) -> bool:
        """Whether this absolute path is in it, and not among the packages that were installed."""
        known = self._known.get(file)
        if known is None:
            known = self._known[file] = self._holds(file)
        return known

    def _holds(self, file: str) -> bool:
        for folder in self._folders:
            if file.startswith(folder):
                inner = file[len(folder) :]
                return not inner.startswith(("site-packages" + os.sep, "dist-packages" + os.sep))
        return False


def _folders() -> List[str]:
    folders = [os.path.dirname(os.__file__)]
    # Some systems have the modules in C elsewhere.
    folders += [
        entry for entry in sys.path if os.path.basename(entry.rstrip(os.sep)) == "lib-dynload"
    ]
    return [os.path.join(os.path.abspath(folder), "") for folder in folders]
