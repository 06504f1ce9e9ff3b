"""What modules may ask the system for at their import, and would find otherwise in another process,
in another folder, or at another time.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Tuple

    Meanings = Dict[str, str]

FOLDER = "it asked for the current folder"
# In a template that may lead to where it is, and is not seen afterwards.
CHANGES_FOLDER = "it went to another folder"
PROCESS = "it asked for the number of its process"
TIME = "it asked for the time"
RANDOM = "it asked for random numbers"
CHILD = "it started a process"
NETWORK = "it used a socket"
FILES = "it made or changed files"

LOOKS = ""
"""At a file: it depends on which."""


def _all(meaning: str, names: str) -> Meanings:
    return dict.fromkeys(names.split(), meaning)


_CLOCKS = "time monotonic perf_counter process_time thread_time clock_gettime"

# By what the functions are bound to: a module in C, as a rule. What a version or a system does not
# have is not met.
OF_POSIX: Meanings = {
    **_all(FOLDER, "getcwd getcwdb"),
    **_all(CHANGES_FOLDER, "chdir fchdir"),
    **_all(PROCESS, "getpid getppid getpgid getpgrp getsid"),
    **_all(RANDOM, "urandom getrandom"),
    **_all(CHILD, "fork forkpty posix_spawn posix_spawnp system execv execve"),
    **_all(FILES, "mkdir mkfifo mknod rename replace remove unlink rmdir symlink link truncate"),
    **_all(FILES, "chmod lchmod chown lchown utime setxattr removexattr"),
    **_all(LOOKS, "stat lstat access readlink statvfs open listdir scandir"),
}
OF_MODULES: Dict[str, Meanings] = {
    "posix": OF_POSIX,
    "time": {
        **_all(TIME, _CLOCKS),
        **_all(TIME, " ".join(clock + "_ns" for clock in _CLOCKS.split())),
        **_all(TIME, "clock localtime gmtime ctime asctime strftime"),
    },
    "_io": _all(LOOKS, "open"),
    "_imp": {},
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


class Owners:
    """Finds the meaning of a function by what it is bound to."""

    def __init__(self) -> None:
        self.by_identity: Dict[int, Meanings] = {}
        """The meanings of an object's functions."""
        # So that what is identified stays where it is.
        self._held: List[object] = []
        self._missing_modules = list(OF_MODULES)
        self._missing_attributes = list(OF_ATTRIBUTES)

    def renew(self) -> None:
        """Look for what was not imported before."""
        modules = sys.modules
        for name in [name for name in self._missing_modules if name in modules]:
            self._missing_modules.remove(name)
            self._add(modules[name], OF_MODULES[name])
        for key in [key for key in self._missing_attributes if key[0] in modules]:
            value = vars(modules[key[0]]).get(key[1])
            # It may not be there yet.
            if value is not None:
                self._missing_attributes.remove(key)
                self._add(value, OF_ATTRIBUTES[key])

    def _add(self, owner: object, meanings: Meanings) -> None:
        self._held.append(owner)
        self.by_identity[id(owner)] = meanings
