"""What a worker does whichever its isolation: it takes requests one by one, and answers them."""

from __future__ import annotations

import os

from hookd import retained
from hookd.hook.capture import Captures
from hookd.process import libc
from hookd.process.children import living_children, reap_ended
from hookd.process.descriptors import log
from hookd.process.signals import die_of
from hookd.protocol.channel import encode_json, encode_text, text_of
from hookd.protocol.failures import (
    HOOK_CRASHED,
    HOOK_RUNTIME_ERROR,
    INVALID_ACTION,
    CallerGone,
    Failure,
    describe,
    failure_from,
)
from hookd.protocol.hooks import LONGEST_RESULT
from hookd.protocol.requests import read_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, NoReturn

    from hookd.arguments import Options
    from hookd.hook.capture import Capture
    from hookd.process.descriptors import Descriptors
    from hookd.protocol.channel import Channel
    from hookd.protocol.outcome import Outcome
    from hookd.protocol.requests import Request


class Worker:
    """The conversation with the caller. The isolations say how a hook is run."""

    def __init__(self, options: Options, channel: Channel, descriptors: Descriptors) -> None:
        self.options = options
        self.channel = channel
        self.descriptors = descriptors
        self.captures = Captures(options.capture_folder, options.reuse_captures)

    # What the isolations fill in.

    def prepare(self) -> None:
        """Get ready, before the caller is told so."""
        raise NotImplementedError

    def wait_for_input(self) -> None:
        """Block until the channel was filled once more, or something else has happened."""
        raise NotImplementedError

    def run_request(self, request: Request) -> None:
        """Run the hook, and report how it ended."""
        raise NotImplementedError

    def cancel(self, signal_name: str) -> None:
        """Send that signal to the running hook's process group, if a hook runs."""
        raise NotImplementedError

    def wait_for_event(self) -> None:
        """As `wait_for_input`, and also come back when a child has ended."""
        raise NotImplementedError

    def kill_everything(self) -> None:
        """Kill everything that belongs to the worker, which is about to end."""
        raise NotImplementedError

    # Ends.

    def abandon(self, exit_code: int) -> NoReturn:
        """End at once, and kill everything that belongs to the worker."""
        self.kill_everything()
        os._exit(exit_code)

    def die(self, number: int) -> NoReturn:
        """The same by a signal, so that the wait status tells of it."""
        self.kill_everything()
        die_of(number)

    def clean_up(self) -> None:
        """Do the last work of hooks that ran in this process, if any did."""

    # The keeper of what hooks detached.

    def adopt_orphans(self) -> None:
        """Become the parent of what hooks detach, where the platform can (Linux)."""
        try:
            libc.load()
            libc.become_subreaper()
        except libc.NotAvailable as error:
            self.debug(str(error))

    def kept_processes(self) -> int:
        """How many processes that hooks left would make `leave` wait."""
        reap_ended()
        return len(living_children())

    def leave(self) -> NoReturn:
        """Exit, but not before detached processes: they are to end with the supervisor, and only
        their parent can see to that, should the supervisor be killed.
        """
        while True:
            _, any_left = reap_ended()
            if not any_left or self.channel.ended:
                self.abandon(0)
            self.wait_for_event()
            while self.channel.next_line() is not None:
                pass

    # The conversation.

    def serve(self) -> NoReturn:
        """Take and answer requests until told to stop."""
        while True:
            self.channel.send_later("READY")
            self.channel.send_later("EXPECT", b"action")
            # With it goes the answer to the request before. Whoever waits for READY may go on
            # while we load what a request needs.
            self.channel.flush()
            # So that no hook process has to, and that a problem can be told when files can no
            # longer be opened.
            retained.load()
            self.captures.prepare()
            action = self._read_action()
            if action == "run":
                self._run()
            elif action == "shutdown":
                self.clean_up()
                kept = self.kept_processes() if self.options.control else 0
                if kept:
                    self.channel.send("KEEPING", str(kept).encode("ascii"))
                self.channel.send("SHUTDOWN")
                self.leave()
            else:
                message = "{!r} is not an action, expected 'run' or 'shutdown'"
                self.report_failure(Failure(INVALID_ACTION, message.format(action)))

    def _read_action(self) -> str:
        while True:
            line = self.next_line()
            # An empty line is nothing: people type it, and a caller can find out by it whether
            # anybody reads.
            if line and not self.act_on_control(line):
                return text_of(line)

    def _run(self) -> None:
        try:
            request = read_request(self.options.tree, self._ask, self.next_line)
        except Failure as failure:
            self.report_failure(failure)
            return
        self.run_request(request)

    def _ask(self, name: str) -> bytes:
        self.channel.send_later("EXPECT", name.encode("ascii"))
        return self.next_line()

    def next_line(self) -> bytes:
        """Wait for the next line of input. Raises `CallerGone` at its end."""
        while True:
            line = self.channel.next_line()
            if line is not None:
                return line
            if self.channel.ended:
                raise CallerGone("end of input")
            self.channel.flush()
            self.wait_for_input()

    def act_on_control(self, line: bytes) -> bool:
        """If `line` is an action of --control, act on it and return True."""
        if not self.options.control:
            return False
        action, _, argument = line.partition(b" ")
        if action == b"ping":
            self.channel.send("PONG", argument)
        elif action == b"cancel":
            self.cancel(text_of(argument))
        else:
            return False
        return True

    # Messages.

    def announce(self, capture: Capture) -> None:
        """Tell the names of the capture files. With that the request counts as accepted."""
        try:
            output, error = map(os.fsencode, capture.paths)
            self.channel.send_later("STDOUT", output)
            self.channel.send("STDERR", error)
        except CallerGone:
            capture.discard()
            raise

    def report(self, outcome: Outcome, capture: Capture) -> None:
        """Tell how a hook ended, with the next message that is sent."""
        # So that the caller need not look at files that it leaves to us.
        if self.options.reuse_captures and capture.is_silent():
            self.channel.send_later("SILENT")
        if outcome.failure is not None:
            self.report_failure(outcome.failure)
        elif self.options.json:
            self.channel.send_later("OK", encode_json(outcome.result))
        else:
            self.channel.send_later("OK", encode_text(str(outcome.result)))
        if self.options.report_imports and outcome.imported is not None:
            self._report_modules("IMPORTED", outcome.imported)
        if outcome.shadowed is not None:
            self._report_modules("SHADOWED", outcome.shadowed)

    def _report_modules(self, kind: str, modules: List[Any]) -> None:
        if modules:
            # The answer is not to wait for what may be a long list.
            self.channel.flush()
        value = encode_json(modules)
        if len(value) <= LONGEST_RESULT:
            self.channel.send_later(kind, value)
        else:
            message = "the list of modules for {} is too long to be sent: {} bytes"
            self.debug(message.format(kind, len(value)))

    def report_failure(self, failure: Failure) -> None:
        """Tell that a request failed, with the next message that is sent."""
        kind = failure.kind
        if not self.options.json and kind == HOOK_CRASHED:
            # Not among the kinds that a caller of the original knows.
            kind = HOOK_RUNTIME_ERROR
        self._send_error("ERROR", kind, failure)

    def report_fatal(self, error: BaseException) -> None:
        """Tell that the worker itself cannot go on."""
        kind = type(error).__name__
        failure = failure_from(kind, describe(error, "the worker"), error)
        log(self.descriptors.log, "cannot go on:\n{}".format(failure.traceback))
        try:
            self._send_error("FATAL", kind, failure)
            self.channel.flush()
        except Exception as second:
            log(self.descriptors.log, "that could not be told: {!r}".format(second))

    def _send_error(self, message: str, kind: str, failure: Failure) -> None:
        if self.options.json:
            value = encode_json({"message": failure.message, **failure.details})
        else:
            value = encode_text(failure.message)
        self.channel.send_later(message, kind.encode("ascii", "replace") + b" " + value)
        if failure.traceback is not None:
            encode = encode_json if self.options.json else encode_text
            self.channel.send_later("TRACEBACK", encode(failure.traceback))

    def debug(self, text: str) -> None:
        """Tell something that only matters to whoever looks for a problem."""
        self.channel.send("DEBUG", encode_text(text))

    def forget_parent_death(self) -> None:
        """Undo the death signal under which a supervisor starts us.

        It guards the interpreter's start only. From READY on it is the end of input that tells of
        the supervisor's death: a worker that is killed at once could not kill what its hook
        started.
        """
        try:
            libc.die_with_parent(0)
        except libc.NotAvailable as error:
            self.debug(str(error))


def serve(worker: Worker) -> NoReturn:
    """Run a worker to its end. Never returns, never raises."""
    exit_code = 0
    try:
        if worker.options.control:
            worker.channel.send_empty_line()
        worker.prepare()
        worker.serve()
    except CallerGone as gone:
        unread = worker.channel.waiting_bytes()
        if unread:
            log(worker.descriptors.log, "{}, {} bytes were unfinished".format(gone, unread))
    except BaseException as error:
        exit_code = 1
        worker.report_fatal(error)
    finally:
        worker.abandon(exit_code)
