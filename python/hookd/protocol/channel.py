"""Reading lines from the caller, and writing messages to it.

Lines are bytes. Text is decoded as UTF-8, whatever the locale; paths by the file system's encoding.
"""

from __future__ import annotations

import os

from hookd.protocol.failures import CallerGone
from hookd.retained import to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

READ_SIZE = 1 << 16


class Channel:
    """Buffers lines and messages. It never waits for input."""

    def __init__(self, input_descriptor: int, output_descriptor: int) -> None:
        self.input = input_descriptor
        self.output = output_descriptor
        self.ended = False
        """Whether the end of input was read. Lines before it may still be waiting."""
        self._buffer = bytearray()
        self._searched = 0
        self._unsent = bytearray()

    def fill(self) -> None:
        """Read once from the input; call it when the descriptor is readable."""
        # Never set to non-blocking: the open file may be shared with a shell.
        try:
            data = os.read(self.input, READ_SIZE)
        except OSError as error:
            # A socket that was reset, a terminal that hung up.
            raise CallerGone("the input cannot be read: {}".format(error)) from error
        if data:
            self._buffer += data
        else:
            self.ended = True

    def next_line(self) -> Optional[bytes]:
        """Take the next whole line, without its newline, if it has been read."""
        end = self._find_end()
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    def peek_line(self) -> Optional[bytes]:
        """The line that `next_line` would take."""
        end = self._find_end()
        return None if end < 0 else bytes(self._buffer[:end])

    def waiting_bytes(self) -> int:
        """How much was read and not yet taken."""
        return len(self._buffer)

    def _find_end(self) -> int:
        # A line may be a megabyte of settings, read in 16 pieces: search each piece once.
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
        return end

    def send(self, kind: str, value: bytes = b"") -> None:
        """Write one message. Raises `CallerGone` when there is nobody to read it."""
        self.send_later(kind, value)
        self.flush()

    def send_later(self, kind: str, value: bytes = b"") -> None:
        """Write a message together with the next one that is sent, or before waiting for input.

        Each write wakes the caller. One that wrote ahead has already answered most questions, and
        need not be woken for them.
        """
        self._unsent += kind.encode("ascii") + (b" " + value if value else b"") + b"\n"

    def send_empty_line(self) -> None:
        """End an unfinished line that the interpreter's start may have left on the output."""
        self._unsent += b"\n"

    def flush(self) -> None:
        """Write the messages that `send_later` has kept."""
        if self._unsent:
            data = bytes(self._unsent)
            self._unsent.clear()
            self._write(data)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self.output, view) :]
        except ConnectionError as error:
            raise CallerGone("nobody reads the output") from error


def text_of(line: bytes) -> str:
    """A line as text."""
    return line.decode("utf-8", "surrogateescape")


def encode_text(text: str) -> bytes:
    """Text as the value of a message: one line, for people to read."""
    line = text.replace("\n", "\\n")
    try:
        return line.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # There is a lone surrogate that stands for no byte.
        return _well_formed(line).encode("utf-8")


def encode_json(value: Any) -> bytes:
    """JSON in ASCII; lone surrogates, which many readers refuse, are replaced."""
    text = to_json(value)
    # It may hold a lone surrogate. Pairs and Hangul match, too, but the longer way changes neither.
    if "\\ud" in text:
        text = to_json(_well_formed_json(value))
    return text.encode("ascii")


def _well_formed_json(value: Any) -> Any:
    if isinstance(value, str):
        return _well_formed(value)
    if isinstance(value, list):
        return [_well_formed_json(item) for item in value]
    if isinstance(value, dict):
        return {_well_formed(key): _well_formed_json(item) for key, item in value.items()}
    return value


def _well_formed(text: str) -> str:
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:
        pass
    # Through UTF-16, so that two halves of a pair become the character they stand for.
    units = text.encode("utf-16-le", "surrogatepass")
    return units.decode("utf-16-le", "replace")
