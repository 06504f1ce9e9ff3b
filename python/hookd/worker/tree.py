"""The source tree that a worker serves: its folder, and what tells hooks whose they are."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

# Device and inode of each tree, the outermost first. Read by the supervisor.
WITHIN = "HOOKPOOL_WITHIN"


class ServedTree:
    """The tree that a worker serves. It may come to serve another (the action `tree`)."""

    def __init__(self, path: str, hand_down: bool) -> None:
        self.path = path
        """Absolute."""
        self._hand_down = hand_down
        """Whether hooks are told of it, as they are for a supervisor (--control)."""
        self._outer: Optional[str] = os.environ.get(WITHIN)
        self._entered = False

    def change(self, path: str) -> None:
        """Serve the tree at this path, which is relative to the one before, from now on."""
        self.path = os.path.join(self.path, path)
        self._entered = False

    def enter(self) -> None:
        """Change to the tree's folder, unless we are there. Raises `OSError`."""
        if self._entered:
            return
        os.chdir(self.path)
        multiprocessing: Any = sys.modules.get("multiprocessing.process")
        if multiprocessing is not None:
            # The only module of the standard library that stores the current folder when imported.
            multiprocessing.ORIGINAL_DIR = os.getcwd()
        if self._hand_down:
            self._hand_down_tree()
        self._entered = True

    def _hand_down_tree(self) -> None:
        """Let a hookpool that a hook starts know which trees' hooks wait for it."""
        status = os.stat(os.curdir)
        tree = "{}:{}".format(status.st_dev, status.st_ino)
        os.environ[WITHIN] = "{} {}".format(self._outer, tree) if self._outer else tree
