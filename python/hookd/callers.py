"""Which modules' imports a call belongs to, by the frames that it was made from."""

from __future__ import annotations

import sys

from hookd.standard_library import StandardLibrary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Iterator, List, Optional

# The code of the import system itself.
IMPORT_SYSTEM = ("<frozen importlib", "<frozen zipimport")

# Modules of the standard library that start programs to learn what is the same at all times, in all
# folders.
CONSTANT = ("platform", "ctypes.util")


class Callers:
    """Tells the standard library's own doings from those of others."""

    def __init__(self) -> None:
        self._standard = StandardLibrary()
        self._outermost: Optional[FrameType] = None

    def enclose(self) -> None:
        """What is looked at lies within the caller of the caller of this."""
        self._outermost = sys._getframe(2)

    def release(self) -> None:
        """Hold on to no frame."""
        self._outermost = None

    def is_others(self, frame: FrameType) -> bool:
        """Whether this is code of neither the standard library nor the interpreter."""
        file = frame.f_code.co_filename
        return not file.startswith("<") and not self._standard.holds(file)

    def importing(self, frame: Optional[FrameType]) -> List[str]:
        """The modules that are being imported, the innermost first: those of others.

        None if what is done here is the affair of the import system, or of the standard library: of
        the innermost module, if it is of that.
        """
        body = self._body(frame)
        return list(self.bodies(body)) if body is not None and self.is_others(body) else []

    def _body(self, frame: Optional[FrameType]) -> Optional[FrameType]:
        """The innermost module's own code."""
        while frame is not None and frame is not self._outermost:
            file = frame.f_code.co_filename
            if file.startswith(IMPORT_SYSTEM):
                return None
            if frame.f_globals.get("__name__") in CONSTANT and not self.is_others(frame):
                return None
            # Not what a module has passed to exec().
            is_file = not file.startswith("<") or file.startswith("<frozen ")
            if frame.f_code.co_name == "<module>" and is_file:
                return frame
            frame = frame.f_back
        return None

    def bodies(self, frame: Optional[FrameType]) -> Iterator[str]:
        """The names of all modules of others that are being imported, the innermost first."""
        while frame is not None and frame is not self._outermost:
            if frame.f_code.co_name == "<module>" and self.is_others(frame):
                name = frame.f_globals.get("__name__")
                if type(name) is str:
                    yield name
            frame = frame.f_back
