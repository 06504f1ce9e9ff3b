"""Importing modules ahead of the hooks that will want them, and only those that do no harm."""

from __future__ import annotations

import os
import sys
from time import monotonic

from hookd.callers import Callers
from hookd.import_batch import ImportBatch
from hookd.imports import imported_since
from hookd.learning import LearnedQueue
from hookd.loaded_files import LoadedFiles, loaded_modules, stamp
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
"""How long workers wait for learned modules that are verified, all in all, in seconds."""


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
        self._at_once_until: Optional[float] = None

    def tell_start(self) -> None:
        """Tell what the interpreter and hookd have imported by themselves."""
        path = [entry for entry in sys.path if isinstance(entry, str)]
        lists: Dict[str, List[Any]] = {
            "modules": loaded_modules(imported_since(())),
            "folders": [stamp(entry) for entry in path if os.path.exists(entry)],
            "path": path,
        }
        self._channel.send_lists({}, lists, wrapper="started")

    # Learned modules.

    def append(self, names: List[str]) -> None:
        """Have these tried, and then imported, when there is nothing better to do."""
        if self.tainted_by is None:
            self.queue.append(names, verified=False)

    def import_verified(self, names: List[str]) -> None:
        """Import these before the first worker is forked: most hooks will want them, and each of
        them would have to import them anew. Those that take too long wait as others do.

        The process is looked at before the first and after the last: each does no harm by itself,
        as was found before.
        """
        if self.tainted_by is not None:
            return
        if self._at_once_until is None:
            self._at_once_until = monotonic() + LONGEST_AT_ONCE
        batch = ImportBatch(self._check)
        remaining = self._begin(names, learned=True)
        while remaining and not batch.is_over() and monotonic() < self._at_once_until:
            batch.add(remaining.pop(0))
        self._judge(batch)
        if self.tainted_by is None:
            self.queue.append(remaining, verified=True)
            self.queue.note_import()

    def go_on(self) -> None:
        """Do the next thing with learned modules, if `queue.is_ready`."""
        if resident_bytes() > MOST_MEMORY:
            self._tell_full()
            self.queue.drop()
            return
        name = self.queue.take_ready()
        if name is None:
            self.queue.start_trial()
        else:
            batch = ImportBatch(self._check)
            if self._begin([name], learned=True):
                batch.add(name)
                self._judge(batch)

    def take_verdicts(self) -> None:
        """See what the trial has found out, or whether it has ended."""
        for verdict in self.queue.take_verdicts():
            reason, lasting = verdict["reason"], verdict["lasting"]
            self._refuse(verdict["refused"], True, [reason], lasting=lasting)

    def tell_if_idle(self) -> None:
        """Tell that nothing is left to be imported, if that is so since a moment ago."""
        if self.tainted_by is None and self.queue.has_become_empty():
            self._channel.send({"idle": len(sys.modules)})

    def _tell_full(self) -> None:
        if not self._is_full:
            self._is_full = True
            message = "more than {} MiB are in use: no more learned modules are imported"
            self._log(message.format(MOST_MEMORY >> 20))

    def _judge(self, batch: ImportBatch) -> None:
        problems = batch.end()
        if problems:
            self._refuse_all(batch, problems)
            return
        note_learned(batch.imported)
        self._verified.update(batch.imported)
        if batch.done or not batch.failures:
            self._tell_imported(batch.done, True, batch.loaded)
        if batch.failures:
            self._refuse(batch.last, True, batch.failures)

    def _refuse_all(self, batch: ImportBatch, problems: List[str]) -> None:
        """Refuse what may have changed the template: all of the batch, if it is not known which.

        They are to be tried again then, each by itself.
        """
        reasons = [*batch.failures, *problems]
        suspects = batch.suspects()
        if len(suspects) > 1:
            reasons.insert(0, "it, or one of {} others".format(len(suspects) - 1))
        for name in suspects:
            self._refuse(name, True, reasons, tainted=True, lasting=len(suspects) == 1)

    # The backend.

    def import_backends(self, names: List[str], verified: bool) -> None:
        """Import these modules at once."""
        for name in names:
            if self.tainted_by is None:
                self._import_backend(name, verified)

    def _import_backend(self, name: str, verified: bool) -> None:
        if not self._begin([name], learned=False):
            return
        if name in sys.modules:
            self._tell_imported([name], False, LoadedFiles())
        else:
            self._import_new_backend(name, verified)

    def _import_new_backend(self, name: str, verified: bool) -> None:
        batch = ImportBatch(self._check)
        batch.add(name, None if verified else self._observation)
        problems = batch.end()
        if not verified and not batch.failures:
            problems += self._observation.told(name)
        reasons, tainted = [*batch.failures, *problems], bool(problems)
        if reasons:
            self._refuse(name, False, reasons, tainted=tainted, lasting=tainted)
        else:
            self._verified_backends.add(name)
            self._tell_imported(batch.done, False, batch.loaded)

    # What is told.

    def _begin(self, names: List[str], learned: bool) -> List[str]:
        """Refuse those that must not be imported, and tell that the imports of the others begin."""
        allowed = []
        for name in names:
            if name in sys.modules or not is_banned(name):
                allowed.append(name)
            else:
                self._refuse(name, learned, [KEEPS_WHAT_IT_FINDS], lasting=True)
        if allowed:
            self._channel.send_lists({"learned": learned}, {"importing": allowed})
        return allowed

    def _refuse(
        self,
        name: str,
        learned: bool,
        problems: List[str],
        tainted: bool = False,
        lasting: bool = False,
    ) -> None:
        if tainted:
            self.tainted_by = self.tainted_by or name
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

    def _tell_imported(self, names: List[str], learned: bool, loaded: LoadedFiles) -> None:
        all_verified = self._verified if learned else self._verified_backends
        verified = [name for name in names if name in all_verified]
        others = [name for name in names if name not in all_verified]
        if verified and others:
            # These were there before.
            self._send_imported(others, learned, False, LoadedFiles())
        self._send_imported(verified or others, learned, bool(verified), loaded)

    def _send_imported(
        self, names: List[str], learned: bool, verified: bool, loaded: LoadedFiles
    ) -> None:
        self._channel.send_lists(
            {"learned": learned, "verified": verified},
            # In this order: of modules that are told to be verified, the files are known by then.
            {"modules": loaded.modules, "folders": loaded.folders, "imported": names},
        )
