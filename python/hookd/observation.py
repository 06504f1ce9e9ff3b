"""What a module asks the system for while it is imported.

Some modules keep what they find then: the current folder, the time, a random number. Imported in a
template they would keep what is found there, and each hook would get the same. The standard library
does such things too, and is known to do them well; what it is asked for by others counts.
"""

from __future__ import annotations

import os
import sys

from hookd.calls import FILES, LOOKS, NETWORK, Owners

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, Callable, List, Tuple

    from hookd.callers import Callers
    from hookd.calls import Meanings

MOST_KEPT = 20

# What the path is called where the standard library looks at a file: that what is furthest from
# the caller's own words comes first.
PATH_NAMES = [
    *("arg", "newpath", "pathobj", "path", "pathname", "filename", "file", "fullname", "name"),
    *("top", "dirname", "f1", "fn", "src", "self"),
]

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

# Python 3.8: these are told together with the path.
EXACT = ("open", "listdir", "scandir")
SOCKET_EVENTS = ("socket.__new__", "socket.getaddrinfo", "socket.connect", "socket.bind")


class Observation:
    """Sees to it that the calls of modules are seen."""

    def __init__(self, callers: Callers, for_good: bool) -> None:
        """To observe `for_good` sees more. It cannot be undone, and costs a little ever after."""
        self._callers = callers
        self._owners = Owners()
        self._profile = self._make_profile()
        self._seen: List[Tuple[str, List[str]]] = []
        self._is_on = False
        self._previous: Any = None
        self._is_exact = for_good and hasattr(sys, "addaudithook")
        if self._is_exact:
            sys.addaudithook(self._on_event)

    def start(self) -> None:
        """A module is about to be imported by the caller."""
        self._seen = []
        self._owners.renew()
        self._callers.enclose()
        self._is_on = True
        self._previous = sys.getprofile()
        sys.setprofile(self._profile)

    def stop(self) -> bool:
        """It is done. False if it has made others see its calls, which are left in place."""
        self._is_on = False
        was_observed = sys.getprofile() is self._profile
        if was_observed:
            sys.setprofile(self._previous)
        self._callers.release()
        return was_observed

    def seen(self) -> List[Tuple[str, List[str]]]:
        """What was asked for, for people to read, and who was being imported, innermost first."""
        return self._seen

    def told(self, name: str) -> List[str]:
        """As `seen`, as far as it is to be told of the module that was imported."""
        return [
            text if modules[0] == name else "{} (in {})".format(text, modules[0])
            for text, modules in self._seen
        ]

    def _note(self, text: str, modules: List[str]) -> None:
        if len(self._seen) < MOST_KEPT and (text, modules) not in self._seen:
            self._seen.append((text, modules))

    # Calls of functions in C.

    def _make_profile(self) -> Callable[[FrameType, str, Any], None]:
        meanings_of = self._owners.by_identity.get
        on_call = self._on_call

        # Called hundreds of thousands of times.
        def profile(frame: FrameType, event: str, function: Any) -> None:
            if event == "c_call":
                meanings = meanings_of(id(getattr(function, "__self__", None)))
                if meanings is not None:
                    on_call(frame, function, meanings, False)
            elif event == "c_exception":
                meanings = meanings_of(id(getattr(function, "__self__", None)))
                if meanings is not None:
                    on_call(frame, function, meanings, True)

        return profile

    def _on_call(self, frame: FrameType, function: Any, meanings: Meanings, failed: bool) -> None:
        try:
            meaning = meanings.get(function.__name__)
            if meaning is None:
                # Of the import system, for one.
                self._owners.renew()
                return
            modules = self._callers.importing(frame)
            if modules and meaning != LOOKS:
                self._note(meaning, modules)
            elif modules:
                self._on_look(frame, function.__name__, modules, failed)
        except Exception as error:
            # It would be taken for one of the module's.
            self._note("it cannot be observed: {!r}".format(error), ["?"])

    def _on_look(self, frame: FrameType, name: str, modules: List[str], failed: bool) -> None:
        """Where a file is asked for or about, but a function in C does not tell which."""
        if name in EXACT and self._is_exact:
            return
        path = None if self._callers.is_others(frame) else _path_in(frame)
        if path is not None:
            self._on_path(path, modules)
        elif name == "open":
            # One that is found has the full path: there is nothing like it in the root folder.
            if failed:
                self._note("it tried to open a file", modules)
        elif not failed:
            self._note("it asked for files by os.{}".format(name), modules)

    def _on_path(self, path: Any, modules: List[str]) -> None:
        if _is_relative(path):
            self._note("it looked for {!r} in the current folder".format(path), modules)

    # Python's own events.

    def _on_event(self, event: str, arguments: Tuple[Any, ...]) -> None:
        if not self._is_on or event not in EVENTS:
            return
        modules = self._callers.importing(sys._getframe(1))
        if not modules:
            return
        if event in SOCKET_EVENTS:
            self._note(NETWORK, modules)
            return
        path = arguments[0] if arguments[0] is not None else "."
        if type(path) is int:
            return
        self._on_path(path, modules)
        if event == "open" and arguments[2] & WRITING and not _is_device(path):
            self._note(FILES, modules)


EVENTS = frozenset(("open", "os.listdir", "os.scandir", *SOCKET_EVENTS))


def _path_in(frame: FrameType) -> Any:
    """The path that a function of the standard library works with, if that can be told."""
    variables = frame.f_locals
    for name in PATH_NAMES:
        value: Any = variables.get(name)
        if isinstance(value, int):
            # A descriptor.
            return os.sep
        if isinstance(value, (str, bytes)):
            return value
        if type(value).__module__.startswith("pathlib"):
            return os.fspath(value)
        if name == "self" and isinstance(getattr(value, "__dict__", {}).get("root"), str):
            # importlib.metadata
            return vars(value)["root"]
    return None


def _is_relative(path: Any) -> bool:
    # Functions that list a folder have an empty name for the current one.
    return path[:1] not in ("/", b"/")


def _is_device(path: Any) -> bool:
    return bool(path[:5] in ("/dev/", b"/dev/"))
