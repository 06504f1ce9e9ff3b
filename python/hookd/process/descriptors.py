"""Descriptors: the standard ones, hidden ones, and waiting for them."""

from __future__ import annotations

import os
import select
import sys
from _socket import (
    AF_UNIX,
    CMSG_SPACE,
    MSG_DONTWAIT,
    SCM_RIGHTS,
    SOCK_DGRAM,
    SOL_SOCKET,
    socketpair,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from types import TracebackType
    from typing import Optional, Sequence, Set, TextIO, Tuple, Type

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


# The size of a C int.
INT = 4

# A hook may put something else in their place.
_open, _dup2, _close = os.open, os.dup2, os.close


class HiddenDescriptor:
    """While this is entered, the open file is in a message that nobody has received: unix(7).

    Its number leads to the null device. Who writes to each descriptor that there is sends further
    messages, which nobody reads; who wants to can receive ours.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._sockets: Optional[Tuple[socket, socket]] = None

    def __enter__(self) -> None:
        try:
            # Each message is apart, so that ours stays whole.
            sockets = socketpair(AF_UNIX, SOCK_DGRAM)
        except OSError:
            # No more descriptors: then it stays where it is.
            return
        rights = self._descriptor.to_bytes(INT, sys.byteorder)
        sockets[0].sendmsg([b"."], [(SOL_SOCKET, SCM_RIGHTS, rights)])
        self._sockets = sockets
        null = _open(os.devnull, os.O_WRONLY)
        _dup2(null, self._descriptor, inheritable=False)
        _close(null)

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        if self._sockets is None:
            return
        sockets, self._sockets = self._sockets, None
        try:
            ancillary = sockets[1].recvmsg(1, CMSG_SPACE(INT), MSG_DONTWAIT)[1]
            (number,) = [int.from_bytes(rights[:INT], sys.byteorder) for _, _, rights in ancillary]
            _dup2(number, self._descriptor, inheritable=False)
            _close(number)
        finally:
            for end in sockets:
                end.close()


# poll() on macOS does not work on terminals, where a bare hookd may be tried out. Elsewhere
# select() would fail on descriptors above 1023, which a careless caller's leaks can lead to.
HAS_POLL = hasattr(select, "poll") and sys.platform != "darwin"


def wait_readable(readable: Sequence[int], hung_up: Sequence[int] = ()) -> Set[int]:
    """Block until one of `readable` can be read or has ended, or one of `hung_up` has no writer
    left, even if what was written is still unread. Which ones, is returned.

    Without poll() the latter cannot be told, and is not waited for.
    """
    if not HAS_POLL:
        return set(select.select(list(readable), (), ())[0])
    poll = select.poll()
    for descriptor in hung_up:
        poll.register(descriptor, 0)
    for descriptor in readable:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll()}
