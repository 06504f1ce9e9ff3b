"""Imports that are judged as one: the process is looked at before the first and after the last."""

from __future__ import annotations

import os
import sys

from hookd.imports import imported_since
from hookd.loaded_files import LoadedFiles
from hookd.preload_check import MOST_MEMORY, try_import
from hookd.process_state import resident_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

    from hookd.observation import Observation
    from hookd.preload_check import PreloadCheck


LOOK_AT_MEMORY_AFTER = 16
"""So many modules."""


class ImportBatch:
    """The modules, and what came of them. A batch ends with the first failure."""

    def __init__(self, check: PreloadCheck) -> None:
        self.done: List[str] = []
        """Those that are there."""
        self.loaded = LoadedFiles()
        """What came with them."""
        self.failures: List[str] = []
        """Why the last of them could not be imported, if it could not."""
        self.last = ""
        self._check = check
        self._owner = os.getpid()
        self._new: List[str] = []
        self._described: List[Dict[str, Any]] = []
        self._left: List[Dict[str, Any]] = []

    @property
    def imported(self) -> List[str]:
        """The names of all modules that are new."""
        return [module["name"] for module in self._described]

    def is_over(self) -> bool:
        """Whether no other module is to be added."""
        if self.failures:
            return True
        # Not after each: that would cost more than many an import.
        return len(self.done) % LOOK_AT_MEMORY_AFTER == 0 and resident_bytes() > MOST_MEMORY

    def add(self, name: str, observation: Optional[Observation] = None) -> None:
        """Import a module, unless it is there already."""
        if name in sys.modules:
            self.done.append(name)
            return
        if not self._new:
            self._check.before(strict=False)
        self._new.append(name)
        self.last = name
        loaded = set(sys.modules)
        failure = try_import(name) if observation is None else _observed(name, observation)
        if os.getpid() != self._owner:
            # The module has forked, and this is the copy.
            os._exit(0)
        # Not only at the end of the batch: until then a file may be replaced by another.
        imported = imported_since(loaded)
        if failure is None:
            self._described += imported
            self.done.append(name)
            self.loaded.add(imported)
        else:
            self.failures.append(failure)
            self._left = imported

    def end(self) -> List[str]:
        """What speaks against these imports, for people to read."""
        if not self._new:
            return []
        return self._check.after(self.last, self._described + self._left, self._left)

    def suspects(self) -> List[str]:
        """Those of which one has done what `end` tells of."""
        return self._new


def _observed(name: str, observation: Observation) -> Optional[str]:
    observation.start()
    try:
        return try_import(name)
    finally:
        # The backend may have others see its calls from then on.
        observation.stop()
