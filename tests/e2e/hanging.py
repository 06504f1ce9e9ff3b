"""Files whose opening blocks, as on an unresponsive network mount; by fanotify(7), as root."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

FAN_CLASS_CONTENT = 0x4
FAN_CLOEXEC = 0x1
FAN_NONBLOCK = 0x2
FAN_MARK_ADD = 0x1
FAN_OPEN_PERM = 0x10000
AT_FDCWD = -100

_libc = ctypes.CDLL(None, use_errno=True)


class UnavailableError(Exception):
    """The system does not allow it."""


class HangingFiles:
    """Blocks every process that opens one of these files, until this is closed."""

    def __init__(self, *paths: Path) -> None:
        flags = FAN_CLASS_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK
        # Only the C library of Linux has it.
        if not hasattr(_libc, "fanotify_init"):
            raise UnavailableError("fanotify is not available")
        self._descriptor = _checked(_libc.fanotify_init(flags, os.O_RDONLY | os.O_CLOEXEC))
        for path in paths:
            mask = ctypes.c_uint64(FAN_OPEN_PERM)
            mark = (self._descriptor, FAN_MARK_ADD, mask, AT_FDCWD, os.fsencode(path))
            try:
                _checked(_libc.fanotify_mark(*mark))
            except UnavailableError:
                self.close()
                raise

    def close(self) -> None:
        """Release all waiting processes."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _checked(result: int) -> int:
    if result < 0:
        raise UnavailableError(os.strerror(ctypes.get_errno()))
    return result
