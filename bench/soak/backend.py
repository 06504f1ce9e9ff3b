"""The build backend of the soak: hooks record their start, and do what the request says."""

from __future__ import annotations

from enum import StrEnum


class Act(StrEnum):
    """What a hook does after it has recorded its start."""

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

# A single write of a line is atomic (O_APPEND).
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
    """The code of an in-tree backend."""
    # Python detects stale bytecode by the size and the time of the source, in seconds.
    imports = f"VERSION = {version}\n" + "#" * (version % 97)
    return TEXT.format(imports=imports, flood=FLOOD_BYTES, version="VERSION")


def of_environment() -> str:
    """The code of an installed backend, which imports another module in its hooks."""
    version = "__import__('soak_library').VERSION"
    return TEXT.format(imports="", flood=FLOOD_BYTES, version=version)


def library(version: int) -> str:
    """The code of that module."""
    return f"VERSION = {version}\n" + "#" * (version % 97) + "\n"
