"""The entry, as ``python path/to/hookd`` and as ``python -m hookd``.

The best way to run it is ``python path/to/hookd/__main__.py``: Python writes no bytecode for a
script, so no damaged bytecode can keep this file from running. That is why it is short.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, List


def enter() -> None:
    """Import the package, undo what that did to ``sys.path``, and run the worker."""
    folder = os.path.dirname(os.path.abspath(__file__))
    # Hooks must not see the entry that the interpreter put first on sys.path to run us: our own
    # folder (python FOLDER), or the current one (python -m).
    if __package__:
        if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
            del sys.path[0]
    elif sys.path and os.path.abspath(sys.path[0]) == folder:
        del sys.path[0]

    parent = os.path.dirname(folder)
    sys.path.insert(0, parent)
    try:
        try:
            main = import_all()
        except (EOFError, ImportError, TypeError, ValueError):
            # The errors that marshal raises for truncated bytecode. Python before 3.12.8 and
            # 3.13.1 leaves such files behind when the disk is full.
            main = import_without_bytecode(folder)
    finally:
        sys.path.remove(parent)
    main(sys.argv[1:])


def import_all() -> Callable[[List[str]], None]:
    """Import all of our modules at once.

    None may be imported later: by then the path is gone, and a user's module may have our name.
    """
    from hookd.retained import EagerImports

    with EagerImports():
        if sys.argv[1:2] == ["--guard"]:
            # It is started for each installer, and needs nothing of a worker.
            from hookd.guard import main
        else:
            from hookd.main import main
    return main


def import_without_bytecode(folder: str) -> Callable[[List[str]], None]:
    """Delete the bytecode, so that the next process writes it again, and import the sources."""
    for place, _, names in os.walk(folder):
        for name in names if os.path.basename(place) == "__pycache__" else []:
            try:
                os.unlink(os.path.join(place, name))
            except OSError:
                # Another process has deleted it, or we are not allowed to.
                pass
    for name in [name for name in sys.modules if name == "hookd" or name.startswith("hookd.")]:
        del sys.modules[name]
    tag = sys.implementation.cache_tag
    # Without a tag no bytecode is read or written (PEP 421): the disk may still be full.
    sys.implementation.cache_tag = None  # type: ignore[assignment]
    try:
        return import_all()
    finally:
        sys.implementation.cache_tag = tag


# A hook that uses multiprocessing's "spawn" imports this file again under another name.
if __name__ == "__main__":
    enter()
