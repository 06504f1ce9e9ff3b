"""Running one hook, in whichever process that is."""

from __future__ import annotations

from hookd.hook.backend import import_backend
from hookd.protocol.exceptions import account_of
from hookd.protocol.failures import (
    HOOK_RUNTIME_ERROR,
    UNSUPPORTED_HOOK,
    Failure,
    failure_from,
)
from hookd.protocol.hooks import check_result
from hookd.protocol.outcome import Outcome
from hookd.protocol.requests import Request
from hookd.retained import stop_tracing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional

    from hookd.hook.shadowing import PathWatch

# What is being done, as one byte each: a hook process tells its worker, so that its death can be
# blamed on the right thing.
IMPORTING = b"I"
CALLING = b"C"
RETURNED = b"R"


def run_hook(
    request: Request,
    imported: Optional[Callable[[], List[Dict[str, Any]]]],
    tell: Callable[[bytes], None],
    watch: Optional[PathWatch] = None,
) -> Outcome:
    """Import the backend and call the hook, in the current folder.

    `imported` tells the modules that are new, if they are to be reported. `tell` is called with
    what is about to be done. No exception of the user's code comes out.
    """
    outcome = Outcome()
    try:
        tell(IMPORTING)
        backend = import_backend(request)
        tell(CALLING)
        outcome.result = check_result(request.hook, _call(backend, request))
    except Failure as failure:
        outcome.failure = failure
        # The frames of the hook, and all that they hold, are not to live as long as this.
        failure.__traceback__ = failure.__cause__ = failure.__context__ = None
    except BaseException as error:
        # From what the hook put in our way: functions that trace it, say.
        stop_tracing()
        outcome.failure = _hook_failure(request, None, error)
    finally:
        stop_tracing()
    tell(RETURNED)
    if imported is not None:
        try:
            outcome.imported = imported()
        except BaseException:
            # Somebody made something else of sys.modules: it cannot be known.
            outcome.imported = None
    if watch is not None:
        outcome.shadowed = watch.shadowed()
    return outcome


def _call(backend: Any, request: Request) -> object:
    try:
        hook = getattr(backend, request.hook)
    except AttributeError as error:
        raise Failure(
            UNSUPPORTED_HOOK,
            "the backend {!r} has no hook {!r}".format(request.backend, request.hook),
        ) from error
    except BaseException as error:
        raise _hook_failure(request, backend, error) from error
    try:
        # By position: backends name these parameters as they like.
        return hook(*request.arguments)
    except BaseException as error:
        # SystemExit and KeyboardInterrupt too: the worker does not end because a hook wants to.
        stop_tracing()
        raise _hook_failure(request, backend, error) from error


def _hook_failure(request: Request, backend: Any, error: BaseException) -> Failure:
    return failure_from(
        HOOK_RUNTIME_ERROR,
        account_of(error, "the hook", request.tree),
        error,
        unsupported_operation=_is_unsupported_operation(backend, error),
    )


def _is_unsupported_operation(backend: Any, error: BaseException) -> bool:
    """PEP 517: a backend raises its own UnsupportedOperation, if it has one."""
    try:
        return isinstance(error, backend.UnsupportedOperation)
    except BaseException:
        # No such attribute, or no class.
        return False
