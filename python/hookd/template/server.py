"""The template's loop: it imports modules, forks workers and reaps them, as the supervisor asks.

It has one thread and never runs a hook; its current folder is the root. The messages are described
in docs/src/reference/protocol.md.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from time import monotonic, sleep

from hookd import retained
from hookd.arguments import UsageError, parse
from hookd.hook.starting_point import forget_starting_point, hide_hookd
from hookd.process import libc
from hookd.process.children import are_known, kill_all, living_children
from hookd.process.descriptors import log, take_over_standard_descriptors
from hookd.process.signals import die_of
from hookd.process.surroundings import Surroundings
from hookd.protocol.failures import CallerGone
from hookd.template.channel import ForkChannel
from hookd.template.preload import Preloader
from hookd.template.process_state import OutputFile, settled_threads
from hookd.template.variables import ProcessVariables, read_variables
from hookd.template.workers import ChildWatch, KnownWorkers, WatchedWorkers, fork_worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, NoReturn, Optional, Set

    from hookd.arguments import Options
    from hookd.template.channel import Packet
    from hookd.template.variables import Variables

    BecomeWorker = Callable[[Options, bool], NoReturn]
    """With the worker's options, and whether it is watched by us."""

EXIT_TEMPLATE_FAILED = 1

# How long workers may take to end when the supervisor is dead, in seconds.
PATIENCE = 2.0

# How long a worker waits for learned modules, in seconds: its hook wants them.
LONGEST_BEFORE_FORK = 1.0
# If no worker is wanted for this long, they are imported ahead, a few at a time. Not at once: after
# the last hook of an environment nobody will want them, and other hooks want the processor.
IDLE_BEFORE_IMPORT = 0.5
LONGEST_AT_A_TIME = 0.05

# A worker's input, output and log.
DESCRIPTORS_OF_A_WORKER = 3


class Template:
    """The conversation with the supervisor."""

    def __init__(self, channel: ForkChannel, log_descriptor: int, become_worker: BecomeWorker):
        self._channel = channel
        self._log_descriptor = log_descriptor
        self._become_worker = become_worker
        self._watch = ChildWatch()
        self._output = OutputFile()
        self._workers = KnownWorkers()
        self._watched = WatchedWorkers()
        self._outlives_supervisor = False
        """To end such workers."""
        self._adopts_orphans = False
        self._supervisor = os.getppid()
        self._variables = ProcessVariables()
        self._preloader = Preloader(channel, self._output)
        self._last_packet_at = monotonic()
        self._retired = False
        # The part of the command line that all workers share: the interpreter and hookd.
        self._command = list(getattr(sys, "orig_argv", ()))[: 1 - len(sys.argv)]

    def prepare(self) -> None:
        """Prepare the process for forks, and report what is loaded."""
        try:
            libc.load()
            libc.become_subreaper()
            self._adopts_orphans = are_known()
        except libc.NotAvailable as error:
            self._log(str(error))
        os.chdir("/")
        # A module that is preloaded may be named hookd.
        hide_hookd()
        self._output.put_in_place()
        self._preloader.tell_start()

    def serve(self) -> NoReturn:
        """Carry out orders until the supervisor is gone."""
        self._watch.enable()
        self._look_at_children()
        try:
            self._serve()
        except CallerGone:
            if not self._outlives_supervisor:
                _let_workers_end()
            kill_all()
            raise

    def _serve(self) -> NoReturn:
        while True:
            ready = self._wait()
            self._watched.kill_hung_up(ready)
            if self._watch.descriptor in ready:
                self._watch.drain()
                self._look_at_children()
            if self._channel.descriptor in ready:
                self._take_packet()
            elif not ready:
                self._import(lambda: self._preloader.import_learned(LONGEST_AT_A_TIME))
            if not self._channel.has_packet():
                # Not between two packets: the second may bring more learned modules.
                self._preloader.tell_if_idle()

    def _wait(self) -> Set[int]:
        poll = select.poll()
        poll.register(self._watch.descriptor, select.POLLIN)
        poll.register(self._channel.descriptor, select.POLLIN)
        for descriptor in self._watched.inputs():
            poll.register(descriptor, 0)
        timeout = None
        if self._preloader.has_learned():
            seconds = self._last_packet_at + IDLE_BEFORE_IMPORT - monotonic()
            timeout = max(0.0, seconds * 1000)
        return {descriptor for descriptor, _ in poll.poll(timeout)}

    def _take_packet(self) -> None:
        packet = self._channel.receive()
        self._last_packet_at = monotonic()
        try:
            if packet.problem is not None:
                self._log("a packet was ignored: {}".format(packet.problem))
            self._obey(packet)
        finally:
            packet.close()

    def _obey(self, packet: Packet) -> None:
        message = packet.value
        if message.get("variables") is True and "fork" not in message:
            self._set_variables(packet)
        if "backend" in message:
            self._import_backend(message["backend"])
        if "learned" in message:
            self._learn(message["learned"])
        if "fork" in message:
            self._fork(packet)
        if "reap" in message:
            self._reap(message["reap"])
        if message.get("retire") is True:
            self._retired = True
            self._preloader.drop_learned()
            self._look_at_children()

    # Imports.

    def _import_backend(self, name: Any) -> None:
        if type(name) is str:
            self._import(lambda: self._preloader.import_backend(name))
        else:
            self._log("backend: expected a name, got {!r}".format(name))

    def _learn(self, names: Any) -> None:
        if type(names) is not list or not all(type(name) is str for name in names):
            self._log("learned: expected a list of names, got {!r}".format(names))
        elif not self._retired:
            self._preloader.append_learned(names)

    def _import(self, action: Callable[[], None]) -> None:
        if self._outlives_supervisor and not self._workers.any_left():
            self._die_with_supervisor()
        self._watch.disable()
        try:
            action()
        finally:
            self._watch.enable()
            forget_starting_point()
        # Some may have ended while SIGCHLD was not watched.
        self._look_at_children()

    # Forks.

    def _set_variables(self, packet: Packet) -> None:
        if packet.descriptors:
            variables = read_variables(packet.descriptors.pop())
            self._variables.replace(self._variables.as_of_start(variables))
        else:
            self._log("variables: expected a descriptor")

    def _fork(self, packet: Packet) -> None:
        message = packet.value
        number = message["fork"]
        if type(number) is not int:
            self._log("fork: expected a number, got {!r}".format(number))
            number = None
        if self._preloader.has_learned():
            self._import(lambda: self._preloader.import_learned(LONGEST_BEFORE_FORK))
        answer: Dict[str, Any] = {}
        try:
            variables = self._variables_of_worker(packet)
            surroundings = Surroundings.read(message.get("umask"), message.get("limits"))
            reason = self._reason_not_to_fork(message, packet.descriptors)
            if reason is None and variables is not None and self._preloader.would_differ(variables):
                reason = "it has read variables that the worker has other values of"
                answer["differs"] = True
            if number is not None and reason is None:
                arguments = [_as_argument(argument) for argument in message["arguments"]]
                options = parse(arguments)
                if options.text or options.template is not None:
                    raise UsageError("the arguments are none of a worker")
                is_watched = options.isolation == "none" and options.control
                if is_watched:
                    self._make_ready_to_watch()

                def become() -> NoReturn:
                    self._set_command(arguments)
                    if variables is not None:
                        self._variables.replace(variables)
                    surroundings.enter()
                    self._become_worker(options, is_watched)

                pid = fork_worker(packet.descriptors, self._leave, become)
                self._workers.add(pid)
                if is_watched:
                    self._watched.add(pid, packet.descriptors.pop(0))
                self._channel.send({"forked": number, "pid": pid})
                return
        except OSError as error:
            reason = "fork: {}".format(error.strerror)
        except UnicodeError as error:
            reason = "an argument has no bytes: {}".format(error)
        except (UsageError, ValueError) as error:
            reason = str(error)
        reason = reason or "the packet has no number"
        self._channel.send(dict(answer, not_forked=number, reason=reason))

    def _variables_of_worker(self, packet: Packet) -> Optional[Variables]:
        """What the worker's hooks find, if they do not find what is set here."""
        if packet.value.get("variables") is not True:
            return None
        if len(packet.descriptors) <= DESCRIPTORS_OF_A_WORKER:
            raise ValueError("variables: expected a further descriptor")
        return self._variables.as_of_start(read_variables(packet.descriptors.pop()))

    def _reason_not_to_fork(self, message: Dict[str, Any], descriptors: List[int]) -> Optional[str]:
        arguments = message.get("arguments")
        if self._retired:
            return "the template is retired"
        if self._preloader.is_spoilt:
            return "an import has changed the template"
        if type(arguments) is not list or not all(type(each) is str for each in arguments):
            return "the arguments are no list of strings"
        if len(descriptors) != DESCRIPTORS_OF_A_WORKER:
            return "{} descriptors came, not {}".format(len(descriptors), DESCRIPTORS_OF_A_WORKER)
        threads = settled_threads()
        if threads > 1:
            return "the template has {} threads".format(threads)
        return None

    def _make_ready_to_watch(self) -> None:
        """Be able to kill one more worker when its input hangs up. Raises `ValueError`."""
        if not self._watched.has_room():
            raise ValueError("it cannot watch more workers")
        if not self._adopts_orphans:
            raise ValueError("it cannot find what a worker leaves")
        if not self._outlives_supervisor:
            # We must live to see the end of our socket, and of the inputs that we watch.
            try:
                libc.die_with_parent(0)
            except libc.NotAvailable as error:
                raise ValueError(str(error)) from error
            self._outlives_supervisor = True

    def _die_with_supervisor(self) -> None:
        """Turn the death signal on again: during an import we see neither end."""
        libc.die_with_parent(signal.SIGKILL)
        self._outlives_supervisor = False
        # It may have died before the call above.
        if os.getppid() != self._supervisor:
            raise CallerGone("the supervisor has died")

    def _set_command(self, arguments: List[str]) -> None:
        if self._command:
            # Python 3.10.
            sys.orig_argv = self._command + arguments

    def _leave(self) -> None:
        """Close everything that belongs to the template, in a forked worker."""
        self._channel.close()
        self._watch.close()
        self._output.close()
        self._watched.close()
        os.close(self._log_descriptor)

    # Children.

    def _reap(self, pid: Any) -> None:
        if type(pid) is not int:
            self._log("reap: expected a pid, got {!r}".format(pid))
        elif self._workers.acknowledge(pid):
            self._watched.forget(pid)
            self._look_at_children()
        else:
            self._channel.send({"reaped": pid, "status": None})

    def _look_at_children(self) -> None:
        killed, reaped = self._workers.look()
        if killed:
            self._channel.send({"killed": killed})
        for pid, status in reaped.items():
            self._channel.send({"reaped": pid, "status": status})
        if self._retired and not self._workers.any_left():
            os._exit(0)

    def _log(self, text: str) -> None:
        log(self._log_descriptor, text)


def open_channel(descriptor: int) -> ForkChannel:
    """Take over the supervisor's socket. Raises `OSError` if there is none."""
    import fcntl

    # Moved above the standard descriptors, which are replaced.
    channel = ForkChannel(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3))
    if not channel.is_fit():
        raise OSError("it is none of type SOCK_SEQPACKET")
    os.close(descriptor)
    return channel


def _as_argument(text: str) -> str:
    """Decode an argument as the interpreter decodes its command line."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


def _let_workers_end() -> None:
    # They notice the end of their own input, and kill what their hooks started. If we killed them
    # at once, and were killed before we could find what they left, that would live on.
    deadline = monotonic() + PATIENCE
    while living_children() and monotonic() < deadline:
        sleep(0.005)


def serve_template(channel: ForkChannel, become_worker: BecomeWorker) -> NoReturn:
    """Run as a template until the supervisor ends. `become_worker` is called in forked workers.

    Never returns or raises, and runs no exit handlers, which belong to the workers.
    """
    exit_code = EXIT_TEMPLATE_FAILED
    retained.load()
    descriptors = take_over_standard_descriptors()
    os.close(descriptors.input)
    os.close(descriptors.output)
    try:
        template = Template(channel, descriptors.log, become_worker)
        template.prepare()
        template.serve()
    except CallerGone:
        exit_code = 0
    except KeyboardInterrupt:
        die_of(signal.SIGINT)
    except BaseException as error:
        # Its workers go on without it. Not formatted by `failures`, which omits our own frames.
        lines = retained.format_exception(type(error), error, error.__traceback__)
        log(descriptors.log, "the template cannot go on:\n{}".format("".join(lines)))
    finally:
        os._exit(exit_code)
