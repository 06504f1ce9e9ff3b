"""Importing a build backend, with a failure of its own kind for each way in which that fails."""

from __future__ import annotations

import os
import sys

from hookd.protocol.exceptions import account_of
from hookd.protocol.failures import (
    BACKEND_IMPORT_ERROR,
    MISSING_BACKEND_ATTRIBUTE,
    MISSING_BACKEND_MODULE,
    Failure,
    failure_from,
)
from hookd.protocol.requests import Request, is_inside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, List, Optional, Tuple


def import_backend(request: Request) -> Any:
    """The backend object that the request names, or a `Failure`.

    ``backend-path`` must be on ``sys.path`` already.
    """
    module, attributes = _import_module(request)
    _check_origin(request, module)
    backend: Any = module
    for position, name in enumerate(attributes):
        try:
            backend = getattr(backend, name)
        except AttributeError as error:
            holder = ".".join([module.__name__, *attributes[:position]])
            raise failure_from(
                MISSING_BACKEND_ATTRIBUTE,
                "the backend {!r} was not found: {!r} has no attribute {!r}".format(
                    request.backend, holder, name
                ),
                error,
            ) from error
        except BaseException as error:
            # A module may define __getattr__ (PEP 562), and load things there.
            raise _import_failure(request, error) from error
    return backend


def _import_module(request: Request) -> Tuple[ModuleType, List[str]]:
    """Import the backend's module. Returns it, and the attributes that lead to the backend."""
    attributes = request.attribute.split(".") if request.attribute else []
    try:
        # Not importlib.import_module, whose frames would appear in tracebacks.
        __import__(request.module)
        return sys.modules[request.module], attributes
    except ModuleNotFoundError as error:
        missing = error.name or ""
        # Is the backend missing, or something that it imports?
        if not (request.module + ".").startswith(missing + ".") or not missing:
            raise _import_failure(request, error) from error
        if not attributes:
            found = _as_attribute(request.module, missing)
            if found is not None:
                return found
        raise failure_from(
            MISSING_BACKEND_MODULE,
            "the backend {!r} was not found: no module named {!r}".format(request.backend, missing),
            error,
        ) from error
    except BaseException as error:
        raise _import_failure(request, error) from error


def _as_attribute(name: str, missing: str) -> Optional[Tuple[ModuleType, List[str]]]:
    """`module.attribute` without a colon: no such module, perhaps an attribute of its parent."""
    parent = missing.rpartition(".")[0]
    attributes = name[len(parent) + 1 :].split(".")
    module = sys.modules.get(parent)
    if module is None:
        return None
    try:
        return (module, attributes) if hasattr(module, attributes[0]) else None
    except BaseException:
        # Raised by a __getattr__ of the module.
        return None


def _import_failure(request: Request, error: BaseException) -> Failure:
    return failure_from(
        BACKEND_IMPORT_ERROR,
        "the import of the backend {!r} failed: {}".format(
            request.backend, account_of(error, "it", request.tree)
        ),
        error,
    )


def _check_origin(request: Request, module: ModuleType) -> None:
    """PEP 517: with backend-path, the backend must be loaded from there, and nowhere else."""
    if not request.backend_path:
        return
    places = _places(module)
    for place in places:
        if any(is_inside(place, folder) for folder in request.backend_path):
            return
    raise Failure(
        BACKEND_IMPORT_ERROR,
        "the backend {!r} must come from backend-path ({}), but was loaded from {}".format(
            request.backend,
            ", ".join(map(repr, request.backend_path)),
            ", ".join(map(repr, places)) or "no file",
        ),
    )


def _places(module: ModuleType) -> List[str]:
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return [os.path.abspath(file)]
    # A package without __init__.py.
    return [os.path.abspath(folder) for folder in getattr(module, "__path__", ())]
