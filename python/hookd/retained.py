"""What is needed after user code has run, taken hold of before.

A hook may replace what it likes in Python's own modules, and hide them. Its result, or what went
wrong, is to be reported all the same.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, List, Optional

json_loads: Callable[..., Any]
escaped: Callable[[str], str]
format_exception: Callable[..., List[str]]
run_exit_functions: Callable[[], None]
fcntl: Any = None
"""The module, where there is one: none is looked for in each hook process."""

_loaded = False


def load() -> None:
    """Import these modules, which are half of the worker's start; it is ready without them."""
    global _loaded, json_loads, escaped, format_exception, run_exit_functions, fcntl  # noqa: PLW0603
    if _loaded:
        return
    with EagerImports():
        import atexit
        import json
        import json.encoder
        import traceback

    json_loads = json.loads
    escaped = json.encoder.encode_basestring_ascii
    format_exception = traceback.format_exception
    run_exit_functions = atexit._run_exitfuncs
    try:
        import fcntl as found
    except ImportError:
        pass
    else:
        fcntl = found
    _loaded = True


_set_trace = sys.settrace
_set_profile = sys.setprofile


def stop_tracing() -> None:
    """Take away the functions by which a hook may see, and break, what is done after it.

    Where one raises, Python takes it away itself: so it is tried again, and with success.
    """
    for remove in (_set_trace, _set_profile, _set_trace, _set_profile):
        try:
            remove(None)
        except BaseException:
            pass


def to_json(value: Any) -> str:
    """JSON in ASCII, of plain values of exactly the types that JSON has; `TypeError` for others."""
    kind = type(value)
    if kind is str:
        return escaped(value)
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return int.__repr__(value)
    if kind is list:
        return "[" + ", ".join([to_json(item) for item in value]) + "]"
    if kind is dict:
        members = [to_json(key) + ": " + to_json(item) for key, item in value.items()]
        return "{" + ", ".join(members) + "}"
    raise TypeError("not a plain value")


class EagerImports:
    """A context in which only those imports are lazy that say so themselves."""

    def __enter__(self) -> None:
        # Python 3.15.
        get_mode: Any = getattr(sys, "get_lazy_imports", None)
        self._mode: Optional[str] = None if get_mode is None else get_mode()
        self._set("normal")

    def __exit__(self, *error: object) -> None:
        self._set(self._mode)

    def _set(self, mode: Optional[str]) -> None:
        if self._mode is not None:
            sys.set_lazy_imports(mode)  # type: ignore[attr-defined]
