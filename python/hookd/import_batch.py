"""Imports that are judged as one: the process is looked at before the first and after the last."""

from __future__ import annotations

import os
import sys

from hookd.imports import imported_since
from hookd.preload_check import try_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Set, Tuple

    from hookd.observation import Observation
    from hookd.preload_check import PreloadCheck


class ImportBatch:
    """The modules, and what came of them. A batch ends with the first failure."""

    def __init__(self, check: PreloadCheck) -> None:
        self.names: List[str] = []
        self.failure: Optional[str] = None
        """Why the last of them could not be imported."""
        self._check = check
        self._owner = os.getpid()
        self._loaded: Set[str] = set()
        self._loaded_before_last: Set[str] = set()

    def add(self, name: str, observation: Optional[Observation] = None) -> None:
        """Import a module, unless it is there already."""
        if not self.names:
            self._check.before(strict=False)
            self._loaded = set(sys.modules)
        self.names.append(name)
        if name in sys.modules:
            return
        self._loaded_before_last = set(sys.modules)
        self.failure = try_import(name) if observation is None else _observed(name, observation)
        if os.getpid() != self._owner:
            # The module has forked, and this is the copy.
            os._exit(0)

    def end(self) -> Tuple[List[Dict[str, Any]], List[str]]:
        """The new modules, as `imported_since` describes them, and what speaks against them."""
        imported = imported_since(self._loaded)
        left = [] if self.failure is None else imported_since(self._loaded_before_last)
        return imported, self._check.after(self.names[-1], imported, left)


def _observed(name: str, observation: Observation) -> Optional[str]:
    observation.start()
    try:
        return try_import(name)
    finally:
        # The backend may have others see its calls from then on.
        observation.stop()
