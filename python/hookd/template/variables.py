"""The environment variables of a template: which of them imported modules have read, and how a
worker gets others.

What a module found when it was imported, it keeps. So a worker with other values of variables that
were read must come from another template. All other variables can be set after the fork.
"""

from __future__ import annotations

import os
import sys

from hookd.process.surroundings import parse_variables, variables_at_start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Set, Tuple

    Variables = Dict[bytes, bytes]

# Modules that read more are said to read all.
MOST_NAMES = 500


class ReadVariables:
    """A context in which it learns which variables are read from `os.environ` and `os.environb`.

    As in `observer`, the functions that encode and decode names are replaced, here only while
    modules are imported.
    """

    def __init__(self) -> None:
        self._names: Set[bytes] = set()
        self._all = False
        self._has_news = False
        self._watched: List[Tuple[Any, str, Any, Any]] = []
        """Each with its object, its name, the function before, and the one in its place."""

    def __enter__(self) -> None:
        try:
            for environ in (os.environ, os.environb):
                for name, watch in (("encodekey", self._use), ("decodekey", self._take)):
                    before = getattr(environ, name)
                    instead = _alike(before, watch(before))
                    setattr(environ, name, instead)
                    self._watched.append((environ, name, before, instead))
        except AttributeError:
            # Something else is in the place of os.environ.
            self.note_all()

    def __exit__(self, *error: object) -> None:
        for environ, name, before, instead in self._watched:
            if getattr(environ, name, None) is instead:
                setattr(environ, name, before)
            else:
                self.note_all()
        self._watched.clear()

    def _use(self, encode: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
        def encodekey(value: Any) -> bytes:
            encoded = encode(value)
            if encoded not in self._names and not self._all:
                self._names.add(encoded)
                self._has_news = True
                if len(self._names) > MOST_NAMES or not _is_utf8(encoded):
                    self.note_all()
            return encoded

        return encodekey

    def _take(self, decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        # Called for each variable when all are looked through, and at no other time.
        def decodekey(value: bytes) -> Any:
            self.note_all()
            return decode(value)

        return decodekey

    def note_all(self) -> None:
        """Every variable may have been read."""
        self._has_news = self._has_news or not self._all
        self._all = True

    def take_news(self) -> Optional[Dict[str, Any]]:
        """What was read, for the supervisor, if there is more since the last call."""
        if not self._has_news:
            return None
        self._has_news = False
        names = [] if self._all else sorted(map(os.fsdecode, self._names))
        return {"names": names, "all": self._all}

    def differ(self, one: Variables, other: Variables) -> bool:
        """Whether a module that was imported would have found something else."""
        if self._all:
            return one != other
        return any(one.get(name) != other.get(name) for name in self._names)


class ProcessVariables:
    """The variables of this process: `os.environ`, `posix.environ` and those of the C library."""

    def __init__(self) -> None:
        """To be called before anybody changes them."""
        at_start = variables_at_start()
        present: Variables = os.environ._data  # type: ignore[attr-defined]
        self._by_interpreter = {
            name: value for name, value in present.items() if at_start.get(name) != value
        }
        """What the interpreter has set at its start, as LC_CTYPE (PEP 538)."""

    def present(self) -> Variables:
        """The variables, in their order."""
        return os.environ._data  # type: ignore[attr-defined,no-any-return]

    def as_of_start(self, variables: Variables) -> Variables:
        """What an interpreter finds that is started with these, after its own changes."""
        found = dict(variables)
        found.update(self._by_interpreter)
        return found

    def replace(self, variables: Variables) -> None:
        """Set exactly these, in their order."""
        present = self.present()
        for name in list(present):
            os.unsetenv(name)
        for name, value in variables.items():
            os.putenv(name, value)
        for known in (present, getattr(sys.modules.get("posix"), "environ", None)):
            if type(known) is dict:
                known.clear()
                known.update(variables)


def read_variables(descriptor: int) -> Variables:
    """Read an environment block from a file that is open under this descriptor, and close it.

    Raises `OSError`.
    """
    pieces: List[bytes] = []
    try:
        offset = 0
        while True:
            piece = os.pread(descriptor, 1 << 20, offset)
            if not piece:
                return parse_variables(b"".join(pieces))
            pieces.append(piece)
            offset += len(piece)
    finally:
        os.close(descriptor)


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeError:
        return False
    return True


def _alike(original: Any, function: Any) -> Any:
    """Make a function look like the one that it replaces."""
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(function, name, getattr(original, name, None))
    return function
