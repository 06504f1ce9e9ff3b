"""A user without privileges and without other processes, for tests that root runs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import processes

# The limit of processes counts all that a user has, so each process of pytest has a user of its
# own. The number needs no name: containers run with such users, too.
USER = 20_000 + os.getpid() % 40_000


def become_other_user() -> None:
    """Root may write everywhere, so the permissions of folders are tested as another user."""
    os.setgroups([])
    os.setgid(USER)
    os.setuid(USER)


@contextmanager
def folder_of_other_user() -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder that the user can read, and variables for a private one; both outside pytest's."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        for folder in ("tmp", "home"):
            (place / folder).mkdir()
            os.chown(place / folder, USER, USER)
        home = str(place / "home")
        yield place, {"TMPDIR": str(place / "tmp"), "HOME": home, "XDG_CACHE_HOME": home}


def wait_no_processes() -> None:
    """Wait until the user has no process: one that ends still counts for the next one's limit."""
    processes.wait_until(lambda: USER not in processes.users())
