"""Virtual environments that are made once, and kept between runs."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from turns import alone

BACKENDS = Path(__file__).with_name("backends.txt")


def python_with(venv: Path, requirements: Path) -> str:
    """The interpreter of an environment with what is listed; made anew when the list changes."""
    made_from = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    stamp = venv / "made-from"
    python = str(venv / "bin" / "python")
    with alone(venv):
        if not stamp.exists() or stamp.read_text() != made_from:
            subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
            install = ["-m", "pip", "install", "--quiet", "--requirement", str(requirements)]
            subprocess.run([python, *install], check=True)
            stamp.write_text(made_from)
    return python


def backends_python(target: Path) -> str:
    """The interpreter of the environment with the build backends of the real projects."""
    return python_with(target / "backends-venv", BACKENDS)
