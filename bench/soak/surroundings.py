"""What the programs inherit."""

from __future__ import annotations

import resource
import signal


def prepare() -> None:
    """Leave no core files, and nothing ignored that is ignored in the background of a script."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # By nohup(1) too.
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
