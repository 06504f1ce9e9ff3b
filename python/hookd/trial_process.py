"""What a trial does, from its fork to its exit."""

from __future__ import annotations

import os
import signal
import sys

# Bound before a module can replace it: what reports about that module.
from os import getpid, write

from hookd import bound, libc
from hookd.callers import Callers
from hookd.channel import encode_json
from hookd.imports import imported_since
from hookd.observation import Observation
from hookd.output_check import OutputCheck
from hookd.preload_check import MOST_MEMORY, PreloadCheck, try_import
from hookd.process_state import remove_temporary_folders, resident_bytes
from hookd.trial_gate import Gate, because_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, List, NoReturn

    from hookd.trial_gate import Blame

# Hooks come first.
NICENESS = 5


def run_trial(
    names: List[str],
    blames: Dict[str, Blame],
    template: int,
    descriptor: int,
    leave_template: Callable[[], None],
    mask: Iterable[Any],
) -> NoReturn:
    """Import these modules, and write what comes of each to the descriptor. Never returns."""
    try:
        os.setsid()
        leave_template()
        _die_with(template)
        _be_humble()
        output = OutputCheck()
        output.put_in_place()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        TrialProcess(descriptor, PreloadCheck(output), blames).run(names)
    except OSError:
        # Nobody reads any more.
        pass
    except BaseException as error:
        lines = bound.format_exception(type(error), error, error.__traceback__)
        _tell(descriptor, {"failure": "".join(lines)})
    finally:
        os._exit(0)


def _die_with(template: int) -> None:
    try:
        libc.die_with_parent(signal.SIGKILL)
    except libc.NotAvailable:
        # The template has said so already.
        return
    # It may have died before the call above.
    if os.getppid() != template:
        os._exit(0)


def _be_humble() -> None:
    try:
        os.nice(NICENESS)
    except OSError:
        # Forbidden by a sandbox.
        pass


def _tell(descriptor: int, message: Dict[str, Any]) -> None:
    view = memoryview(encode_json(message) + b"\n")
    while view:
        view = view[write(descriptor, view) :]


class TrialProcess:
    """Imports one module after the other, until one spoils the process for the rest."""

    def __init__(self, descriptor: int, check: PreloadCheck, blames: Dict[str, Blame]) -> None:
        self._descriptor = descriptor
        self._check = check
        callers = Callers()
        self._gate = Gate(blames, callers)
        self._observation = Observation(callers, for_good=True)
        self._told = len(blames)
        self._owner = os.getpid()

    def run(self, names: List[str]) -> None:
        """Import these, as far as that goes."""
        for name in names:
            if not self._try(name) or resident_bytes() > MOST_MEMORY:
                break
        _tell(self._descriptor, {"end": True})

    def _try(self, name: str) -> bool:
        """Find out about one module. False if the process is of no more use."""
        blame = self._gate.blame_of(name)
        if blame is not None:
            self._refuse(name, blame["reason"], blame["lasting"])
            return True
        if name not in sys.modules:
            _tell(self._descriptor, {"importing": name})
            return self._import(name)
        self._verify(name)
        return True

    def _import(self, name: str) -> bool:
        self._check.before(strict=True)
        loaded = set(sys.modules)
        self._gate.open()
        self._observation.start()
        failure = try_import(name)
        was_observed = self._observation.stop()
        asked_for = self._gate.close()
        if getpid() != self._owner:
            # The module has forked, and this is the copy.
            os._exit(0)
        imported = imported_since(loaded)
        failed = failure is not None or asked_for is not None
        problems = self._check.after(name, imported, left=imported if failed else ())
        problems += self._gate.passed_by(imported)
        if not was_observed and sys.getprofile() is None:
            problems.append("it changed the trace or profile functions")
        seen = self._observation.seen()
        if asked_for is not None:
            self._blame(name, because_of(asked_for, self._gate.blames[asked_for])["reason"])
        elif problems or seen:
            told = [] if failure is None else [failure]
            self._blame(name, "; ".join([*told, *problems, *self._observation.told(name)]))
        elif failure is not None:
            # It may do better another time.
            self._refuse(name, failure, lasting=False)
        else:
            self._verify(name)
        # What a module has asked for is gone with it, if it failed.
        return not problems and (failed or not seen)

    def _verify(self, name: str) -> None:
        _tell(self._descriptor, {"verified": name})

    def _blame(self, name: str, reason: str) -> None:
        """Refuse it, and whatever imports it or what it has imported."""
        self._gate.blame(reason, [name])
        for text, modules in self._observation.seen():
            self._gate.blame(text, modules)
        remove_temporary_folders()
        self._refuse(name, reason, lasting=True)

    def _refuse(self, name: str, reason: str, lasting: bool) -> None:
        new = dict(list(self._gate.blames.items())[self._told :])
        self._told += len(new)
        message = {"refused": name, "reason": reason, "lasting": lasting, "blames": new}
        _tell(self._descriptor, message)
