"""Settings that the programs inherit."""

from __future__ import annotations

import resource
import signal


def prepare() -> None:
    """Disable core files, and stop ignoring the signals that background jobs of a script ignore."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # nohup(1) ignores it too.
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
