"""The eight hooks of PEP 517 and PEP 660: their arguments, and what they return."""

from __future__ import annotations

import os

from hookd import retained
from hookd.protocol.channel import encode_json, text_of
from hookd.protocol.failures import HOOK_RUNTIME_ERROR, MALFORMED_HOOK_ARGUMENT, Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple, Union

    HookResult = Union[str, List[str]]

# Arguments stand in the order of the hook's parameters, as in the protocol.
_BUILD_WHEEL = ("wheel_directory", "config_settings", "metadata_directory")
_PREPARE = ("metadata_directory", "config_settings")
_REQUIRES = ("config_settings",)

HOOKS: Dict[str, Tuple[str, ...]] = {
    "build_wheel": _BUILD_WHEEL,
    "build_sdist": ("sdist_directory", "config_settings"),
    "build_editable": _BUILD_WHEEL,
    "prepare_metadata_for_build_wheel": _PREPARE,
    "prepare_metadata_for_build_editable": _PREPARE,
    "get_requires_for_build_wheel": _REQUIRES,
    "get_requires_for_build_sdist": _REQUIRES,
    "get_requires_for_build_editable": _REQUIRES,
}

LONGEST_SHOWN_VALUE = 200

# In bytes of JSON. The supervisor's limit for a line is twice that.
LONGEST_RESULT = 8 << 20


def parse_argument(hook: str, name: str, line: bytes, tree: str) -> Any:
    """The value of one argument of `hook`, or a `Failure` that says what is wrong with it."""
    if name == "config_settings":
        return _parse_settings(line)
    if not line:
        if name != "metadata_directory":
            return tree
        if HOOKS[hook] is _PREPARE:
            raise malformed(name, line, "a path: {} needs it".format(hook))
        return None
    return parse_path(name, line, tree)


def parse_path(name: str, line: bytes, tree: str) -> str:
    """An absolute path; a relative one is relative to the tree, where the hook runs."""
    if b"\0" in line:
        raise malformed(name, line, "a path, which cannot hold a null byte")
    return os.path.join(tree, os.fsdecode(line))


def _parse_settings(line: bytes) -> Optional[Dict[str, Any]]:
    if not line:
        return None
    expected = "a JSON object, or an empty line"
    try:
        settings = retained.json_loads(text_of(line))
    except (ValueError, RecursionError) as error:
        raise malformed("config_settings", line, "{} ({})".format(expected, error)) from error
    if not isinstance(settings, dict):
        raise malformed("config_settings", line, expected)
    return settings


def malformed(name: str, line: bytes, expected: str) -> Failure:
    """A `Failure` that names the argument, its value and what was expected."""
    value = text_of(line[:LONGEST_SHOWN_VALUE])
    shown = "{!r}{}".format(value, "..." if len(line) > LONGEST_SHOWN_VALUE else "")
    return Failure(MALFORMED_HOOK_ARGUMENT, "{}: expected {}, got {}".format(name, expected, shown))


def check_result(hook: str, result: Any) -> HookResult:
    """Return a hook's result as plain values, or raise a `Failure` if PEP 517 does not allow it."""
    if HOOKS[hook] is not _REQUIRES:
        if issubclass(type(result), str):
            return _of_bearable_length(hook, _plain_text(result))
        raise _wrong_result(hook, result, "the base name of what it made, a str")
    # Some backends return a tuple, which pip and build accept.
    if issubclass(type(result), list):
        items = list.__getitem__(result, slice(None))
    elif issubclass(type(result), tuple):
        items = list(tuple.__iter__(result))
    else:
        raise _wrong_result(hook, result, "a list of str")
    for item in items:
        if not issubclass(type(item), str):
            raise _wrong_result(hook, item, "a list of str only", " in its list")
    return _of_bearable_length(hook, [_plain_text(item) for item in items])


def _plain_text(text: Any) -> str:
    # Not str(), which a subclass may override.
    return str.__str__(text)


def _of_bearable_length(hook: str, result: HookResult) -> HookResult:
    characters = len(result) if isinstance(result, str) else sum(len(item) + 4 for item in result)
    # A character takes at most 12 in JSON, so most results need not be encoded to be measured.
    if characters * 12 + 4 > LONGEST_RESULT:
        length = len(encode_json(result))
        if length > LONGEST_RESULT:
            raise Failure(
                HOOK_RUNTIME_ERROR,
                "{} returned a result that is too long: {} bytes of JSON, the limit is {}".format(
                    hook, length, LONGEST_RESULT
                ),
            )
    return result


def _wrong_result(hook: str, result: object, expected: str, where: str = "") -> Failure:
    return Failure(
        HOOK_RUNTIME_ERROR,
        "{} returned a value of type {}{}, expected {}".format(
            hook, type.__dict__["__name__"].__get__(type(result)), where, expected
        ),
    )
