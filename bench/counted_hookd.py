"""Run hookd, and count what it does after each fork: `counted_hookd.py OUT WHAT ARGUMENT...`.

When a process ends, it appends a line to OUT: how many forks it is away from the first process,
and either the `calls` of hookd's own Python functions, or its page `faults`. Both cannot be had at
once, as counting calls causes page faults.
"""

import os
import resource
import sys

HOOKD = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "python")
OWN = os.path.join(HOOKD, "hookd", "")


class Counter:
    def __init__(self, out, what):
        self._out = os.open(out, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
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
        os.write(self._out, f"{self._forks} {figure}\n".encode())
        self._exit(code)


counter = Counter(*sys.argv[1:3])
sys.path.insert(0, HOOKD)
from hookd import retained  # noqa: E402

# hookd removes the profile functions of hooks.
retained._set_profile = retained._set_trace = lambda function: None
counter.start()
from hookd.main import main  # noqa: E402

sys.argv[1:] = sys.argv[3:]
main(sys.argv[1:])
