"""Importing modules ahead of the hooks that will want them, and only those that do no harm."""

from __future__ import annotations

import os
import sys

from hookd.callers import Callers
from hookd.imports import imported_since
from hookd.learning import LearnedQueue
from hookd.observation import Observation
from hookd.preload_check import (
    KEEPS_WHAT_IT_FINDS,
    MOST_MEMORY,
    PreloadCheck,
    is_banned,
    try_import,
)
from hookd.process_state import remove_temporary_folders, resident_bytes
from hookd.shadowing import note_learned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Set

    from hookd.fork_channel import ForkChannel
    from hookd.output_check import OutputCheck

LONGEST_REASON = 4000


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
        self._owner = os.getpid()

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

    def append(self, names: List[str], verified: bool) -> None:
        """Have these imported one by one, when there is nothing better to do.

        Those that are not verified are tried before that.
        """
        if self.tainted_by is None:
            self.queue.append(names, verified)

    def go_on(self) -> None:
        """Do the next thing with learned modules, if `queue.is_ready`."""
        if resident_bytes() > MOST_MEMORY:
            self._tell_full()
            self.queue.drop()
        else:
            name = self.queue.next_ready()
            if name is not None:
                self._import(name, learned=True, verified=True)
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

    def _tell_full(self) -> None:
        if not self._is_full:
            self._is_full = True
            message = "more than {} MiB are in use: no more learned modules are imported"
            self._log(message.format(MOST_MEMORY >> 20))

    # One module.

    def import_now(self, names: List[str], verified: bool) -> None:
        """Import these modules at once."""
        for name in names:
            if self.tainted_by is None:
                self._import(name, learned=False, verified=verified)

    def _import(self, name: str, learned: bool, verified: bool) -> None:
        self._channel.send({"importing": name, "learned": learned})
        if name in sys.modules:
            self._tell_imported(name, learned, [])
        elif is_banned(name):
            self._refuse(name, learned, [KEEPS_WHAT_IT_FINDS], lasting=True)
        else:
            self._import_new(name, learned, verified)

    def _import_new(self, name: str, learned: bool, verified: bool) -> None:
        self._check.before(strict=False)
        loaded = set(sys.modules)
        failure = try_import(name) if verified else self._try_observed(name)
        if os.getpid() != self._owner:
            # The module has forked, and this is the copy.
            os._exit(0)
        imported = imported_since(loaded)
        problems = self._check.after(name, imported, failed=failure is not None)
        if not verified and failure is None:
            problems += self._observation.told(name)
        if failure is not None:
            self._refuse(name, learned, [failure, *problems], tainted=bool(problems))
        elif problems:
            self._refuse(name, learned, problems, tainted=True)
        elif learned:
            names = [module["name"] for module in imported]
            note_learned(names)
            self._verified.update(names)
            self._tell_imported(name, learned, imported)
        else:
            self._verified_backends.add(name)
            self._tell_imported(name, learned, imported)

    def _try_observed(self, name: str) -> Optional[str]:
        self._observation.start()
        try:
            return try_import(name)
        finally:
            # The backend may have others see its calls from then on.
            self._observation.stop()

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
            "lasting": tainted or lasting,
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
