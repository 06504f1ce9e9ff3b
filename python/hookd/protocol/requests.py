"""Reading one request, after its action `run`."""

from __future__ import annotations

import os

from hookd.protocol.channel import text_of
from hookd.protocol.failures import (
    INVALID_HOOK_NAME,
    MALFORMED_BACKEND_NAME,
    MALFORMED_HOOK_ARGUMENT,
    Failure,
)
from hookd.protocol.hooks import HOOKS, malformed, parse_argument, parse_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, List, Optional

    Ask = Callable[[str], bytes]
    """Sends EXPECT with that name, and returns the line that answers it."""
    NextLine = Callable[[], bytes]

# PEP 517, "If the pyproject.toml file is absent".
DEFAULT_BACKEND = "setuptools.build_meta:__legacy__"


class Request:
    """A request to run a hook, checked."""

    __slots__ = ("arguments", "attribute", "backend_path", "hook", "module", "tree")

    def __init__(self, tree: str) -> None:
        self.tree = tree
        self.module = ""
        self.attribute = ""
        """What follows the colon of the backend's import path; empty when there is none."""
        self.backend_path: List[str] = []
        """Absolute paths."""
        self.hook = ""
        self.arguments: List[Any] = []

    @property
    def backend(self) -> str:
        """The backend's import path."""
        return self.module + (":" + self.attribute if self.attribute else "")


class _FirstFailure:
    """Keeps the first of several failures: all lines are read before any is reported."""

    def __init__(self) -> None:
        self.failure: Optional[Failure] = None

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: Optional[BaseException], trace: object) -> bool:
        if isinstance(error, Failure):
            if self.failure is None:
                self.failure = error
            return True
        return False


def read_request(tree: str, ask: Ask, next_line: NextLine) -> Request:
    """Read all lines of a request, and only then raise the first `Failure` found in them.

    The caller may have written the whole request ahead; unread lines of it would be taken for
    actions. Only after an unknown hook name the number of lines is not known.
    """
    request = Request(tree)
    checked = _FirstFailure()

    backend_line = ask("build_backend")
    with checked:
        _set_backend(request, text_of(backend_line) or DEFAULT_BACKEND)

    line = ask("backend_path")
    while line:
        with checked:
            request.backend_path.append(_parse_backend_path(line, tree))
        line = next_line()

    request.hook = text_of(ask("hook_name"))
    if request.hook not in HOOKS:
        # Before any other failure, as it tells the caller that the rest was not read.
        raise Failure(
            INVALID_HOOK_NAME,
            "{!r} is not a hook, expected one of {}".format(request.hook, ", ".join(HOOKS)),
        )

    for name in HOOKS[request.hook]:
        line = ask(name)
        with checked:
            request.arguments.append(parse_argument(request.hook, name, line, tree))

    if checked.failure is not None:
        raise checked.failure
    return request


def _set_backend(request: Request, import_path: str) -> None:
    request.module, colon, request.attribute = import_path.partition(":")
    parts = request.module.split(".")
    if colon:
        parts += request.attribute.split(".")
    if not all(part.isidentifier() for part in parts):
        raise Failure(
            MALFORMED_BACKEND_NAME,
            "build_backend: expected 'module' or 'module:object.attribute', got {!r}".format(
                import_path
            ),
        )


def _parse_backend_path(line: bytes, tree: str) -> str:
    """PEP 517, "In-tree build backends": relative to the tree, and inside it."""
    if line.startswith(b"/"):
        raise malformed("backend_path", line, "a path relative to the source tree")
    path = os.path.normpath(parse_path("backend_path", line, tree))
    if not is_inside(path, tree):
        raise Failure(
            MALFORMED_HOOK_ARGUMENT,
            "backend_path: {!r} is {!r}, outside of the source tree {!r}".format(
                text_of(line), path, tree
            ),
        )
    return path


def is_inside(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies in it, as both are written.

    Symbolic links are not followed: build systems make trees that consist of links.
    """
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
