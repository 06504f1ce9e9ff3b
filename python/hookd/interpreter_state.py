"""What belongs to the interpreter as a whole, and no learned module may change.

The backend may: whoever uses it imports it. A learned module is one that other trees use.
"""

from __future__ import annotations

import gc
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

# Two of these are the same if they are equal; all else, only if it is one and the same object, as
# to compare it could run anybody's code.
PLAIN = (str, int, float, bytes, type(None))

IN_SYS = (
    "displayhook",
    "dont_write_bytecode",
    "excepthook",
    "stderr",
    "stdin",
    "stdout",
    "unraisablehook",
)

# What logging starts with, in case it was not loaded before.
LOGGING_WARNING = 30


class InterpreterState:
    """How the interpreter is at one moment: a list of values for each thing that is looked at."""

    def __init__(self) -> None:
        self._values: Dict[str, List[Any]] = {
            "the modules' table": [sys.modules],
            "sys.path": list(sys.path),
            "sys.meta_path": list(sys.meta_path),
            "sys.path_hooks": list(sys.path_hooks),
            "sys.argv": list(sys.argv),
            "the recursion limit": [sys.getrecursionlimit()],
            "the switch interval": [sys.getswitchinterval()],
            "the garbage collector": [gc.isenabled(), *gc.get_threshold()],
            "the locale": [_locale()],
            "the sockets' timeout": [_socket_timeout()],
            "the trace or profile functions": _trace_functions(),
            "the warnings' filters": _warning_filters(),
            "logging": _logging(),
            "the built-in names": _builtins(),
            "how imports are put off": _lazy_imports(),
        }
        for name in IN_SYS:
            self._values["sys." + name] = [getattr(sys, name, None)]

    def changes_to(self, after: InterpreterState) -> List[str]:
        """The names of what is no longer the same."""
        return [
            name
            for name, values in self._values.items()
            if not _are_same(values, after._values[name])
        ]


def _are_same(before: List[Any], after: List[Any]) -> bool:
    return len(before) == len(after) and all(map(_is_same, before, after))


def _is_same(before: object, after: object) -> bool:
    if before is after:
        return True
    return type(before) is type(after) and type(before) in PLAIN and before == after


def _locale() -> Any:
    try:
        import _locale

        return _locale.setlocale(_locale.LC_ALL, None)
    except Exception:
        # Not built in, or in a state that has no name.
        return None


def _socket_timeout() -> Any:
    return sys.modules["_socket"].getdefaulttimeout() if "_socket" in sys.modules else None


def _trace_functions() -> List[Any]:
    threading = sys.modules.get("threading")
    return [
        sys.gettrace(),
        sys.getprofile(),
        getattr(threading, "_trace_hook", None),
        getattr(threading, "_profile_hook", None),
        *_monitoring_tools(),
    ]


def _monitoring_tools() -> List[Any]:
    # Python 3.12. There is room for six.
    monitoring = getattr(sys, "monitoring", None)
    return [] if monitoring is None else [monitoring.get_tool(number) for number in range(6)]


def _warning_filters() -> List[Any]:
    # The module that is written in Python takes the list over from the other.
    module = sys.modules.get("warnings") or sys.modules.get("_warnings")
    return list(getattr(module, "filters", ()))


def _logging() -> List[Any]:
    logging = sys.modules.get("logging")
    if logging is None:
        return [LOGGING_WARNING, 0, 0]
    root = logging.root
    return [root.level, root.manager.disable, len(logging._handlers), *root.handlers]


def _lazy_imports() -> List[Any]:
    # Python 3.15.
    names = ("get_lazy_imports", "get_lazy_imports_filter")
    return [getattr(sys, name)() for name in names if hasattr(sys, name)]


def _builtins() -> List[Any]:
    import builtins

    names = vars(builtins)
    return [*names, *names.values()]
