"""Whether a module prints when it is imported: hooks would miss that if it was preloaded."""

from __future__ import annotations

import os

from hookd import libc
from hookd.capture import temporary_folder
from hookd.descriptors import flush_standard_streams


class OutputCheck:
    """A nameless file that takes what is written to descriptors 1 and 2."""

    def __init__(self) -> None:
        self._descriptor = _nameless_file()

    def put_in_place(self) -> None:
        """Make descriptors 1 and 2 write to it."""
        os.dup2(self._descriptor, 1)
        os.dup2(self._descriptor, 2)

    def written(self) -> int:
        """How many bytes were written so far, what lay in buffers included."""
        flush_standard_streams()
        try:
            libc.flush_stdio()
        except libc.NotAvailable:
            # The template has said so already.
            pass
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """For a forked worker, whose descriptors 1 and 2 become others."""
        os.close(self._descriptor)


def _nameless_file() -> int:
    create = getattr(os, "memfd_create", None)
    if create is not None:
        try:
            return int(create("hookd-output"))
        except OSError:
            # Forbidden by a sandbox.
            pass
    path = os.path.join(temporary_folder(), "hookd-" + os.urandom(16).hex() + ".output")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.unlink(path)
    return descriptor
