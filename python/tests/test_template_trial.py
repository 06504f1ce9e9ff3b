"""`--template`: learned modules are imported in a child first, whatever becomes of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from client import Lifeline, wait_for_end
from template_client import StartTemplate, Template
from test_template_preload import names, refused, write

pytest_plugins = ["template_fixture"]

# Adds a line to a file, with the process: in C, where it is not seen to do so.
TRACE = """
import ctypes
library = ctypes.CDLL(None)
descriptor = library.open({path!r}.encode(), 0o2101, 0o600)
library.dprintf(descriptor, b"%s %d %d\\n", __name__.encode(), library.getpid(),
                library.getpriority(0, 0))
library.close(descriptor)
"""

# As long as it lives, the test sees that it does.
ON_LINE = "import leftovers; leftovers.open_lifeline({!r}); leftovers.started()"

SHORT_SILENCE = "import sys; sys.path.insert(0, {!r}); import hookd.trial; del sys.path[0]\n"
SHORT_SILENCE += "hookd.trial.LONGEST_SILENCE = 0.25\n"


class Waiting:
    """A module that waits at its first import until it is let go."""

    def __init__(self, site: Path, before: str = "") -> None:
        self.fifo = site / "fifo"
        os.mkfifo(self.fifo)
        path = str(self.fifo)
        code = "import os\n{}\nif os.path.exists({!r}):\n    open({!r}).read()\n"
        write(site, waits=code.format(before, path, path))

    def arrived(self) -> Any:
        """Wait until it waits. It goes on when what is returned is closed."""
        writer = self.fifo.open("w")
        self.fifo.unlink()
        return writer


@pytest.fixture
def trace(tmp_path: Path, site: Path) -> Path:
    # Or the first module that is traced would bring it.
    write(site, sitecustomize="import ctypes")
    return tmp_path / "trace"


def traced(trace: Path) -> dict[str, list[int]]:
    """By which processes each module was imported."""
    found: dict[str, list[int]] = {}
    for line in trace.read_text().splitlines() if trace.exists() else ():
        name, pid, _ = line.split()
        found.setdefault(name, []).append(int(pid))
    return found


def still_works(template: Template) -> None:
    template.preload("json.tool", learned=True)
    assert names(template.find("imported"))
    assert template.fork_worker().run("sample_module").result


# What is imported where.


def test_tried_once(start_template: StartTemplate, site: Path, trace: Path) -> None:
    """In one child, and then here."""
    code = TRACE.format(path=str(trace))
    write(site, one=code, two="import one\n" + code, three=code)
    template = start_template()
    template.preload("one", "two", "three", learned=True)
    outcomes = [template.outcome(name) for name in ("one", "two", "three")]
    assert all(outcome["verified"] for outcome in outcomes)
    assert [names(outcome) for outcome in outcomes] == [["one"], ["two"], ["three"]]
    assert "idle" in template.receive()
    found = traced(trace)
    trial = found["one"][0]
    assert found == {name: [trial, template.process.pid] for name in ("one", "two", "three")}
    assert trial != template.process.pid
    assert template.import_now("two", learned=True)["verified"] is True
    assert "idle" in template.receive()
    # It is there in any case, but was not tried.
    assert template.import_now("json", learned=True)["verified"] is False


def test_verified_is_not_tried(start_template: StartTemplate, site: Path, trace: Path) -> None:
    code = TRACE.format(path=str(trace))
    write(site, one=code, two="import json; json.dumps = print\n" + code, three=code)
    template = start_template()
    template.preload("three", learned=True)
    template.preload("one", "two", learned=True, verified=True)
    outcomes = [message for message in template.until("idle") if "imported" in message]
    assert [(outcome["imported"], outcome["verified"]) for outcome in outcomes] == [
        (["one", "two"], True),
        (["three"], True),
    ]
    found = traced(trace)
    assert found["one"] == found["two"] == [template.process.pid]
    assert len(found["three"]) == 2


def test_dependants_of_what_is_refused(
    start_template: StartTemplate, site: Path, trace: Path
) -> None:
    """They cost neither a template nor a trial each."""
    code = TRACE.format(path=str(trace))
    write(
        site,
        root="import json; json.dumps = print\n" + code,
        guarded=code + "try:\n    import root\nexcept ImportError:\n    root = None\n",
        swallowed=code + "try:\n    import root\nexcept BaseException:\n    root = None\n",
        indirect="import guarded",
        package__first="import sched, root",
        package__second=code,
        lazy="def function():\n    import root",
        after=code,
    )
    (site / "package" / "__init__.py").write_text("import package.first")
    template = start_template()
    asked = ["root", "guarded", "swallowed", "indirect", "package.second", "package.first"]
    template.preload(*asked, "lazy", "after", learned=True)
    cause = "it imports root, which is refused: it changed json.dumps"
    for name, expected in [
        ("root", "it changed json.dumps"),
        ("guarded", cause),
        ("swallowed", cause),
        ("indirect", cause),
        ("package.second", cause),
        ("package.first", cause),
    ]:
        outcome = template.find("refused")
        assert (outcome["refused"], outcome["reason"]) == (name, expected)
        assert (outcome["tainted"], outcome["lasting"]) == (False, True)
    assert names(template.outcome("lazy")) == ["lazy"]
    assert names(template.outcome("after")) == ["after"]
    assert "idle" in template.receive()
    found = traced(trace)
    # After the first, and after the one that goes on without it.
    trials = {pid for pids in found.values() for pid in pids} - {template.process.pid}
    assert len(trials) == 3
    assert "package.second" not in found
    assert template.process.pid not in found["guarded"] + found["swallowed"]
    # The same again costs nothing at all.
    template.preload("package.more", "indirect", learned=True)
    for _ in range(2):
        assert template.receive()["reason"] == cause
    assert "idle" in template.receive()


def test_other_modules_are_left(start_template: StartTemplate, site: Path, trace: Path) -> None:
    """Of a module that fails in the trial. They are found anew in the next."""
    code = TRACE.format(path=str(trace))
    write(site, stays=code, leaves="import stays; 1 / 0")
    template = start_template()
    template.preload("leaves", "stays", learned=True)
    reason, tainted = refused(template.outcome("leaves"))
    assert reason.endswith("; other modules that it imported are left") and not tainted
    assert names(template.outcome("stays")) == ["stays"]
    assert len(traced(trace)["stays"]) == 3


# What it may die of.

DEATHS = {
    "segfault": ("import ctypes; ctypes.string_at(0)", "died of SIGSEGV", True),
    "abort": ("import os; os.abort()", "died of SIGABRT", True),
    "exit": ("import os; os._exit(5)", "exited with code 5", True),
    "killed": (
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "died of SIGKILL",
        False,
    ),
    "kills_group": ("import os; os.kill(0, 15)", "died of SIGTERM", False),
    "exits_with_child": (
        "import os, signal\nif os.fork() == 0:\n    os.setsid(); signal.pause()\nos._exit(0)",
        "exited with code 0",
        True,
    ),
    "closes_pipe": (
        "import os, signal; os.closerange(3, 100); signal.pause()",
        "died of SIGKILL",
        False,
    ),
}


@pytest.mark.parametrize("name", DEATHS)
def test_death_of_a_trial(start_template: StartTemplate, site: Path, name: str) -> None:
    code, how, lasting = DEATHS[name]
    write(site, before="", subject=code, dependant="import subject", after="")
    template = start_template()
    template.preload("before", "subject", "dependant", "after", learned=True)
    outcomes: dict[str, Any] = {}
    for message in template.until("idle"):
        for each in message.get("imported", [message.get("refused")]):
            outcomes[each] = message
    reason = "the trial process {} while it imported this".format(how)
    assert outcomes["subject"]["reason"] == reason
    assert (outcomes["subject"]["tainted"], outcomes["subject"]["lasting"]) == (False, lasting)
    assert outcomes["dependant"]["reason"].startswith("it imports subject, which is refused: the ")
    assert {"before", "after"} == {each for each in outcomes if "imported" in outcomes[each]}
    still_works(template)


def test_trial_that_hangs(start_template: StartTemplate, site: Path) -> None:
    parent = str(Path(__file__).parent.parent)
    (site / "sitecustomize.py").write_text(SHORT_SILENCE.format(parent))
    write(site, hangs="import os, signal\nos.fork()\nsignal.pause()", after="")
    template = start_template()
    template.preload("hangs", "after", learned=True)
    outcome = template.outcome("hangs")
    assert outcome["reason"] == "its import took more than 0.25 s in a trial"
    assert (outcome["tainted"], outcome["lasting"]) == (False, False)
    assert names(template.find("imported")) == ["after"]
    still_works(template)


def test_what_a_trial_started(start_template: StartTemplate, site: Path) -> None:
    """It is killed as if a worker had left it."""
    code = "import os, signal\nif os.fork() == 0:\n    os.setsid()\n    signal.pause()\n1 / 0"
    write(site, leaves_child=code)
    template = start_template()
    template.preload("leaves_child", learned=True)
    assert len(template.find("killed")["killed"]) == 1
    still_works(template)


# What happens meanwhile.


def test_forks_meanwhile(start_template: StartTemplate, site: Path, lifeline: Lifeline) -> None:
    """A trial delays nothing, and is no orphan."""
    waiting = Waiting(site)
    write(site, after="")
    template = start_template()
    template.preload("waits", "after", learned=True)
    with waiting.arrived():
        one, two = template.fork_worker(), template.fork_worker()
        assert one.run("sample_module").result
        assert names(template.import_now("sample_module"))
        assert names(template.import_now("json.tool", learned=True, verified=True))
        two.start_code(
            "import os, signal, leftovers\nleftovers.open_lifeline(settings['line'])\n"
            "leftovers.daemon()\nleftovers.hang()\n",
            line=lifeline.path,
        )
        lifeline.wait_started(2)
        os.kill(two.pid, signal.SIGKILL)
        lifeline.wait_gone()
        assert two.wait() == -signal.SIGKILL
    assert names(template.find("imported")) == ["waits"]
    assert template.find("idle")


def test_niceness(start_template: StartTemplate, site: Path, trace: Path) -> None:
    """Hooks come first."""
    write(site, subject=TRACE.format(path=str(trace)))
    start_template().import_now("subject", learned=True)
    here = os.getpriority(os.PRIO_PROCESS, 0)
    lines = trace.read_text().splitlines()
    assert [int(line.split()[2]) for line in lines] == [min(19, here + 5), here]


END = {
    "retired": lambda template: template.send({"retire": True}),
    "left": lambda template: template.socket.close(),
    "killed": lambda template: template.process.kill(),
    "terminated": lambda template: template.process.terminate(),
}


@pytest.mark.parametrize("how", END)
def test_end_meanwhile(
    start_template: StartTemplate, site: Path, how: str, lifeline: Lifeline
) -> None:
    """Nothing is left. What the trial has started is seen to by whoever adopts it, if killed."""
    waiting = Waiting(site, ON_LINE.format(lifeline.path))
    template = start_template()
    template.preload("waits", learned=True)
    lifeline.wait_started()
    with waiting.arrived():
        END[how](template)
        template.wait()
        lifeline.wait_gone()


def test_taint_meanwhile(start_template: StartTemplate, site: Path, lifeline: Lifeline) -> None:
    waiting = Waiting(site, ON_LINE.format(lifeline.path))
    write(site, taints="import os; os.umask(1)")
    template = start_template()
    template.preload("waits", learned=True)
    lifeline.wait_started()
    with waiting.arrived():
        template.preload("taints")
        assert refused(template.outcome("taints"))[1]
        lifeline.wait_gone()
    template.wait_idle()


def test_retired_with_workers(start_template: StartTemplate, site: Path) -> None:
    waiting = Waiting(site)
    template = start_template()
    template.preload("waits", learned=True)
    with waiting.arrived():
        hookd = template.fork_worker()
        children = Path("/proc/{0}/task/{0}/children".format(template.process.pid))
        (trial,) = {int(pid) for pid in children.read_text().split()} - {hookd.pid}
        template.send({"retire": True})
        assert not wait_for_end([trial], 10)
        assert hookd.run("sample_module").result
        assert hookd.shut_down() == 0
        assert template.wait() == 0
