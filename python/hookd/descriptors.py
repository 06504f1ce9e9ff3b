"""Taking the protocol off the standard descriptors, so that nothing can disturb it there."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, TextIO


# As they are before any hook: one that runs in this process may replace them.
_close, _dup2, _fstat, _open = os.close, os.dup2, os.fstat, os.open


class Descriptors:
    """Private, close-on-exec descriptors of the worker, all above 2."""

    __slots__ = ("input", "log", "output")

    def __init__(self, input_descriptor: int, output: int, log: int) -> None:
        self.input = input_descriptor
        self.output = output
        self.log = log

    def close(self) -> None:
        """For the hook process, which must hold none of them."""
        os.close(self.input)
        os.close(self.output)
        os.close(self.log)


def take_over_standard_descriptors() -> Descriptors:
    """Duplicate 0, 1 and 2 for the worker's own use, and point them at the null device.

    Whatever a backend, its subprocesses or an extension module in C reads or writes there from
    now on, is not the protocol's.
    """
    # Started with one of them closed, we would get our private duplicates at its number.
    open_missing()
    descriptors = Descriptors(os.dup(0), os.dup(1), os.dup(2))
    point_at_null_device(os.O_RDONLY, 0)
    point_at_null_device(os.O_WRONLY, 1, 2)
    # What sitecustomize or a .pth file printed may still lie in these buffers: only now may it
    # come out.
    flush_standard_streams()
    return descriptors


def open_missing() -> None:
    """Open those standard descriptors that are closed, of the null device."""
    for descriptor in (0, 1, 2):
        try:
            _fstat(descriptor)
        except OSError:
            # The lowest free number, so this one; inheritable, as the others are.
            os.set_inheritable(_open(os.devnull, os.O_RDWR), True)


def point_at_null_device(flags: int, *descriptors: int) -> None:
    """Make `descriptors` inheritable ones of the null device."""
    null = _open(os.devnull, flags)
    for descriptor in descriptors:
        _dup2(null, descriptor)
    _close(null)


def flush_standard_streams() -> None:
    """Flush what Python prints to, and what it printed to before user code replaced that."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        flush(stream)


def flush(stream: Optional[TextIO]) -> None:
    """Flush a standard stream, which user code may have replaced by anything."""
    try:
        if stream is not None:
            stream.flush()
    except BaseException:
        # Nothing can be done about it, and nobody is to be told.
        pass


def log(descriptor: int, text: str) -> None:
    """Write a line to the worker's log, if there is still somebody who reads it."""
    line = "hookd[{}]: {}\n".format(os.getpid(), text)
    try:
        os.write(descriptor, line.encode("utf-8", "backslashreplace"))
    except OSError:
        pass
