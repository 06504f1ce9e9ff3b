"""The errors of the protocol, and making them from exceptions."""

from __future__ import annotations

from os.path import dirname
from os.path import join as join_path

from hookd import retained

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Dict, Optional

# The kinds of ERROR that the protocol fixes.
MISSING_BACKEND_MODULE = "MissingBackendModule"
MISSING_BACKEND_ATTRIBUTE = "MissingBackendAttribute"
MALFORMED_BACKEND_NAME = "MalformedBackendName"
BACKEND_IMPORT_ERROR = "BackendImportError"
INVALID_HOOK_NAME = "InvalidHookName"
INVALID_ACTION = "InvalidAction"
INVALID_SOURCE = "InvalidSource"
UNSUPPORTED_HOOK = "UnsupportedHook"
MALFORMED_HOOK_ARGUMENT = "MalformedHookArgument"
HOOK_RUNTIME_ERROR = "HookRuntimeError"
# Only known to callers that asked for --json.
HOOK_CRASHED = "HookCrashed"

# In characters. Of a text that is longer than twice this, the middle is left out.
LONGEST_PART = 32 << 10
LONGEST_MARKER = 64
MOST_PLAIN_LINES = 1000

UNKNOWN_NAME = "<an exception whose name cannot be shown>"


class CallerGone(Exception):
    """The input has ended, or nobody reads our output: the caller is gone."""


class Failure(Exception):
    """One request failed, with a kind that the protocol knows. The worker lives on.

    `details` are the members of the JSON form beside the message.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        details: Optional[Dict[str, Any]] = None,
        traceback: Optional[str] = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = shortened(message)
        self.details = {"exception": None, "unsupported_operation": False}
        if details is not None:
            self.details = details
        self.traceback = None if traceback is None else shortened(traceback)
        self.exit_code = 1
        """The exit code of a process that does not catch the error."""

    def to_json(self) -> Dict[str, Any]:
        """For the pipe from hook process to worker; see `outcome`."""
        return {
            "kind": self.kind,
            "message": self.message,
            "details": self.details,
            "traceback": self.traceback,
        }


def shortened(text: str, longest_part: int = LONGEST_PART) -> str:
    """The text, or, if it is too long, its first and last part."""
    left_out = len(text) - 2 * longest_part
    # A text that the hook process has shortened already is left as it is.
    if left_out <= LONGEST_MARKER:
        return text
    marker = "\n[... {} characters left out ...]\n".format(left_out)
    return text[:longest_part] + marker + text[-longest_part:]


def failure_from(
    kind: str, message: str, error: BaseException, unsupported_operation: bool = False
) -> Failure:
    """A `Failure` that was caused by `error`, with its name and traceback."""
    details = {
        "exception": shortened(qualified_name(type(error))),
        "unsupported_operation": unsupported_operation,
    }
    failure = Failure(kind, message, details, format_traceback(error))
    try:
        if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
            failure.exit_code = int(error.code or 0)
    except BaseException:
        # Raised by code of a user's exception class.
        pass
    return failure


def qualified_name(kind: type) -> str:
    """The name of a class, as ``ValueError`` or ``package.module.Problem``."""
    name = _own_text(kind, "__qualname__")
    module = _own_text(kind, "__module__")
    if name is None:
        return UNKNOWN_NAME
    return name if module in (None, "builtins") else "{}.{}".format(module, name)


def _own_text(kind: type, attribute: str) -> Optional[str]:
    """An attribute of a class, if it is text."""
    try:
        # Not through the metaclass, which may be a user's code.
        value = type.__dict__[attribute].__get__(kind)
        return str.__str__(value)
    except BaseException:
        return None


def describe(error: BaseException, who: str) -> str:
    """The text of an exception. Its ``__str__`` is a user's code and may fail.

    `who` is named as the one that called ``sys.exit``.
    """
    try:
        if isinstance(error, SystemExit):
            return "{} called sys.exit({})".format(who, _exit_argument(error.code))
        # str() may return an instance of a subclass.
        return str.__str__(str(error))
    except BaseException:
        return "<{} whose text cannot be shown>".format(qualified_name(type(error)))


def _exit_argument(code: object) -> str:
    if code is None:
        return ""
    if isinstance(code, str):
        return '"{}"'.format(code)
    return repr(code)


def format_traceback(error: BaseException) -> str:
    """The traceback as text, starting at the first frame that is not our own."""
    name = qualified_name(type(error))
    first: Optional[TracebackType] = None
    try:
        first = BaseException.__dict__["__traceback__"].__get__(error)
        while first is not None and is_ours(first):
            first = first.tb_next
        return str.__str__("".join(retained.format_exception(type(error), error, first)))
    except BaseException:
        pass
    lines = ["Traceback (most recent call last):\n"]
    try:
        while first is not None and len(lines) < MOST_PLAIN_LINES:
            code = first.tb_frame.f_code
            place = '  File "{}", line {}, in {}\n'
            lines.append(place.format(code.co_filename, first.tb_lineno, code.co_name))
            first = first.tb_next
    except BaseException:
        pass
    return "".join(lines) + "{}: <its traceback cannot be shown in full>\n".format(name)


def is_ours(entry: TracebackType) -> bool:
    """Whether the code of this frame is hookd's own."""
    # Two code objects are compared, since __file__ may be spelled differently.
    ours = dirname(dirname(is_ours.__code__.co_filename))
    return entry.tb_frame.f_code.co_filename.startswith(join_path(ours, ""))
