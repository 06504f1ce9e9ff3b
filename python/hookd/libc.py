"""The few calls of the C library that Python does not offer: prctl (Linux) and fflush."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_library: Any = None
"""Kept, so that a hook process inherits it and finds it ready."""


class NotAvailable(Exception):
    """The C library cannot be called; the message says why. All can go on without."""


def load() -> None:
    """Load the C library, once. Raises `NotAvailable`."""
    global _library  # noqa: PLW0603
    if _library is not None:
        return
    try:
        # Not at the top of this file: it is the most costly import of all, and an interpreter
        # may have been built without it.
        import ctypes

        _library = ctypes.CDLL(None, use_errno=True)
    except (ImportError, OSError, TypeError) as error:
        raise NotAvailable("the C library cannot be called: {}".format(error)) from error


def become_subreaper() -> None:
    """Have orphaned descendants become our children, instead of init's (Linux 3.4).

    Children do not inherit this: prctl(2).
    """
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signal_number: int) -> None:
    """Get that signal when the parent *thread* dies; 0 for none. Not inherited by fork."""
    _prctl(PR_SET_PDEATHSIG, signal_number)


def flush_stdio() -> None:
    """Write out what C code has in the buffers of its own open streams."""
    load()
    _library.fflush(None)


def _prctl(option: int, value: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    load()
    import ctypes

    # prctl is variadic and takes unsigned longs: an int would leave half of a register as it was.
    if _library.prctl(option, ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3) != 0:
        number = ctypes.get_errno()
        raise NotAvailable("prctl({}): {}".format(option, os.strerror(number)))
