"""Virtual environments that are made once and kept between runs."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

BACKENDS = Path(__file__).with_name("backends.txt")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between the processes that run tests: one of them makes `path` for all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def python_with(venv: Path, requirements: Path) -> str:
    """The interpreter of an environment with the listed packages; remade when the list changes."""
    made_from = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    stamp = venv / "made-from"
    python = str(venv / "bin" / "python")
    with locked(venv):
        if not stamp.exists() or stamp.read_text() != made_from:
            subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
            install = ["-m", "pip", "install", "--quiet", "--requirement", str(requirements)]
            subprocess.run([python, *install], check=True)
            stamp.write_text(made_from)
    return python


def backends_python(target: Path) -> str:
    """The interpreter of the environment with the build backends of the real projects."""
    return python_with(target / "backends-venv", BACKENDS)
