"""One of the files that take what a hook prints, and whether the next hook can have it."""

from __future__ import annotations

import os
import signal
import stat

from hookd import bound

# As they are before any hook: one that runs in this process may replace them.
_close, _fstat, _lstat, _open = os.close, os.fstat, os.lstat, os.open

# Appending, so that a program that opens /dev/stdout anew does not write over what is there.
FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC


class CaptureFile:
    """A file that is open for writing, or was."""

    __slots__ = ("_identity", "descriptor", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = _open(path, FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        status = _fstat(self.descriptor)
        self._identity = (status.st_dev, status.st_ino)

    def close(self) -> None:
        """Close it, if it is open. It stays where it is."""
        if self.descriptor >= 0:
            _close(self.descriptor)
            self.descriptor = -1

    def is_ready(self) -> bool:
        """Whether it is open, and still where it was and as it was made."""
        return self.descriptor >= 0 and self.is_unwritten()

    def is_unwritten(self) -> bool:
        """Whether it is still where it was and as it was made."""
        try:
            return self._is_as_made(_lstat(self.path))
        except OSError:
            return False

    def open_again(self) -> bool:
        """Open a file that was closed, if it is as it was made: whether it is.

        One that is open, because the last request had no use for it, stays so. As it was made:
        that is, it still is where it was, nothing was written, and nobody else has it open: not a
        process that the last hook has left behind, not who reads it. They would see what the next
        hook writes, or write among it.
        """
        if self.descriptor >= 0:
            return self.is_ready()
        try:
            # Before it is opened: a hook may have put a link or a named pipe in its place.
            if not self._is_as_made(_lstat(self.path)):
                return False
            self.descriptor = _open(self.path, FLAGS | os.O_NONBLOCK)
            if self._is_as_made(_fstat(self.descriptor)):
                _check_ours_alone(self.descriptor)
                return True
        except Exception:
            # It is not there any more, there are no leases here, or a hook has replaced `fcntl`.
            pass
        self.close()
        return False

    def _is_as_made(self, status: os.stat_result) -> bool:
        return (
            (status.st_dev, status.st_ino) == self._identity
            and status.st_size == 0
            and status.st_nlink == 1
            and status.st_mode == stat.S_IFREG | 0o600
        )


def _check_ours_alone(descriptor: int) -> None:
    """Raise if the file is open anywhere else, by whatever way that was come by.

    Only if it is not does the system grant a lease for writing: fcntl(2), "Leases". It counts each
    opening once, however many processes have inherited it; ours is a new one.
    """
    fcntl = bound.fcntl
    # Who opens it before the lease is given back would have a signal sent to us, SIGIO, which ends
    # a process. This one does nothing.
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    # Not waiting was for the case that it is a named pipe by now.
    fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)
