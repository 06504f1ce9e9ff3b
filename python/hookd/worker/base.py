"""The worker's conversation with its caller, which is the same for both isolations."""

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
    INVALID_SOURCE,
    CallerGone,
    Failure,
    describe,
    failure_from,
)
from hookd.protocol.hooks import LONGEST_RESULT
from hookd.protocol.requests import read_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, NoReturn

    from hookd.arguments import Options
    from hookd.hook.capture import Capture
    from hookd.process.descriptors import Descriptors
    from hookd.protocol.channel import Channel
    from hookd.protocol.outcome import Outcome
    from hookd.protocol.requests import Request
    from hookd.worker.tree import ServedTree

LONGEST_OBSERVED = 1 << 20


class Worker:
    """Reads requests and answers them. Subclasses run the hooks."""

    def __init__(
        self, options: Options, tree: ServedTree, channel: Channel, descriptors: Descriptors
    ) -> None:
        self.options = options
        self.tree = tree
        self.channel = channel
        self.descriptors = descriptors
        self.captures = Captures(options.capture_folder, options.reuse_captures)

    # For subclasses.

    def prepare(self) -> None:
        """Get ready, before the caller is told so."""
        raise NotImplementedError

    def wait_for_input(self) -> None:
        """Block until there is input in the channel, or another event has been handled."""
        raise NotImplementedError

    def run_request(self, request: Request) -> None:
        """Run the hook, and report how it ended."""
        raise NotImplementedError

    def change_tree(self, line: bytes) -> bool:
        """If `line` is the action `tree`, serve that tree from now on and return True."""
        raise NotImplementedError

    def cancel(self, signal_name: str) -> None:
        """Send that signal to the running hook's process group, if a hook runs."""
        raise NotImplementedError

    def wait_for_event(self) -> None:
        """As `wait_for_input`, but also return when a child has ended."""
        raise NotImplementedError

    def kill_everything(self) -> None:
        """Kill all processes that belong to the worker, which is about to end."""
        raise NotImplementedError

    # Ends.

    def abandon(self, exit_code: int) -> NoReturn:
        """Kill all processes that belong to the worker, and exit."""
        self.kill_everything()
        os._exit(exit_code)

    def die(self, number: int) -> NoReturn:
        """As `abandon`, but die of that signal, for the wait status."""
        self.kill_everything()
        die_of(number)

    def clean_up(self) -> None:
        """Run the exit handlers of hooks that ran in this process."""

    # Processes that hooks detached.

    def adopt_orphans(self) -> None:
        """Become the parent of processes that hooks detach, where that is possible (Linux)."""
        try:
            libc.load()
            libc.become_subreaper()
        except libc.NotAvailable as error:
            self.debug(str(error))

    def kept_processes(self) -> int:
        """Count the processes that hooks left, for which `leave` would wait."""
        reap_ended()
        return len(living_children())

    def leave(self) -> NoReturn:
        """Exit when no detached process is left. They must end with the supervisor, and if that is
        killed, only their parent can kill them.
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
            # This also sends the answer to the previous request. The caller can go on while we
            # load what the next request needs.
            self.channel.flush()
            # Here, so that hook processes need not do it, and that failures can be reported even
            # when no more files can be opened.
            retained.load()
            self.captures.prepare()
            action = self._read_action()
            if action == "run":
                self._run()
            elif action == "shutdown":
                self.clean_up()
                kept = self.kept_processes() if self.options.control else 0
                if kept:
                    self.report_kept(kept)
                self.channel.send("SHUTDOWN")
                self.leave()
            else:
                message = "{!r} is not an action, expected 'run' or 'shutdown'"
                self.report_failure(Failure(INVALID_ACTION, message.format(action)))

    def _read_action(self) -> str:
        while True:
            line = self.next_line()
            # An empty line is skipped: people type it, and a caller may write it to find out
            # whether the worker still reads.
            if line and not (self.act_on_control(line) or self.change_tree(line)):
                return text_of(line)

    def _run(self) -> None:
        try:
            request = read_request(self.tree.path, self._ask, self.next_line)
            self._enter_tree()
        except Failure as failure:
            self.report_failure(failure)
            return
        self.run_request(request)

    def _enter_tree(self) -> None:
        try:
            self.tree.enter()
        except OSError as error:
            message = "source tree {}: cannot be entered: {}".format(self.tree.path, error.strerror)
            raise Failure(INVALID_SOURCE, message) from None

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
        """Send the names of the capture files, which accepts the request."""
        try:
            output, error = map(os.fsencode, capture.paths)
            self.channel.send_later("STDOUT", output)
            self.channel.send("STDERR", error)
        except CallerGone:
            capture.discard()
            raise

    def report(self, outcome: Outcome, capture: Capture) -> None:
        """Report how a hook ended, with the next message that is sent."""
        # Then the caller need not look at the files, which it leaves to us.
        if self.options.reuse_captures and capture.is_silent():
            self.channel.send_later("SILENT")
        if outcome.observed is not None:
            self._report_observed(outcome.observed)
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

    def report_kept(self, processes: int) -> None:
        """Report how many processes that hooks detached are left, with the next message."""
        self.channel.send_later("KEEPING", str(processes).encode("ascii"))

    def _report_observed(self, observed: Dict[str, Any]) -> None:
        value = encode_json(observed)
        if len(value) > LONGEST_OBSERVED:
            value = encode_json(dict(observed, written=None))
        if len(value) <= LONGEST_OBSERVED:
            self.channel.send_later("OBSERVED", value)

    def _report_modules(self, kind: str, modules: List[Any]) -> None:
        if modules:
            # The result must not wait for a list that may be long.
            self.channel.flush()
        value = encode_json(modules)
        if len(value) <= LONGEST_RESULT:
            self.channel.send_later(kind, value)
        else:
            message = "the list of modules for {} is too long to be sent: {} bytes"
            self.debug(message.format(kind, len(value)))

    def report_failure(self, failure: Failure) -> None:
        """Report that a request failed, with the next message that is sent."""
        kind = failure.kind
        if not self.options.json and kind == HOOK_CRASHED:
            # Callers of the original hookd do not know this kind.
            kind = HOOK_RUNTIME_ERROR
        self._send_error("ERROR", kind, failure)

    def report_fatal(self, error: BaseException) -> None:
        """Report that the worker cannot go on."""
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
        """Send a message for those who debug."""
        self.channel.send("DEBUG", encode_text(text))

    def forget_parent_death(self) -> None:
        """Turn off the death signal (PR_SET_PDEATHSIG) that the supervisor has set for us.

        It is for the interpreter's start only. Later, the end of input tells us of the supervisor's
        death: a worker that the kernel killed could not kill what its hook started.
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
