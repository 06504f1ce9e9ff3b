"""A disk that is full when it is told to be."""

from __future__ import annotations

import ctypes
import errno
import os
import time
from pathlib import Path

CLONE_NEWNS = 0x20000
MS_REC_PRIVATE = 0x4000 | 0x40000
MNT_DETACH = 2
SIZE = 48 << 20
BLOCK = bytes(1 << 20)


def small_disk(folder: Path, size: int = SIZE) -> SmallDisk | None:
    """A disk for what is written; none where one may not mount."""
    try:
        return SmallDisk(folder, size)
    except OSError as error:
        print(f"no disk will be full: cannot mount one: {error.strerror}")
        return None


class SmallDisk:
    """A tmpfs that nobody else sees, and that is gone with this process and its children."""

    def __init__(self, folder: Path, size: int) -> None:
        """Raises OSError where one may not mount."""
        self._fill = folder / "fill"
        self.is_full = False
        self._folder = os.fsencode(folder)
        self._libc = ctypes.CDLL(None, use_errno=True)
        options = f"size={size},mode=0700".encode()
        _check(self._libc.unshare(CLONE_NEWNS))
        _check(self._libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None))
        _check(self._libc.mount(b"none", self._folder, b"tmpfs", 0, options))

    def close(self) -> None:
        """Take it away."""
        _check(self._libc.umount2(self._folder, MNT_DETACH))
        # Detached, it is there until the last of the processes that used it is gone.
        deadline = time.monotonic() + 10
        while True:
            try:
                os.rmdir(self._folder)
                return
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def fill(self, left: int = 0) -> None:
        """From now on no more than so many bytes can be written."""
        self.is_full = True
        with self._fill.open("wb", buffering=0) as file:
            try:
                while True:
                    # The last one is written in part, and the next fails.
                    file.write(BLOCK)
            except OSError:
                pass
            file.truncate(max(0, file.tell() - left))

    def clear(self) -> None:
        """There is room again."""
        self._fill.unlink(missing_ok=True)
        self.is_full = False


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
