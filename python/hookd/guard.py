"""`--guard`: runs a program, and kills what that started when it, or the supervisor, ends.

An installer starts compilers and build backends. Once their parent is dead, the supervisor could
neither find nor kill them. So the guard is their subreaper, and it notices the supervisor's death.
"""

from __future__ import annotations

# See `signals`.
import _signal as signal  # type: ignore[import-not-found]
import os
import sys

from hookd.process import libc
from hookd.process.children import HAS_WAITID, kill_all, reap_others, send_group_signal
from hookd.process.descriptors import point_at_null_device, wait_readable
from hookd.process.signals import PAUSE_SIGNALS, STOP_SIGNALS, SignalWatch, die_of
from hookd.process.surroundings import variables_at_start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, NoReturn, Optional

EXIT_USAGE = 2
# sh(1): the program could not be started.
EXIT_NOT_STARTED = 127
# The supervisor is dead, so nobody reads it.
EXIT_CALLER_GONE = 1


def main(arguments: List[str]) -> NoReturn:
    """Guard the program that follows `--guard`. Its options are not ours."""
    if len(arguments) < 2:
        sys.stderr.write("hookd: --guard: expected a program\n")
        sys.exit(EXIT_USAGE)
    guard(arguments[1:])


def guard(command: List[str]) -> NoReturn:
    """Run the command, kill what it leaves behind, and exit with its status.

    The command does not get our standard input: its end means that the supervisor is gone, and
    the command is killed. SIGINT, SIGTERM and SIGCONT are forwarded to the command's process group;
    SIGTSTP as SIGSTOP, as orphaned process groups ignore SIGTSTP.
    """
    control = os.dup(0)
    point_at_null_device(os.O_RDONLY, 0)
    signals = SignalWatch(STOP_SIGNALS + PAUSE_SIGNALS)
    _adopt_orphans()
    program = _start(command, signals)
    _compile_hookd()
    status = _wait(program, control, signals)
    if status is None:
        os._exit(EXIT_CALLER_GONE)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGKILL:
            # `die_of` resets the handler first, which is not possible for SIGKILL.
            os.kill(os.getpid(), number)
        die_of(number)
    os._exit(os.WEXITSTATUS(status))


def _adopt_orphans() -> None:
    try:
        libc.become_subreaper()
        # Until now the kernel has killed us at the supervisor's death. From now on we must survive
        # it, to kill the others; if it died in between, our input has ended.
        libc.die_with_parent(0)
    except libc.NotAvailable:
        # Processes that leave the process group are missed.
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
    # The interpreter ignores these two, and the program would inherit that.
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        # Not what the interpreter has set for itself (LC_CTYPE, PEP 538).
        os.execvpe(command[0], command, variables_at_start())
    except OSError as error:
        sys.stderr.write("{} cannot be started: {}\n".format(command[0], error.strerror))
        sys.stderr.flush()


def _compile_hookd() -> None:
    """In the first run of all, while the program waits for the network: the first worker would
    compile hookd otherwise, and a hook would wait for it.
    """
    folder = os.path.dirname(os.path.abspath(__file__))
    tag = sys.implementation.cache_tag
    if tag is None or os.path.exists(
        os.path.join(folder, "__pycache__", "main.{}.pyc".format(tag))
    ):
        return
    import fcntl

    try:
        # Held until we exit. Several guards may start at once.
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    from py_compile import PycInvalidationMode, PyCompileError, compile

    for place, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".py") and name != "__main__.py":
                try:
                    path = os.path.join(place, name)
                    compile(path, doraise=True, invalidation_mode=PycInvalidationMode.TIMESTAMP)
                except (OSError, PyCompileError):
                    # No space, or not our folder: whoever imports it compiles it.
                    return


def _wait(program: int, control: int, signals: SignalWatch) -> Optional[int]:
    """Wait for the command, until no descendant of it is left.

    Returns its wait status, or None if it was killed because the supervisor is gone.
    """
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
        # It is not reaped yet, so no other process group can have its number.
        send_group_signal(program, signal.SIGKILL)
    pid, status = os.waitpid(program, os.WNOHANG)
    return status if pid == program else None
