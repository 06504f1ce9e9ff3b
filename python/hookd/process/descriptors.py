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

# Taken before a hook that runs in this process can replace them.
_close, _dup2, _fstat, _open = os.close, os.dup2, os.fstat, os.open


class Descriptors:
    """The worker's private, close-on-exec descriptors, all above 2."""

    __slots__ = ("input", "log", "output")

    def __init__(self, input_descriptor: int, output: int, log: int) -> None:
        self.input = input_descriptor
        self.output = output
        self.log = log

    def close(self) -> None:
        """Close them, in the hook process."""
        os.close(self.input)
        os.close(self.output)
        os.close(self.log)


def take_over_standard_descriptors() -> Descriptors:
    """Duplicate 0, 1 and 2 for the worker, and make them the null device.

    So nothing that a backend, its subprocesses or C code read or write there can disturb the
    protocol.
    """
    # If one of them were closed, a private duplicate would get its number.
    open_missing()
    descriptors = Descriptors(os.dup(0), os.dup(1), os.dup(2))
    point_at_null_device(os.O_RDONLY, 0)
    point_at_null_device(os.O_WRONLY, 1, 2)
    # What sitecustomize or a .pth file printed may still be in these buffers. It must not get into
    # the protocol.
    flush_standard_streams()
    return descriptors


def open_missing() -> None:
    """Open the standard descriptors that are closed, as the null device."""
    for descriptor in (0, 1, 2):
        try:
            _fstat(descriptor)
        except OSError:
            # open() returns the lowest free number, which is this one.
            os.set_inheritable(_open(os.devnull, os.O_RDWR), True)


def point_at_null_device(flags: int, *descriptors: int) -> None:
    """Make these descriptors the null device, inheritable."""
    null = _open(os.devnull, flags)
    for descriptor in descriptors:
        _dup2(null, descriptor)
    _close(null)


def flush_standard_streams() -> None:
    """Flush the standard streams, and the original ones if user code has replaced them."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        flush(stream)


def flush(stream: Optional[TextIO]) -> None:
    """Flush a standard stream, which user code may have replaced by anything."""
    try:
        if stream is not None:
            stream.flush()
    except BaseException:
        # Nothing can be done about it.
        pass


def log(descriptor: int, text: str) -> None:
    """Write a line to the worker's log, if it is still read."""
    line = "hookd[{}]: {}\n".format(os.getpid(), text)
    try:
        os.write(descriptor, line.encode("utf-8", "backslashreplace"))
    except OSError:
        pass


# The size of a C int.
INT = 4

_open, _dup2, _close = os.open, os.dup2, os.close


class HiddenDescriptor:
    """A context in which the open file is held only by a message in a socket: unix(7).

    Its number is the null device meanwhile. Code that writes to every open descriptor then sends
    further messages, which nobody reads. Code that means harm could receive ours.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._sockets: Optional[Tuple[socket, socket]] = None

    def __enter__(self) -> None:
        try:
            # Datagrams, so that other messages cannot mix with ours.
            sockets = socketpair(AF_UNIX, SOCK_DGRAM)
        except OSError:
            # There are no more descriptors: it is not hidden.
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


# On macOS poll() does not work on terminals, where somebody may try a bare hookd. Elsewhere
# select() would fail on descriptors above 1023, which we get if the caller leaks descriptors.
HAS_POLL = hasattr(select, "poll") and sys.platform != "darwin"


def wait_readable(readable: Sequence[int], hung_up: Sequence[int] = ()) -> Set[int]:
    """Block until one of `readable` can be read or has ended, or one of `hung_up` has no writer
    left, even if there is unread data. Returns these descriptors.

    Without poll(), `hung_up` is ignored.
    """
    if not HAS_POLL:
        return set(select.select(list(readable), (), ())[0])
    poll = select.poll()
    for descriptor in hung_up:
        poll.register(descriptor, 0)
    for descriptor in readable:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll()}
