"""Importing modules in a template, ahead of the hooks that will want them."""

from __future__ import annotations

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from time import monotonic

from hookd.hook.modules import imported_since
from hookd.hook.observer import observer
from hookd.hook.shadowing import note_learned
from hookd.protocol.failures import describe, qualified_name
from hookd.template.loaded_files import LoadedFiles, loaded_modules, stamp
from hookd.template.observation import Observation
from hookd.template.preloadable import (
    Preloadable,
    exceptions_among,
    is_excepted,
    is_never_preloaded,
)
from hookd.template.process_state import ProcessState, remove_temporary_folders
from hookd.template.variables import ReadVariables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

    from hookd.template.channel import ForkChannel
    from hookd.template.process_state import OutputFile
    from hookd.template.variables import Variables

LONGEST_REASON = 4000


class Preloader:
    """Imports the backend and learned modules, and reports the outcome to the supervisor."""

    def __init__(self, channel: ForkChannel, output: OutputFile) -> None:
        self.is_spoilt = False
        """Whether an import has changed the process, which is of no more use as a template."""
        self._channel = channel
        self._output = output
        self._preloadable = Preloadable()
        self._owner = os.getpid()
        self._learned: List[str] = []
        """Learned modules that are still to be imported."""
        self._was_idle = True
        self._read = ReadVariables()

    def would_differ(self, variables: Variables) -> bool:
        """Whether something that was imported would have found other variables in a process with
        these."""
        present: Variables = os.environ._data  # type: ignore[attr-defined]
        return self._read.differ(present, variables)

    def tell_start(self) -> None:
        """Report what the interpreter and hookd have imported by themselves."""
        path = [entry for entry in sys.path if isinstance(entry, str)]
        lists: Dict[str, List[Any]] = {
            "modules": loaded_modules(imported_since((), self._preloadable)),
            "folders": [stamp(entry) for entry in path],
            "path": path,
        }
        self._channel.send_lists({}, lists, wrapper="started")

    # The backend.

    def import_backend(self, name: str) -> None:
        """Import this module, or report why it must not be preloaded."""
        if self.is_spoilt:
            return
        if is_never_preloaded(name):
            self._refuse("backend", ["it keeps what it finds at its import"], spoilt=False)
            return
        self._channel.send({"importing": "backend"})
        before = ProcessState(self._output)
        loaded = set(sys.modules)
        # Known modules were examined by a test.
        observation = None if self._is_known(name) else Observation(self._preloadable)
        error = self._import(name, observation)
        imported = imported_since(loaded, self._preloadable)
        self._tell_read(imported)
        problems = before.changes_to(ProcessState(self._output), _names(imported))
        problems += ["it imported " + each for each in exceptions_among(_names(imported), True)]
        if observation is not None and error is None:
            problems += observation.seen()
        if error is not None and any(module["file"] is not None for module in imported):
            problems.append("other modules that it imported are left")
        if error is not None:
            self._refuse("backend", [_failure(error), *problems], spoilt=bool(problems))
        elif problems:
            self._refuse("backend", problems, spoilt=True)
        else:
            files = LoadedFiles()
            files.add(imported)
            self._tell_imported("backend", files)

    # Learned modules: hooks were seen to import them.

    def append_learned(self, names: List[str]) -> None:
        """Have these imported by the next calls of `import_learned`, in this order."""
        if not self.is_spoilt:
            self._learned += names
            self._was_idle = False

    def drop_learned(self) -> None:
        """Import none of those that wait."""
        self._learned.clear()

    def has_learned(self) -> bool:
        """Whether learned modules wait to be imported."""
        return bool(self._learned)

    def import_learned(self, seconds: float) -> None:
        """Import those that wait, for about this long at most.

        The process is compared before the first and after the last: known modules were found to be
        harmless, but this environment may have versions that were never examined.
        """
        self._channel.send({"importing": "learned"})
        before = ProcessState(self._output)
        names: List[str] = []
        all_imported: List[Dict[str, Any]] = []
        files = LoadedFiles()
        problems: List[str] = []
        until = monotonic() + seconds
        while self._learned and not problems and monotonic() < until:
            name = self._learned.pop(0)
            if name in sys.modules or is_excepted(name) or not self._is_known(name):
                continue
            loaded = set(sys.modules)
            error = self._import(name)
            # At once, before a file can be replaced by another.
            imported = imported_since(loaded, self._preloadable)
            files.add(imported)
            names += _names(imported)
            all_imported += imported
            # After a change of the environment there may be no such module any more.
            is_gone = isinstance(error, ModuleNotFoundError) and error.name == name
            if error is not None and not is_gone:
                problems.append("{}: {}".format(name, _failure(error)))
        self._tell_read(all_imported)
        problems += before.changes_to(ProcessState(self._output), names)
        problems += ["it imported " + each for each in exceptions_among(names, False)]
        if problems:
            self._refuse("learned", problems, spoilt=True)
        else:
            note_learned(names)
            self._tell_imported("learned", files)

    def tell_if_idle(self) -> None:
        """Report when no learned module is left, once each time."""
        if not self._was_idle and not self._learned and not self.is_spoilt:
            self._was_idle = True
            self._channel.send({"idle": len(sys.modules)})

    # For both.

    def _is_known(self, name: str) -> bool:
        """Whether the import system would find this module among what is known."""
        end = 0
        while end >= 0:
            end = name.find(".", end + 1)
            package = name if end < 0 else name[:end]
            try:
                file = _file_of(package)
                if file is None and package not in sys.modules:
                    # A namespace package (PEP 420): nothing is run to import it.
                    __import__(package)
            except Exception:
                # There is none of that name, or its package has something else in its place.
                return False
            if file is not None:
                return self._preloadable.holds(file)
        return False

    def _import(
        self, name: str, observation: Optional[Observation] = None
    ) -> Optional[BaseException]:
        """Import a module. Returns the exception that its code has raised, if any."""
        watching = observer()
        if watching is not None:
            watching.resume()
        try:
            with self._read:
                if observation is None:
                    __import__(name)
                else:
                    with observation:
                        __import__(name)
        except BaseException as error:
            # SystemExit too: a module may end its program, but this is not its program.
            return error
        finally:
            if os.getpid() != self._owner:
                # The module has forked, and this is the copy.
                os._exit(0)
            if watching is not None:
                watching.pause()
        return None

    def _tell_read(self, imported: List[Dict[str, Any]]) -> None:
        """Report the variables that imports have read."""
        for module in imported:
            file = module["file"] or ""
            if file.endswith(tuple(EXTENSION_SUFFIXES)) and not module["preloadable"]:
                # Nobody knows what its code in C has asked for.
                self._read.note_all()
        news = self._read.take_news()
        if news is not None:
            self._channel.send({"read": news})

    def _tell_imported(self, what: str, files: LoadedFiles) -> None:
        lists: Dict[str, List[Any]] = {"modules": files.modules, "folders": files.folders}
        self._channel.send_lists({"imported": what}, lists)

    def _refuse(self, what: str, reasons: List[str], spoilt: bool) -> None:
        if spoilt:
            self.is_spoilt = True
            self.drop_learned()
            remove_temporary_folders()
        reason = "; ".join(reasons)[:LONGEST_REASON]
        self._channel.send({"refused": what, "reason": reason, "spoilt": spoilt})


def _names(imported: List[Dict[str, Any]]) -> List[str]:
    return [module["name"] for module in imported]


def _failure(error: BaseException) -> str:
    kind = qualified_name(type(error))
    return "its import failed: {}: {}".format(kind, describe(error, "it"))


def _file_of(name: str) -> Optional[str]:
    """The file of a module, imported or not. Raises an exception if there is no such module."""
    module = sys.modules.get(name)
    file: Any = None
    if module is not None:
        file = vars(module).get("__file__")
    else:
        package = name.rpartition(".")[0]
        path = vars(sys.modules[package])["__path__"] if package else None
        spec = PathFinder.find_spec(name, path)
        if spec is None:
            raise ImportError(name)
        file = spec.origin if spec.has_location else None
    return os.path.abspath(file) if isinstance(file, str) else None
