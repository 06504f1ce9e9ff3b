"""Keeps a descriptor away from code that writes to whatever it finds open."""

from __future__ import annotations

import os
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
    from typing import Optional, Tuple, Type

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
