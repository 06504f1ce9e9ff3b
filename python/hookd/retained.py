"""Functions of the standard library that hookd needs after a hook has run.

A hook may replace or hide anything in Python's modules. Its result must be reported all the same,
so references are taken before the first hook.
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
"""The module, or None where there is none."""

_loaded = False


def load() -> None:
    """Import these modules. That takes as long as the rest of a worker's start, so it is done after
    READY."""
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
    """Remove the trace and profile functions of a hook, which would run in, and could break, the
    code that follows it.

    Such a function is called once more when it is removed. If it raises then, Python removes it
    itself, and the second attempt succeeds.
    """
    for remove in (_set_trace, _set_profile, _set_trace, _set_profile):
        try:
            remove(None)
        except BaseException:
            pass


def to_json(value: Any) -> str:
    """Encode plain values, of exactly the types that JSON has, in ASCII. Raises `TypeError`."""
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
    """A context in which only imports that are written `lazy import` are lazy (PEP 810).

    With ``PYTHON_LAZY_IMPORTS=all`` a module is imported when something of it is first used. For
    our own modules that is too late: they cannot be found any more once a worker is ready.
    """

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
