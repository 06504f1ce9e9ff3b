"""Describing an exception for people: type, text, places in the code, and causes."""

from __future__ import annotations

from os import __file__ as _os_file
from os.path import dirname, isabs
from os.path import join as join_path

from hookd.protocol.failures import describe, is_ours, qualified_name, shortened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, List, Optional, Set

MOST_EXCEPTIONS = 8
MOST_PLACES = 3
# In characters. A text of this length that the next exception repeats is left out: distutils
# repeats the text of a command that failed.
SHORTEST_REPEATED = 40
# In characters, as for `shortened`: a long text must leave room for the rest.
LONGEST_PART = 8 << 10

INSTALLED = ("/site-packages/", "/dist-packages/")
# Computed before any hook has run.
STANDARD_LIBRARY = join_path(dirname(_os_file), "")


def account_of(error: BaseException, who: str, tree: str) -> str:
    """Describe an exception: its text, the last places in the user's code that led to it, its
    causes, and the parts of an exception group.

    Every access to an exception may run a user's code, and may fail. `who` is named as the one that
    called ``sys.exit``.
    """
    account = _Account(who, tree)
    account.add(error)
    return "\n".join(account.lines)


class _Account:
    def __init__(self, who: str, tree: str) -> None:
        self._who = who
        self._folder = join_path(tree, "")
        self.lines: List[str] = []
        self._told: Set[int] = set()

    def add(
        self, error: BaseException, title: str = "", indent: str = "", before: str = ""
    ) -> None:
        """Add the lines for an exception; `before` is the text of the exception that it caused."""
        if id(error) in self._told or len(self._told) == MOST_EXCEPTIONS:
            return
        self._told.add(id(error))
        text = describe(error, self._who)
        if len(text) < SHORTEST_REPEATED or text not in before:
            self._add_lines(error, title, indent, text)
        for part in _parts(error):
            self.add(part, "- ", indent + "  ")
        cause = _of(error, "__cause__")
        if cause is not None:
            self.add(cause, "caused by ", indent, text)
        elif not _of(error, "__suppress_context__"):
            context = _of(error, "__context__")
            if context is not None:
                self.add(context, "while handling ", indent, text)

    def _add_lines(self, error: BaseException, title: str, indent: str, text: str) -> None:
        # Not isinstance, which asks the exception for its class.
        if not issubclass(type(error), SystemExit):
            text = ": ".join(part for part in (qualified_name(type(error)), text) if part)
        text = title + shortened("\n".join([text, *_notes(error)]), LONGEST_PART)
        self.lines += [indent + line for line in text.split("\n")]
        self.lines += [indent + "  at " + place for place in self._places(error)]

    def _places(self, error: BaseException) -> List[str]:
        """The last places in the user's code, the last one first; if none, the last of all."""
        places: List[str] = []
        last: List[str] = []
        try:
            entry: Optional[TracebackType] = _of(error, "__traceback__")
            while entry is not None:
                file = _file(entry)
                if not (is_ours(entry) or file.startswith("<frozen ")):
                    last = [self._place(entry, file)]
                    if _is_the_users(file):
                        places = (last + places)[:MOST_PLACES]
                entry = entry.tb_next
        except BaseException:
            pass
        return places or last

    def _place(self, entry: TracebackType, file: str) -> str:
        installed = _where_installed(file)
        if installed:
            file = file[installed:]
        elif file.startswith(self._folder):
            file = file[len(self._folder) :]
        function = entry.tb_frame.f_code.co_name
        where = "" if function == "<module>" else ", in " + function
        return "{}, line {}{}".format(file, entry.tb_lineno, where)


def _of(error: BaseException, name: str) -> Any:
    # Not what a user's class defines under this name.
    return BaseException.__dict__[name].__get__(error)


def _notes(error: BaseException) -> List[str]:
    """PEP 678."""
    try:
        notes: Any = error.__notes__  # type: ignore[attr-defined]
        return [str.__str__(note) for note in _plain_list(notes)]
    except BaseException:
        return []


def _parts(error: BaseException) -> List[BaseException]:
    """The exceptions in an exception group, Python's or the backport for Python before 3.11."""
    try:
        if not type(error).__name__.endswith("ExceptionGroup"):
            return []
        parts: Any = error.exceptions  # type: ignore[attr-defined]
        return [part for part in _plain_list(parts) if issubclass(type(part), BaseException)]
    except BaseException:
        return []


def _plain_list(values: Any) -> List[Any]:
    # Other iterables may be infinite.
    return list(values) if type(values) in (list, tuple) else []


def _file(entry: TracebackType) -> str:
    """The file of the code. setuptools runs setup.py as a string, and sets its `__file__`."""
    frame = entry.tb_frame
    file = frame.f_code.co_filename
    if file == "<string>":
        told = dict.get(frame.f_globals, "__file__")
        if type(told) is str:
            return told
    return file


def _is_the_users(file: str) -> bool:
    """Whether a file is neither installed nor of the standard library."""
    if file.startswith("<"):
        return file == "<string>"
    if _where_installed(file):
        return False
    return not (isabs(file) and file.startswith(STANDARD_LIBRARY))


def _where_installed(file: str) -> int:
    """The index in the path at which the name of an installed module begins; 0 for others."""
    for folder in INSTALLED:
        if folder in file:
            return file.rindex(folder) + len(folder)
    return 0
