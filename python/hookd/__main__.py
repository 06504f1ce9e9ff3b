"""The entry, as ``python path/to/hookd`` and as ``python -m hookd``.

Python never keeps the bytecode of this one file, so it is short.
"""

from __future__ import annotations

import os
import sys


def enter() -> None:
    """Import the package, undo what that did to ``sys.path``, and run the worker."""
    folder = os.path.dirname(os.path.abspath(__file__))
    # What the interpreter put first on sys.path in order to run us is not for hooks to see: our
    # own folder (python FOLDER), or the current one (python -m).
    if __package__:
        if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
            del sys.path[0]
    elif sys.path and os.path.abspath(sys.path[0]) == folder:
        del sys.path[0]

    parent = os.path.dirname(folder)
    sys.path.insert(0, parent)
    try:
        from hookd.eager_imports import EagerImports

        # Imports all of our modules at once. Nothing of ours is imported later, when this path is
        # gone, or when a user's module has taken our name.
        with EagerImports():
            from hookd.main import main
    finally:
        sys.path.remove(parent)
    main(sys.argv[1:])


# A hook that uses multiprocessing's "spawn" imports this file again under another name.
if __name__ == "__main__":
    enter()
