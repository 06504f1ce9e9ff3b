"""Imports that take place where they are written, though others may be put off (PEP 810).

With ``PYTHON_LAZY_IMPORTS=all`` a module is imported when something of it is used. That is too late
for ours, which are out of reach once a worker is ready, and for what must be there before a hook.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional


class EagerImports:
    """A context in which only those imports are lazy that say so themselves."""

    def __enter__(self) -> None:
        # Python 3.15.
        get_mode: Any = getattr(sys, "get_lazy_imports", None)
        self._mode: Optional[str] = None if get_mode is None else get_mode()
        self._set("normal")

    def __exit__(self, *error: object) -> None:
        self._set(self._mode)

    def _set(self, mode: Optional[str]) -> None:
        if self._mode is not None:
            sys.set_lazy_imports(mode)  # type: ignore[attr-defined]
