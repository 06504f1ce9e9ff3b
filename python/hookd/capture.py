"""The files that take what a hook prints."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

# Appending, so that a program that opens /dev/stdout anew does not write over what is there.
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


class Capture:
    """Two new files, and descriptors to write them. The caller of the worker deletes them."""

    __slots__ = ("error", "error_path", "output", "output_path")

    def __init__(self, folder: str) -> None:
        # Not the pid: it may come again, while the files of its former owner are still there.
        base = os.path.join(folder, "hookd-" + os.urandom(16).hex())
        self.output_path = base + ".stdout"
        self.error_path = base + ".stderr"
        self.output = os.open(self.output_path, FLAGS, 0o600)
        try:
            self.error = os.open(self.error_path, FLAGS, 0o600)
        except BaseException:
            os.close(self.output)
            os.unlink(self.output_path)
            raise

    def put_in_place(self) -> None:
        """Make descriptors 1 and 2 of this process write to the files."""
        os.dup2(self.output, 1)
        os.dup2(self.error, 2)

    def close(self) -> None:
        """Close our descriptors; 1 and 2 are left alone."""
        os.close(self.output)
        os.close(self.error)

    def discard(self) -> None:
        """Close, and delete the files: nobody was told about them."""
        self.close()
        for path in (self.output_path, self.error_path):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass


def open_capture(folder: Optional[str]) -> Capture:
    """Make new capture files in `folder`, by default the platform's temporary folder.

    A folder that is gone is made anew, once, if the one that it was in is still there.
    """
    place = folder or temporary_folder()
    try:
        try:
            return Capture(place)
        except FileNotFoundError:
            # Something that tidies up took it. The platform's own folder is not ours to make.
            if not folder:
                raise
        os.mkdir(place, 0o700)
        return Capture(place)
    except OSError as error:
        message = "files for the hook's output cannot be made in {!r}: {}"
        raise OSError(error.errno, message.format(place, error.strerror)) from error


def temporary_folder() -> str:
    """Like `tempfile.gettempdir`, whose import would cost more than a hook may take."""
    candidates = [os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP")]
    candidates += ["/tmp", "/var/tmp", "/usr/tmp"]
    for folder in candidates:
        if folder and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return os.path.abspath(folder)
    # Whatever comes of it is told by name.
    return "/tmp"
