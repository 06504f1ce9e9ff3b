"""A disk that can be filled."""

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
    """A disk for the files of the program; None if mounting is not permitted."""
    try:
        return SmallDisk(folder, size)
    except OSError as error:
        print(f"no disk will be full: cannot mount one: {error.strerror}")
        return None


class SmallDisk:
    """A private tmpfs, which ends with this process and its children."""

    def __init__(self, folder: Path, size: int) -> None:
        """Mount it. Raises OSError if mounting is not permitted."""
        self._fill = folder / "fill"
        self.is_full = False
        self._folder = os.fsencode(folder)
        self._libc = ctypes.CDLL(None, use_errno=True)
        options = f"size={size},mode=0700".encode()
        _check(self._libc.unshare(CLONE_NEWNS))
        _check(self._libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None))
        _check(self._libc.mount(b"none", self._folder, b"tmpfs", 0, options))

    def close(self) -> None:
        """Unmount it."""
        _check(self._libc.umount2(self._folder, MNT_DETACH))
        # After a lazy unmount it lives until the last process that uses it has ended.
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
        """Fill the disk up to this many bytes."""
        self.is_full = True
        with self._fill.open("wb", buffering=0) as file:
            try:
                while True:
                    # The last write is partial, and the next one fails.
                    file.write(BLOCK)
            except OSError:
                pass
            file.truncate(max(0, file.tell() - left))

    def clear(self) -> None:
        """Empty the disk again."""
        self._fill.unlink(missing_ok=True)
        self.is_full = False


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
