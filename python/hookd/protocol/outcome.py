"""How a hook ended, and how that is read from what the hook process sent.

A hook can write to its result pipe itself, as can all that it starts: so each value is checked.
"""

from __future__ import annotations

from hookd.protocol.failures import (
    BACKEND_IMPORT_ERROR,
    HOOK_RUNTIME_ERROR,
    MISSING_BACKEND_ATTRIBUTE,
    MISSING_BACKEND_MODULE,
    UNSUPPORTED_HOOK,
    Failure,
    shortened,
)
from hookd.protocol.hooks import check_result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

    from hookd.protocol.hooks import HookResult

# What a hook process has reason to report.
KINDS = (
    BACKEND_IMPORT_ERROR,
    HOOK_RUNTIME_ERROR,
    MISSING_BACKEND_ATTRIBUTE,
    MISSING_BACKEND_MODULE,
    UNSUPPORTED_HOOK,
)

TEXT = (str,)
TEXT_OR_NONE = (str, type(None))
INT_OR_NONE = (int, type(None))


class Outcome:
    """How a hook ended: with a result, or with a failure."""

    __slots__ = ("failure", "imported", "observed", "result", "shadowed")

    def __init__(
        self,
        result: Optional[HookResult] = None,
        failure: Optional[Failure] = None,
        imported: Optional[List[Dict[str, Any]]] = None,
        shadowed: Optional[List[Dict[str, str]]] = None,
        observed: Optional[Dict[str, Any]] = None,
    ) -> None:
        self.result = result
        self.failure = failure
        self.imported = imported
        """The modules that it imported, if that was asked for and is known."""
        self.shadowed = shadowed
        """Those that it would have found elsewhere, if that was asked for."""
        self.observed = observed
        """What it used, if that was asked for and is known; see `hookd.hook.observer`."""

    def to_json(self) -> Dict[str, Any]:
        """What crosses the pipe between hook process and worker."""
        return {
            "result": self.result,
            "failure": self.failure.to_json() if self.failure is not None else None,
            "imported": self.imported,
            "shadowed": self.shadowed,
            "observed": self.observed,
        }


def read_outcome(hook: str, value: Any) -> Outcome:
    """The reverse of `Outcome.to_json`. Raises `ValueError`, or the `Failure` of a wrong result."""
    members = _members(value, "result", "failure", "imported", "shadowed", "observed")
    result, failure, imported, shadowed, observed = members
    if observed is not None:
        _check_observed(observed)
    if imported is not None:
        imported = _read_imported(imported)
    if shadowed is not None:
        shadowed = _read_shadowed(shadowed)
    if failure is not None:
        return Outcome(None, _read_failure(failure), imported, shadowed, observed)
    return Outcome(check_result(hook, result), None, imported, shadowed, observed)


def _read_failure(value: Any) -> Failure:
    kind, message, details, traceback = _members(value, "kind", "message", "details", "traceback")
    exception, unsupported = _members(details, "exception", "unsupported_operation")
    if kind not in KINDS:
        raise ValueError("an unknown kind")
    _check(message, TEXT)
    _check(traceback, TEXT_OR_NONE)
    _check(exception, TEXT_OR_NONE)
    _check(unsupported, (bool,))
    if exception is not None:
        details["exception"] = shortened(exception)
    return Failure(kind, message, details, traceback)


def _read_imported(value: Any) -> List[Dict[str, Any]]:
    _check(value, (list,))
    for entry in value:
        name, file, mtime, size, preloadable = _members(
            entry, "name", "file", "mtime_ns", "size", "preloadable"
        )
        _check(name, TEXT)
        _check(file, TEXT_OR_NONE)
        _check(mtime, INT_OR_NONE)
        _check(size, INT_OR_NONE)
        _check(preloadable, (bool,))
    entries: List[Dict[str, Any]] = value
    return entries


def _read_shadowed(value: Any) -> List[Dict[str, str]]:
    _check(value, (list,))
    for entry in value:
        for member in _members(entry, "name", "loaded", "found"):
            _check(member, TEXT)
    entries: List[Dict[str, str]] = value
    return entries


def _check_observed(value: Any) -> None:
    names = ("variables", "programs", "network", "outside", "written")
    *lists, taken, truncated = _members(value, *names, "environment_taken", "truncated")
    _check(taken, (bool,))
    _check(truncated, (bool,))
    if lists[-1] is None:
        lists.pop()
    for entries in lists:
        _check(entries, (list,))
        for entry in entries:
            _check(entry, TEXT)


def _members(value: Any, *names: str) -> List[Any]:
    if type(value) is not dict or set(value) != set(names):
        raise ValueError("no object with these members")
    return [value[name] for name in names]


def _check(value: Optional[object], kinds: Any) -> None:
    if type(value) not in kinds:
        raise ValueError("a value of a wrong type")
