"""The control channel of a template: one JSON object a packet, over a Unix socket."""

from __future__ import annotations

# Not `socket`: a source tree may have a module of that name.
import _socket
import os
import select
import sys

from hookd import retained
from hookd.protocol.channel import encode_json
from hookd.protocol.failures import CallerGone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Optional, Tuple

LONGEST_READ = 256 << 10
LONGEST_SENT = 64 << 10

# In bytes, for what a packet holds beside its lists.
ROOM_FOR_OTHERS = 16 << 10

DESCRIPTOR_SIZE = 4

# A fork needs three. The kernel closes those for which there is no room.
MOST_DESCRIPTORS = 16

# Linux. Python's `socket` would have the same number, under the same name.
MSG_CMSG_CLOEXEC = getattr(_socket, "MSG_CMSG_CLOEXEC", 0x40000000)


class Packet:
    """A JSON object, and the descriptors that came with it."""

    __slots__ = ("descriptors", "problem", "value")

    def __init__(
        self, value: Dict[str, Any], descriptors: List[int], problem: Optional[str] = None
    ) -> None:
        self.value = value
        self.descriptors = descriptors
        self.problem = problem
        """Why the packet is ignored, if it is."""

    def close(self) -> None:
        """Close the descriptors."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []


class ForkChannel:
    """Packets from the supervisor, and to it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        # The kernel knows the kind of socket.
        self._socket = _socket.socket(fileno=descriptor)
        self._socket.setblocking(True)
        self._room = _socket.CMSG_SPACE(MOST_DESCRIPTORS * DESCRIPTOR_SIZE)

    def is_fit(self) -> bool:
        """Whether it is of type SOCK_SEQPACKET."""
        kind = self._socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_TYPE)
        return kind == _socket.SOCK_SEQPACKET

    def receive(self) -> Packet:
        """Take the next packet, or wait for it. Raises `CallerGone` at the end."""
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(
                LONGEST_READ, self._room, MSG_CMSG_CLOEXEC
            )
        except ConnectionError as error:
            raise CallerGone("the socket was reset") from error
        descriptors = _descriptors_in(ancillary)
        if not data and not descriptors:
            raise CallerGone("end of the socket")
        if flags & _socket.MSG_TRUNC:
            return Packet({}, descriptors, "it is longer than {} bytes".format(LONGEST_READ))
        try:
            # Paths may hold bytes that are not UTF-8.
            value = retained.json_loads(data.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError) as error:
            return Packet({}, descriptors, "it is no JSON: {}".format(error))
        if type(value) is not dict:
            return Packet({}, descriptors, "it is no JSON object")
        return Packet(value, descriptors)

    def has_packet(self) -> bool:
        """Whether a packet, or the end, can be received at once."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def send(self, message: Dict[str, Any]) -> None:
        """Send one packet. Raises `CallerGone` when there is nobody to read it."""
        self._send(encode_json(message))

    def _send(self, packet: bytes) -> None:
        try:
            self._socket.send(packet)
        except ConnectionError as error:
            raise CallerGone("nobody reads the socket") from error

    def send_lists(
        self, message: Dict[str, Any], lists: Dict[str, List[Any]], wrapper: Optional[str] = None
    ) -> None:
        """Send a message with lists in it, in as many packets as it takes.

        All have the message's other members, and `more` says whether another follows. With a
        `wrapper` all of it is the value of this only member.
        """
        encoded = {name: [encode_json(item) for item in items] for name, items in lists.items()}
        for part, more in _split(encoded):
            members = [encode_json(dict(message, more=more))[1:-1]]
            for name, items in part.items():
                members.append(encode_json(name) + b": [" + b", ".join(items) + b"]")
            packet = b"{" + b", ".join(members) + b"}"
            if wrapper is not None:
                packet = b"{" + encode_json(wrapper) + b": " + packet + b"}"
            self._send(packet)

    def close(self) -> None:
        """Close it, in a forked worker."""
        self._socket.close()


def _descriptors_in(ancillary: Any) -> List[int]:
    descriptors = []
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            for start in range(0, len(data) - DESCRIPTOR_SIZE + 1, DESCRIPTOR_SIZE):
                piece = data[start : start + DESCRIPTOR_SIZE]
                descriptors.append(int.from_bytes(piece, sys.byteorder))
    return descriptors


def _split(lists: Dict[str, List[bytes]]) -> Iterator[Tuple[Dict[str, List[bytes]], bool]]:
    """Split these lists into parts that fit into packets, with whether another follows."""
    part: Dict[str, List[bytes]] = {name: [] for name in lists}
    size = 0
    for name, items in lists.items():
        for item in items:
            length = len(item) + len(", ")
            if size and size + length > LONGEST_SENT - ROOM_FOR_OTHERS:
                yield part, True
                part = {other: [] for other in lists}
                size = 0
            part[name].append(item)
            size += length
    yield part, False
