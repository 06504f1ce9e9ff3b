"""The files that take what a hook prints."""

from __future__ import annotations

import os
import signal
import stat

from hookd import retained

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Tuple


class Capture:
    """Two files, open for writing. The caller of the worker deletes them."""

    __slots__ = ("_error", "_output")

    def __init__(self, output: CaptureFile, error: CaptureFile) -> None:
        self._output, self._error = output, error

    @property
    def paths(self) -> Tuple[str, str]:
        """Where standard output and standard error go."""
        return self._output.path, self._error.path

    def open_again(self) -> None:
        """Open files that were closed, if both are as good as new."""
        if not (self._output.open_again() and self._error.open_again()):
            self.close()

    def is_ready(self) -> bool:
        """Whether both are open, and as they were made."""
        return self._output.is_ready() and self._error.is_ready()

    def is_silent(self) -> bool:
        """Whether nothing was written to either, and both are still where they were."""
        return self._output.is_unwritten() and self._error.is_unwritten()

    def put_in_place(self) -> None:
        """Make descriptors 1 and 2 of this process write to the files."""
        os.dup2(self._output.descriptor, 1)
        os.dup2(self._error.descriptor, 2)

    def close(self) -> None:
        """Close our descriptors; 1 and 2 are left alone."""
        self._output.close()
        self._error.close()

    def discard(self) -> None:
        """Close, and delete the files: nobody was told about them."""
        self.close()
        for path in self.paths:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass


class Captures:
    """Makes capture files, for one hook after the other."""

    def __init__(self, folder: Optional[str], reuse: bool) -> None:
        self._folder = folder
        self._reuse = reuse
        self._last: Optional[Capture] = None

    def prepare(self) -> None:
        """Open those of the last hook again, if that was asked for and they are as good as new.

        Called when no request waits.
        """
        if self._last is not None:
            self._last.open_again()

    def open(self) -> Capture:
        """The files for a hook, in the folder, by default the platform's temporary one.

        They are those of the last hook, if prepared, or new ones. If the folder is gone, it is made
        again, if its parent is still there.
        """
        if self._last is not None:
            if self._last.is_ready():
                return self._last
            self._last.close()
        capture = self._make()
        self._last = capture if self._reuse else None
        return capture

    def _make(self) -> Capture:
        place = self._folder or temporary_folder()
        try:
            try:
                return _make_in(place)
            except FileNotFoundError:
                # It was removed by some cleaning program. We do not make the platform's.
                if not self._folder:
                    raise
            os.mkdir(place, 0o700)
            return _make_in(place)
        except OSError as error:
            message = "files for the hook's output cannot be made in {!r}: {}"
            raise OSError(error.errno, message.format(place, error.strerror)) from error


def _make_in(folder: str) -> Capture:
    # Not the pid, which may be used again while files of an earlier process are still there.
    base = os.path.join(folder, "hookd-" + os.urandom(16).hex())
    output = CaptureFile(base + ".stdout")
    try:
        return Capture(output, CaptureFile(base + ".stderr"))
    except BaseException:
        output.close()
        os.unlink(output.path)
        raise


def temporary_folder() -> str:
    """Like `tempfile.gettempdir`, whose import would cost more than a hook may take."""
    candidates = [os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP")]
    candidates += ["/tmp", "/var/tmp", "/usr/tmp"]
    for folder in candidates:
        if folder and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return os.path.abspath(folder)
    # If that fails, the error names it.
    return "/tmp"


# Taken before a hook that runs in this process can replace them.
_close, _fstat, _lstat, _open = os.close, os.fstat, os.lstat, os.open

# Appending, so that a program that opens /dev/stdout again does not overwrite what is there.
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
        """Close it, if it is open. The file is not removed."""
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
        """Open a file that was closed, if it can be used again. Returns whether it is open.

        It can if it is still where it was, nothing was written to it, and no other process has it
        open. A process that the last hook left behind could otherwise write among the next hook's
        output, and a reader would see that.
        """
        if self.descriptor >= 0:
            return self.is_ready()
        try:
            # Before it is opened: a hook may have replaced it by a link or a named pipe.
            if not self._is_as_made(_lstat(self.path)):
                return False
            self.descriptor = _open(self.path, FLAGS | os.O_NONBLOCK)
            if self._is_as_made(_fstat(self.descriptor)):
                _check_ours_alone(self.descriptor)
                return True
        except Exception:
            # It is gone, the file system has no leases, or a hook has replaced `fcntl`.
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
    """Raise an exception if the file is open anywhere else.

    The system grants a write lease only for a file that nobody else has open: fcntl(2), "Leases".
    """
    fcntl = retained.fcntl
    # If another process opens the file while we have the lease, we get a signal: by default SIGIO,
    # which kills. SIGURG is ignored.
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    # O_NONBLOCK was for the case that it had become a named pipe.
    fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)
