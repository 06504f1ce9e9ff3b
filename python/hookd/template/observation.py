"""What a module asks the system for while it is imported.

Some modules keep what they find then: the current folder, the time, a random number. Imported in a
template they would keep what is found there, and each hook would get the same. So a backend that
nobody has examined is observed: its calls of functions in C, and those that functions of the
standard library make for it. What modules of the standard library do when they are imported
themselves does not count, nor does the import system.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, Dict, List, Optional, Tuple

    from hookd.template.preloadable import Preloadable

    Meanings = Dict[str, str]

FOLDER = "it asked for the current folder"
# In a template, this may change nothing that could be seen afterwards.
CHANGES_FOLDER = "it went to another folder"
LIMITS = "it asked for the umask or a limit of its process"
PROCESS = "it asked for the number of its process"
TIME = "it asked for the time"
RANDOM = "it asked for random numbers"
CHILD = "it started a process"
NETWORK = "it used a socket"
FILES = "it made or changed files"

LOOKS = ""
"""It looks at a file: whether that matters depends on the path."""

MOST_KEPT = 20

# The code of the import system itself.
IMPORT_SYSTEM = ("<frozen importlib", "<frozen zipimport")

# Modules of the standard library that start programs whose answers never change.
CONSTANT = ("platform", "ctypes.util")


def _all(meaning: str, names: str) -> Meanings:
    return dict.fromkeys(names.split(), meaning)


_CLOCKS = "time monotonic perf_counter process_time thread_time clock_gettime"

# By the object that the functions are bound to, mostly a module in C. Some do not exist in all
# versions or on all systems.
OF_MODULES: Dict[str, Meanings] = {
    "posix": {
        **_all(FOLDER, "getcwd getcwdb"),
        **_all(CHANGES_FOLDER, "chdir fchdir"),
        **_all(PROCESS, "getpid getppid getpgid getpgrp getsid"),
        **_all(RANDOM, "urandom getrandom"),
        **_all(LIMITS, "umask"),
        **_all(CHILD, "fork forkpty posix_spawn posix_spawnp system execv execve"),
        **_all(FILES, "mkdir mkfifo mknod rename replace remove unlink rmdir symlink link"),
        **_all(FILES, "truncate chmod lchmod chown lchown utime setxattr removexattr"),
        **_all(LOOKS, "stat lstat access readlink statvfs open listdir scandir"),
    },
    "time": {
        **_all(TIME, _CLOCKS),
        **_all(TIME, " ".join(clock + "_ns" for clock in _CLOCKS.split())),
        **_all(TIME, "clock localtime gmtime ctime asctime strftime"),
    },
    "_io": _all(LOOKS, "open"),
    "_imp": {},
    "resource": _all(LIMITS, "getrlimit setrlimit prlimit"),
    "_thread": _all(PROCESS, "get_native_id"),
    "_uuid": _all(RANDOM, "generate_time_safe"),
    "_posixsubprocess": _all(CHILD, "fork_exec"),
    "_socket": _all(NETWORK, "socketpair getaddrinfo gethostbyname gethostbyname_ex gethostbyaddr"),
}
OF_ATTRIBUTES: Dict[Tuple[str, str], Meanings] = {
    ("_datetime", "datetime"): _all(TIME, "now utcnow today"),
    ("_datetime", "date"): _all(TIME, "today"),
    ("random", "_inst"): _all(RANDOM, "random getrandbits"),
}

# The variables that hold the path in functions of the standard library. Those of the innermost
# functions come first.
PATH_NAMES = [
    *("arg", "newpath", "pathobj", "path", "pathname", "filename", "file", "fullname", "name"),
    *("top", "dirname", "f1", "fn", "src", "self"),
]


class Observation:
    """A context that records what imported modules ask the system for."""

    def __init__(self, preloadable: Preloadable) -> None:
        self._is_standard = preloadable.is_standard
        self._seen: List[str] = []
        self._outermost: Optional[FrameType] = None
        self._previous: Any = None
        self._meanings: Dict[int, Meanings] = {}
        """What the functions mean that are bound to an object, by its id."""
        # Keeps these objects alive, so that their ids stay valid.
        self._held: List[object] = []

    def __enter__(self) -> None:
        self._find_functions()
        self._outermost = sys._getframe(1)
        self._previous = sys.getprofile()
        sys.setprofile(self._on_event)

    def __exit__(self, *error: object) -> None:
        # The module may have installed a profile function of its own.
        if sys.getprofile() == self._on_event:
            sys.setprofile(self._previous)
        else:
            self._seen.append("it changed the profile function")
        self._outermost = None

    def seen(self) -> List[str]:
        """What was asked for, for people to read."""
        return self._seen

    def _find_functions(self) -> None:
        """Find the functions of modules that are loaded by now."""
        for name, meanings in OF_MODULES.items():
            self._add(sys.modules.get(name), meanings)
        for (name, attribute), meanings in OF_ATTRIBUTES.items():
            # The attribute may not exist yet.
            module = sys.modules.get(name)
            self._add(None if module is None else vars(module).get(attribute), meanings)

    def _add(self, owner: object, meanings: Meanings) -> None:
        if owner is not None and id(owner) not in self._meanings:
            self._held.append(owner)
            self._meanings[id(owner)] = meanings

    def _on_event(self, frame: FrameType, event: str, function: Any) -> None:
        # Called hundreds of thousands of times.
        if event not in ("c_call", "c_exception"):
            return
        meanings = self._meanings.get(id(getattr(function, "__self__", None)))
        if meanings is not None:
            try:
                self._on_call(frame, function.__name__, meanings, event == "c_exception")
            except Exception as error:
                # The exception would appear to come from the module.
                self._note("it cannot be observed: {!r}".format(error))

    def _on_call(self, frame: FrameType, name: str, meanings: Meanings, failed: bool) -> None:
        meaning = meanings.get(name)
        if meaning is None:
            # Mostly of the import system: there may be new modules.
            self._find_functions()
            return
        module = self._importing(frame)
        if module is None:
            return
        if meaning == LOOKS:
            meaning = self._look(frame, name, failed)
        if meaning:
            self._note("{} (in {})".format(meaning, module))

    def _note(self, text: str) -> None:
        if len(self._seen) < MOST_KEPT and text not in self._seen:
            self._seen.append(text)

    def _importing(self, frame: Optional[FrameType]) -> Optional[str]:
        """The name of the innermost module that is being imported, for which this frame runs.

        None if that is one of the standard library, or if the frame belongs to the import system.
        """
        while frame is not None and frame is not self._outermost:
            file = frame.f_code.co_filename
            if file.startswith(IMPORT_SYSTEM):
                return None
            name = frame.f_globals.get("__name__")
            if name in CONSTANT and self._is_standard(file):
                return None
            # Code that a module has passed to exec() has no file.
            is_file = not file.startswith("<") or file.startswith("<frozen ")
            if frame.f_code.co_name == "<module>" and is_file:
                return None if file.startswith("<") or self._is_standard(file) else str(name)
            frame = frame.f_back
        return None

    def _look(self, frame: FrameType, name: str, failed: bool) -> str:
        """What a look at a file means. A profile function is not told the arguments, so the path is
        taken from the frame."""
        file = frame.f_code.co_filename
        is_others = not file.startswith("<") and not self._is_standard(file)
        path = None if is_others else _path_in(frame)
        if path is not None:
            # An empty path means the current folder.
            is_relative = path[:1] not in ("/", b"/")
            return "it looked for {!r} in the current folder".format(path) if is_relative else ""
        if name == "open":
            # A file that could be opened was given by its full path, as nothing else is found from
            # the root folder.
            return "it tried to open a file" if failed else ""
        return "" if failed else "it asked for files by os.{}".format(name)


def _path_in(frame: FrameType) -> Any:
    """The path that a function of the standard library works with, if it is found."""
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
