"""The build backend of the soak: hooks count themselves, and do what the request says."""

from __future__ import annotations

from enum import StrEnum


class Act(StrEnum):
    """What a hook does once it has counted itself."""

    ANSWER = "answer"
    NAP = "nap"
    PRINT = "print"
    FLOOD = "flood"
    RAISE = "raise"
    EXIT = "exit"
    SEGFAULT = "segfault"
    HANG = "hang"
    IGNORE = "ignore"
    CHILD = "child"
    DAEMON = "daemon"


FLOOD_BYTES = 3 << 20

# One write of a line is not torn by others' (O_APPEND).
TEXT = """\
import os, signal, subprocess, sys, time
{imports}

def get_requires_for_build_wheel(config_settings=None):
    act, token, counts = (config_settings[name] for name in ("act", "token", "counts"))
    descriptor = os.open(counts, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, token.encode() + b"\\n")
    os.close(descriptor)
    if act == "nap":
        time.sleep(0.02)
    elif act == "print":
        print("printed by", token)
        print("complained by", token, file=sys.stderr)
    elif act == "flood":
        sys.stdout.write("x" * {flood} + token)
    elif act == "raise":
        raise ValueError("raised by " + token)
    elif act == "exit":
        os._exit(7)
    elif act == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif act in ("hang", "ignore"):
        if act == "ignore":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(1000)
    elif act == "child":
        subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(1000)"])
    elif act == "daemon" and os.fork() == 0:
        os.setsid()
        for descriptor in range(3):
            os.close(descriptor)
        time.sleep(3)
        os._exit(0)
    return [token, str({version})]
"""


def in_tree(version: int) -> str:
    """A backend of a tree's own."""
    # Bytecode is told apart by the second of the source's time and its size.
    imports = f"VERSION = {version}\n" + "#" * (version % 97)
    return TEXT.format(imports=imports, flood=FLOOD_BYTES, version="VERSION")


def of_environment() -> str:
    """One that is installed, and imports another module inside of its hooks."""
    version = "__import__('soak_library').VERSION"
    return TEXT.format(imports="", flood=FLOOD_BYTES, version=version)


def library(version: int) -> str:
    """That module."""
    return f"VERSION = {version}\n" + "#" * (version % 97) + "\n"
