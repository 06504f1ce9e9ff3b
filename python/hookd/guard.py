"""Guarding a program: whatever it starts ends with it, and all of it with the supervisor.

An installer starts compilers and build backends, which the supervisor could neither find nor kill
once their parent is dead. So it has a parent that adopts them, and that sees the supervisor's
death by itself.
"""

from __future__ import annotations

import os
import signal
import sys

from hookd.process import libc
from hookd.process.children import HAS_WAITID, kill_all, reap_others, send_group_signal
from hookd.process.descriptors import point_at_null_device, wait_readable
from hookd.process.signals import PAUSE_SIGNALS, STOP_SIGNALS, SignalWatch, die_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, NoReturn, Optional

# sh(1): the program could not be started.
EXIT_NOT_STARTED = 127
# Nobody is left to see it.
EXIT_CALLER_GONE = 1


def guard(command: List[str]) -> NoReturn:
    """Run the command to its end, kill what it left behind, and end as it did.

    Standard input is not the command's: its end means that nobody wants the command any more, and
    kills it. SIGINT, SIGTERM and SIGCONT go to the command's process group; at SIGTSTP it is
    stopped, by SIGSTOP: SIGTSTP is ignored in groups that no shell could continue.
    """
    control = os.dup(0)
    point_at_null_device(os.O_RDONLY, 0)
    signals = SignalWatch(STOP_SIGNALS + PAUSE_SIGNALS)
    _adopt_orphans()
    program = _start(command, signals)
    status = _wait(program, control, signals)
    if status is None:
        os._exit(EXIT_CALLER_GONE)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGKILL:
            # No handler of it could be reset.
            os.kill(os.getpid(), number)
        die_of(number)
    os._exit(os.WEXITSTATUS(status))


def _adopt_orphans() -> None:
    try:
        libc.become_subreaper()
        # Until here the supervisor's death has killed us; from here on we have to kill others
        # then. Whether it died in between is told by the end of input.
        libc.die_with_parent(0)
    except libc.NotAvailable:
        # What leaves the process group is missed, as on platforms without subreapers.
        pass


def _start(command: List[str], signals: SignalWatch) -> int:
    guard_pid = os.getpid()
    mask = signals.block()
    program = os.fork()
    if program == 0:
        try:
            signals.restore_defaults()
            signals.unblock(mask)
            _become(command, guard_pid)
        finally:
            os._exit(EXIT_NOT_STARTED)
    signals.unblock(mask)
    return program


def _become(command: List[str], guard_pid: int) -> None:
    os.setsid()
    try:
        libc.die_with_parent(signal.SIGKILL)
    except libc.NotAvailable:
        pass
    if os.getppid() != guard_pid:
        return
    # The interpreter ignores these two for itself, and that would be inherited.
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write("{} cannot be started: {}\n".format(command[0], error.strerror))
        sys.stderr.flush()


def _wait(program: int, control: int, signals: SignalWatch) -> Optional[int]:
    """The command's wait status; None if its end is our doing. Nothing of it is left then."""
    while True:
        ready = wait_readable([control, signals.descriptor])
        if control in ready and not os.read(control, 4096):
            kill_all(program)
            return None
        if signals.descriptor in ready:
            for number in signals.take():
                send_group_signal(program, signal.SIGSTOP if number == signal.SIGTSTP else number)
            status = _ended(program)
            if status is not None:
                kill_all()
                return status


def _ended(program: int) -> Optional[int]:
    if HAS_WAITID:
        reap_others(program)
        if os.waitid(os.P_PID, program, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        # It was not reaped, so that its group is still its own.
        send_group_signal(program, signal.SIGKILL)
    pid, status = os.waitpid(program, os.WNOHANG)
    return status if pid == program else None
