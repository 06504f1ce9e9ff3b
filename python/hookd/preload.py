"""Importing modules ahead of the hooks that will want them, and only those that do no harm."""

from __future__ import annotations

import os
import sys
from time import monotonic

from hookd.callers import Callers
from hookd.import_batch import ImportBatch
from hookd.imports import imported_since
from hookd.learning import LearnedQueue
from hookd.observation import Observation
from hookd.preload_check import (
    KEEPS_WHAT_IT_FINDS,
    MOST_MEMORY,
    PreloadCheck,
    is_banned,
)
from hookd.process_state import remove_temporary_folders, resident_bytes
from hookd.shadowing import note_learned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Set

    from hookd.fork_channel import ForkChannel
    from hookd.output_check import OutputCheck

LONGEST_REASON = 4000

LONGEST_AT_ONCE = 1.0
"""How long the first worker waits for learned modules, in seconds."""


class Preloader:
    """Imports modules in the template, and tells the supervisor what came of it."""

    def __init__(
        self,
        channel: ForkChannel,
        output: OutputCheck,
        log: Callable[[str], None],
        leave_template: Callable[[], None],
    ) -> None:
        self.tainted_by: Optional[str] = None
        """The module that has changed the template, which is of no more use."""
        self.queue = LearnedQueue(leave_template, log)
        self._channel = channel
        self._check = PreloadCheck(output)
        self._log = log
        self._observation = Observation(Callers(), for_good=False)
        self._verified: Set[str] = set()
        """Learned modules that are known to do no harm, whichever hook imports them."""
        self._verified_backends: Set[str] = set()
        self._is_full = False

    def tell_start(self) -> None:
        """Tell what the interpreter and hookd have imported by themselves."""
        path = [entry for entry in sys.path if isinstance(entry, str)]
        lists: Dict[str, List[Any]] = {
            "modules": _with_identity(imported_since(())),
            "folders": [_stamp(entry) for entry in path if os.path.exists(entry)],
            "path": path,
        }
        self._channel.send_lists({}, lists, wrapper="started")

    # Learned modules.

    def append(self, names: List[str]) -> None:
        """Have these tried, and then imported, when there is nothing better to do."""
        if self.tainted_by is None:
            self.queue.append(names, verified=False)

    def import_verified(self, names: List[str]) -> None:
        """Import these before the first worker is forked: most hooks will want them, and all of
        them would have to import them anew. Those that take too long wait as others do.
        """
        if self.tainted_by is None:
            deadline = monotonic() + LONGEST_AT_ONCE
            self.queue.append(names, verified=True)
            self._import_ready(lambda: monotonic() > deadline)
            self._bound_memory()
            self._tell_if_idle()

    def go_on(self, is_wanted: Callable[[], bool]) -> None:
        """Do the next thing with learned modules, if `queue.is_ready`; several, as long as nothing
        else is wanted.
        """
        self._import_ready(is_wanted)
        self._bound_memory()
        self.queue.start_trial()
        self._tell_if_idle()

    def take_verdicts(self) -> None:
        """See what the trial has found out, or whether it has ended."""
        for verdict in self.queue.take_verdicts():
            reason, lasting = verdict["reason"], verdict["lasting"]
            self._refuse(verdict["refused"], True, [reason], lasting=lasting)
        self._tell_if_idle()

    def _tell_if_idle(self) -> None:
        if self.tainted_by is None and self.queue.has_become_empty():
            self._channel.send({"idle": len(sys.modules)})

    def _bound_memory(self) -> None:
        if resident_bytes() <= MOST_MEMORY:
            return
        self.queue.drop()
        if not self._is_full:
            self._is_full = True
            message = "more than {} MiB are in use: no more learned modules are imported"
            self._log(message.format(MOST_MEMORY >> 20))

    def _import_ready(self, is_wanted: Callable[[], bool]) -> None:
        """Import all that is ready, until something else is wanted.

        The process is looked at before the first and after the last: each does no harm by itself,
        as was found before.
        """
        batch = ImportBatch(self._check)
        while batch.failure is None and resident_bytes() <= MOST_MEMORY:
            name = self.queue.take_ready()
            if name is None:
                break
            self._channel.send({"importing": name, "learned": True})
            if is_banned(name) and name not in sys.modules:
                self._refuse(name, True, [KEEPS_WHAT_IT_FINDS], lasting=True)
                continue
            batch.add(name)
            if is_wanted():
                break
        if batch.names:
            self._judge(batch)

    def _judge(self, batch: ImportBatch) -> None:
        imported, problems = batch.end()
        failure = [] if batch.failure is None else [batch.failure]
        if problems:
            self._refuse_all(batch.names, failure + problems)
            return
        names = [module["name"] for module in imported]
        note_learned(names)
        self._verified.update(names)
        if failure:
            self._refuse(batch.names.pop(), True, failure)
        for name in batch.names:
            # What is new is told with the first.
            self._tell_imported(name, True, imported)
            imported = []

    def _refuse_all(self, names: List[str], problems: List[str]) -> None:
        # Which of several it was, a trial of each is to find out, at another time.
        for name in names:
            reasons = problems
            if len(names) > 1:
                reasons = ["it, or one of {} others".format(len(names) - 1), *problems]
            self._refuse(name, True, reasons, tainted=True, lasting=len(names) == 1)

    # The backend.

    def import_backends(self, names: List[str], verified: bool) -> None:
        """Import these modules at once."""
        for name in names:
            if self.tainted_by is None:
                self._import_backend(name, verified)

    def _import_backend(self, name: str, verified: bool) -> None:
        self._channel.send({"importing": name, "learned": False})
        if name in sys.modules:
            self._tell_imported(name, False, [])
        elif is_banned(name):
            self._refuse(name, False, [KEEPS_WHAT_IT_FINDS], lasting=True)
        else:
            self._import_new_backend(name, verified)

    def _import_new_backend(self, name: str, verified: bool) -> None:
        batch = ImportBatch(self._check)
        batch.add(name, self._observation if not verified else None)
        imported, problems = batch.end()
        if not verified and batch.failure is None:
            problems += self._observation.told(name)
        if batch.failure is not None:
            reasons, tainted = [batch.failure, *problems], bool(problems)
            self._refuse(name, False, reasons, tainted=tainted, lasting=tainted)
        elif problems:
            self._refuse(name, False, problems, tainted=True, lasting=True)
        else:
            self._verified_backends.add(name)
            self._tell_imported(name, False, imported)

    # What is told.

    def _refuse(
        self,
        name: str,
        learned: bool,
        problems: List[str],
        tainted: bool = False,
        lasting: bool = False,
    ) -> None:
        if tainted:
            self.tainted_by = name
            self.queue.drop()
            remove_temporary_folders()
        message = {
            "refused": name,
            "learned": learned,
            "reason": "; ".join(problems)[:LONGEST_REASON],
            "tainted": tainted,
            "lasting": lasting,
        }
        self._channel.send(message)

    def _tell_imported(self, name: str, learned: bool, imported: List[Dict[str, Any]]) -> None:
        verified = self._verified if learned else self._verified_backends
        folders = [
            _stamp(folder) for module in imported for folder in _package_folders(module["name"])
        ]
        self._channel.send_lists(
            {"imported": name, "learned": learned, "verified": name in verified},
            {"modules": _with_identity(imported), "folders": folders},
        )


def _with_identity(modules: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Those of the modules that have a file, with all by which a change of it is seen."""
    described = []
    for module in modules:
        if module["file"] is not None:
            entry = {"name": module["name"], "file": module["file"]}
            entry.update(_identity(module["file"]))
            described.append(entry)
    return described


def _identity(file: str) -> Dict[str, Optional[int]]:
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        # In a zip file, or gone.
        return {"device": None, "inode": None, "size": None, "mtime_ns": None}
    return {
        "device": status.st_dev,
        "inode": status.st_ino,
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }


def _package_folders(name: str) -> List[str]:
    """Where the import system looks for a package's modules."""
    try:
        path = vars(sys.modules[name]).get("__path__", ())
        return [os.path.abspath(entry) for entry in path if isinstance(entry, str)]
    except BaseException:
        # It is no module, or its __path__ is of somebody's own making.
        return []


def _stamp(path: str) -> List[Any]:
    path = os.path.abspath(path)
    return [path, _identity(path)["mtime_ns"]]
