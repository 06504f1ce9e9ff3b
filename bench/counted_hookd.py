"""Run a worker that a template forks, and count what hookd does after each fork:
`counted_hookd.py OUT WHAT BACKEND ARGUMENT...`.

The template imports the backend. When a process ends, it appends a line to OUT: how many forks it
is away from the template, and either the `calls` of hookd's own Python functions, or its page
`faults`. Both cannot be had at once, as counting calls causes page faults.
"""

import array
import json
import os
import resource
import select
import socket
import sys

HOOKD = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "python")
OWN = os.path.join(HOOKD, "hookd", "")


class Counter:
    def __init__(self, out, what):
        self._out = out
        self._counts_calls = what == "calls"
        self._forks = 0
        self._calls = 0
        self._exit = os._exit

    def start(self):
        # Before hookd takes references to it.
        os._exit = self.exit
        os.register_at_fork(after_in_child=self._forked)
        self._profile()

    def _profile(self):
        if self._counts_calls:
            sys.setprofile(self._on_event)

    def _on_event(self, frame, event, argument):
        if event == "call" and frame.f_code.co_filename.startswith(OWN):
            self._calls += 1

    def _forked(self):
        self._forks += 1
        self._calls = 0

    def exit(self, code):
        sys.setprofile(None)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        figure = self._calls if self._counts_calls else faults
        # Only now: a worker closes what it inherits.
        out = os.open(self._out, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(out, f"{self._forks} {figure}\n".encode())
        self._exit(code)


def be_template(counter, arguments):
    sys.path.insert(0, HOOKD)
    from hookd import retained

    # hookd removes the profile functions of hooks.
    retained._set_profile = retained._set_trace = lambda function: None
    counter.start()
    from hookd.main import main

    sys.argv[1:] = arguments
    main(arguments)


def supervise(template, backend, arguments):
    """Let it fork one worker, which gets our standard descriptors, and wait for both."""

    def send(message, *descriptors):
        rights = array.array("i", descriptors)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
        template.sendmsg([json.dumps(message).encode()], ancillary)

    def receive(key):
        message = {}
        while key not in message:
            message = json.loads(template.recv(1 << 17))
        return message[key]

    send({"backend": backend})
    send({"fork": 0, "arguments": arguments}, 0, 1, 2)
    worker = receive("pid")
    # Its output is to end with it.
    os.closerange(0, 2)
    select.select([os.pidfd_open(worker)], [], [])
    send({"retire": True})
    send({"reap": worker})
    receive("reaped")


def main():
    out, what, backend, *arguments = sys.argv[1:]
    counter = Counter(out, what)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        os.dup2(theirs.detach(), 0)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        observe = [argument for argument in arguments if argument.startswith("--observe")]
        be_template(counter, ["--template", "0", *observe])
    theirs.close()
    supervise(ours, backend, arguments)
    os.waitpid(pid, 0)


main()
