"""Whether a module may be imported ahead of the hooks that want it: judged by what that changed."""

from __future__ import annotations

import sys

from hookd.failures import describe, qualified_name
from hookd.interpreter_state import InterpreterState
from hookd.patches import Definitions
from hookd.process_state import ProcessState, settled_threads
from hookd.standard_library import StandardLibrary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Sequence

    from hookd.output_check import OutputCheck

# What these find in sys.path and the environment.
BANNED = ("pkg_resources", "setuptools.command.easy_install", "setuptools.package_index")

KEEPS_WHAT_IT_FINDS = "it keeps what it finds at its import"

# What these modules are known to change, and what changes no answer. `ast` is the only one of the
# standard library that changes another: its own classes, which are written in C.
# `typing_extensions` has older Pythons' `typing` check type parameters as newer ones do; it is
# imported by half of all backends.
KNOWN_PATCHES = {
    "ast": ("ast.", "_ast."),
    "typing_extensions": (
        "typing._collect_type_vars",
        "typing._collect_parameters",
        "typing._check_generic",
    ),
}

MOST_TOLD = 5

MOST_MEMORY = 512 << 20
"""With more than this in use no further module is imported ahead of the hooks."""


def is_banned(name: str) -> bool:
    """Whether this module is never preloaded."""
    return any(name == banned or name.startswith(banned + ".") for banned in BANNED)


def try_import(name: str) -> Optional[str]:
    """Import a module; what went wrong is returned."""
    try:
        __import__(name)
    except BaseException as error:
        # SystemExit too: a module may end its program, but this is not its program.
        kind = qualified_name(type(error))
        return "its import failed: {}: {}".format(kind, describe(error, "it"))
    return None


class PreloadCheck:
    """Looks at the process before and after each import."""

    def __init__(self, output: OutputCheck) -> None:
        self._output = output
        self._definitions: Optional[Definitions] = None
        self._interpreter: Optional[InterpreterState] = None
        self._standard = StandardLibrary()

    def before(self, strict: bool) -> None:
        """Take down how everything is.

        It must be `strict` for learned modules, unless that they do no harm is known already; the
        backend may replace what it likes.
        """
        self._interpreter = None
        if strict:
            if self._definitions is None:
                self._definitions = Definitions()
            self._definitions.remember()
            self._interpreter = InterpreterState()
        else:
            self._definitions = None
        self._process = ProcessState(self._output)

    def after(
        self, name: str, imported: List[Dict[str, Any]], left: Sequence[Dict[str, Any]] = ()
    ) -> List[str]:
        """What speaks against the import that was made, for people to read.

        `imported` are the new modules, as `imported_since` describes them, and `left` those of them
        that a failed import has left behind.
        """
        names = {module["name"] for module in imported}
        problems = []
        # First of all: a thread that has just ended is waited for, and may change something yet.
        if settled_threads() > 1:
            problems.append("it started a thread")
        problems += self._process.changes_to(ProcessState(self._output), names)
        problems += ["it imported " + banned for banned in BANNED if banned in names]
        if self._interpreter is not None:
            changed = self._interpreter.changes_to(InterpreterState())
            changed += self._patches(name, imported)
            if changed:
                more = " and more" if len(changed) > MOST_TOLD else ""
                problems.append("it changed " + ", ".join(changed[:MOST_TOLD]) + more)
        if any(map(self._is_to_be_missed, left)):
            problems.append("other modules that it imported are left")
        return problems

    def _is_to_be_missed(self, module: Dict[str, Any]) -> bool:
        """Whether a module must not be there that nobody was told of."""
        if module["file"] is None:
            return False
        # Where all is strict a trial is made, of which no hook will see anything.
        return self._interpreter is None or not self._standard.holds(module["file"])

    def _patches(self, name: str, imported: List[Dict[str, Any]]) -> List[str]:
        if self._definitions is None:
            return []
        # Looked for in any case, lest the next module is blamed.
        changes = self._definitions.changes()
        files = [module["file"] for module in imported if module["file"] is not None]
        if name in sys.modules and files and all(map(self._standard.holds, files)):
            return []
        for module in imported:
            allowed = KNOWN_PATCHES.get(module["name"])
            if allowed is not None:
                changes = [change for change in changes if not change.startswith(allowed)]
        return changes
