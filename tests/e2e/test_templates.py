"""Templates, from which workers are forked: their deaths, hangs, limits and replacements."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import processes
import pytest
from conftest import Setting
from gate import Gate
from packages import Environment
from pool import Pool, kind
from test_deadlines_and_cancellation import FOR_EVER, IGNORE_TERM, with_child
from test_death import detach
from test_failures import fake_python
from trees import CODE_BACKEND, call, make_tree

FAILED = "template failed"
FALLBACK = "workers are spawned from now on"
NOTED = "noted"


# Every request needs a new worker, which is not moved from another tree.
NEW_WORKERS = ("--max-requests", "1")


def make_trees(folder: Path, count: int, name: str = "tree") -> list[Path]:
    """Trees with in-tree backends, which have one template together."""
    return [make_tree(folder / f"{name}-{number}") for number in range(count)]


def template_of(pool: Pool) -> int:
    """The only one."""
    (pid,) = processes.templates(pool.pid)
    return pid


def wait_template(pool: Pool) -> int:
    """The only one, once it is there."""
    end = time.monotonic() + 20
    while not processes.templates(pool.pid):
        assert time.monotonic() < end, "no template was started"
        time.sleep(processes.TICK)
    return template_of(pool)


def wait_logged(pool: Pool, text: str, times: int = 1) -> None:
    """Wait until the supervisor has said so, so often."""
    end = time.monotonic() + 20
    while (found := pool.stderr.count(text)) < times:
        assert time.monotonic() < end, f"{text!r} was said {found} times; stderr:\n{pool.stderr}"
        time.sleep(processes.TICK)


def wait_for_file(path: Path) -> None:
    """Wait until a hook has made it."""
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, f"{path} was not made"
        time.sleep(processes.TICK)


def end_template(pool: Pool) -> int:
    """Kill the template, and wait until the supervisor knows."""
    before = pool.stderr.count(FAILED)
    pid = template_of(pool)
    os.kill(pid, signal.SIGKILL)
    processes.wait_gone([pid])
    wait_logged(pool, FAILED, before + 1)
    return pid


def method(pool: Pool, tree: Path) -> str:
    """How the worker of a tree was started, which works."""
    response = pool.ask(call(tree, "result = ['on']", "method"))
    assert response["result"] == ["on"], response
    return str(response["worker"]["start_method"])


def backend_tree(folder: Path, backend: str) -> Path:
    """A tree that is built by a backend of the environment."""
    folder.mkdir()
    project = f'[build-system]\nrequires = []\nbuild-backend = "{backend}"\n'
    (folder / "pyproject.toml").write_text(project)
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An environment for backends."""
    return Environment(tmp_path / "venv")


@pytest.fixture
def slow_tree(environment: Environment, tmp_path: Path, gate: Gate) -> Path:
    """A tree whose backend, in `environment`, waits at the gate when it is imported."""
    environment.write({"slow_backend.py": gate.code + CODE_BACKEND})
    return backend_tree(tmp_path / "slow-tree", "slow_backend")


def test_trees_that_come_together_share_a_template(setting: Setting, tmp_path: Path) -> None:
    pool = setting.start("-vv", jobs=4)
    folders = make_trees(tmp_path, 8)
    pool.send(*(call(folder, "", number) for number, folder in enumerate(folders)))
    found = pool.responses(8)
    assert {response["worker"]["start_method"] for response in found} == {"forkserver"}
    template = template_of(pool)
    parents = {processes.parent(response["worker"]["pid"]) for response in found}
    assert parents == {template}
    assert pool.stderr.count("template starts") == 1
    assert pool.finish() == ([], 0)
    assert not processes.alive(template)


def test_a_template_is_in_nobodys_way(setting: Setting, tree: Path) -> None:
    """It is single-threaded, in a session of its own, in the root folder, and has few files."""
    pool = setting.start()
    pool.settle(tree, "import subprocess, urllib.request")
    template = template_of(pool)
    assert processes.cwd(template) == "/"
    assert os.getsid(template) == template
    assert len(os.listdir(f"/proc/{template}/task")) == 1
    files = [os.readlink(entry) for entry in Path(f"/proc/{template}/fd").iterdir()]
    assert not [file for file in files if file.startswith(str(setting.root))]
    assert pool.finish() == ([], 0)


# F26: the template's death.


def test_f26_an_idle_template_is_killed(setting: Setting, tree: Path, isolation: str) -> None:
    pool = setting.start("--isolation", isolation)
    worker = pool.settle(tree)
    first = end_template(pool)
    # The worker notices nothing, and is our child now.
    assert worker["pid"] in processes.children(pool.pid)
    # With isolation `none` the template would have ended it at our death: it gets no more hooks.
    after = pool.ask(call(tree, "", 1))["worker"]
    assert (after == worker) == (isolation == "hook")
    other = make_tree(tree.parent / "other")
    assert method(pool, other) == "forkserver"
    assert template_of(pool) != first
    assert pool.stderr.count(FAILED) == 1
    processes.wait_no_zombies(pool.pid)
    assert pool.finish() == ([], 0)


def test_f26_a_template_is_killed_under_hooks(
    setting: Setting, tmp_path: Path, gate: Gate, isolation: str
) -> None:
    pool = setting.start("--isolation", isolation, jobs=3)
    folders = make_trees(tmp_path, 3)
    pool.send(*(call(tree, gate.code + "result = ['ran']", tree.name) for tree in folders[:2]))
    hooks = [gate.arrived(), gate.arrived()]
    first = template_of(pool)
    os.kill(first, signal.SIGKILL)
    # Whether the supervisor knows of the death by now or not.
    method(pool, folders[2])
    assert all(processes.alive(hook) for hook in hooks)
    gate.release(2)
    found = pool.responses(2)
    assert [response["result"] for response in found] == [["ran"], ["ran"]]
    wait_logged(pool, FAILED)
    assert method(pool, make_tree(tmp_path / "next")) == "forkserver"
    assert template_of(pool) != first
    processes.wait_no_zombies(pool.pid)
    assert pool.finish() == ([], 0)


def test_f26_what_a_dead_templates_worker_leaves(
    setting: Setting, tree: Path, gate: Gate, isolation: str
) -> None:
    """A worker that lost its template is reaped, and its hook's processes killed, by us."""
    pool = setting.start("--isolation", isolation)
    worker = pool.settle(tree)
    pool.send(call(tree, detach(gate) + with_child(gate, IGNORE_TERM), 1))
    running = [gate.arrived() for _ in range(3)]
    end_template(pool)
    os.kill(worker["pid"], signal.SIGKILL)
    response = pool.response(5)
    assert kind(response) == "WorkerCrashed"
    assert "KILL" in str(response["error"])
    processes.wait_gone(running, timeout=2)
    assert pool.ask(call(tree, "result = ['on']", 2))["result"] == ["on"]
    processes.wait_no_zombies(pool.pid)
    assert pool.finish() == ([], 1)


def test_f26_templates_that_die_again_and_again(setting: Setting, tmp_path: Path) -> None:
    pool = setting.start()
    folders = make_trees(tmp_path, 5)
    for number in range(2):
        assert method(pool, folders[number]) == "forkserver"
        end_template(pool)
    assert [method(pool, folder) for folder in folders[2:]] == ["spawn"] * 3
    assert processes.templates(pool.pid) == []
    assert (pool.stderr.count(FAILED), pool.stderr.count(FALLBACK)) == (2, 1)
    # Asked to look at everything anew, it does.
    pool.signal(signal.SIGHUP)
    processes.wait_gone(processes.children(pool.pid))
    assert method(pool, folders[0]) == "forkserver"
    assert pool.finish() == ([], 0)


def wait_forked(template: int, workers: int) -> None:
    """Wait until a template has so many children."""
    end = time.monotonic() + 10
    while len(processes.children(template)) < workers:
        assert time.monotonic() < end, f"fewer than {workers} workers were forked"
        time.sleep(processes.TICK)


def test_f26_no_request_is_lost_whenever_a_template_dies(
    setting: Setting, tmp_path: Path, gate: Gate
) -> None:
    # All hooks wait at the gate, so that no worker is moved and each request needs another.
    pool = setting.start("--max-workers", "8", jobs=6)
    for forks in range(6):
        folders = make_trees(tmp_path, 6, f"round-{forks}")
        names = [tree.name for tree in folders]
        pool.send(
            *(call(tree, f"{gate.wait}result = ['{tree.name}']", tree.name) for tree in folders)
        )
        template = wait_template(pool)
        # At its start, between its forks, and after them.
        wait_forked(template, forks)
        os.kill(template, signal.SIGKILL)
        gate.release(6)
        found = pool.responses(6)
        assert [kind(response) for response in found] == [None] * 6, found
        assert sorted(response["id"] for response in found) == sorted(names)
        assert all(response["result"] == [response["id"]] for response in found)
        # The next round gets a template again.
        pool.signal(signal.SIGHUP)
        processes.wait_gone(processes.workers(pool.pid))
        processes.wait_gone(processes.templates(pool.pid))
    assert pool.finish() == ([], 0)


def test_f26_a_template_dies_before_its_worker_is_known(setting: Setting, tmp_path: Path) -> None:
    """The supervisor hears of the worker when nobody can vouch for its pid any more."""
    pool = setting.start(*NEW_WORKERS)
    one, two = make_trees(tmp_path, 2)
    assert method(pool, one) == "forkserver"
    template = stopped(pool)
    before = processes.children(template)
    pool.send(call(two, "result = ['on']"))
    end = time.monotonic() + 20
    while not (forked := set(processes.children(template)) - set(before)):
        # Until the order to fork lies in the template's socket, the supervisor has to go on.
        assert time.monotonic() < end, "no worker was forked"
        os.kill(template, signal.SIGSTOP)
        processes.wait_state(template, "T")
        pool.signal(signal.SIGCONT)
        processes.outlast(0.05)
        pool.signal(signal.SIGSTOP)
        processes.wait_state(pool.pid, "T")
        os.kill(template, signal.SIGCONT)
        processes.outlast(0.1)
    os.kill(template, signal.SIGKILL)
    processes.wait_gone([template])
    pool.signal(signal.SIGCONT)
    response = pool.response()
    assert response["ok"], response["error"]
    assert (response["result"], response["worker"]["start_method"]) == (["on"], "spawn")
    assert response["worker"]["pid"] not in forked
    processes.wait_gone(forked)
    processes.wait_no_zombies(pool.pid, timeout=2)
    assert pool.finish() == ([], 0)


# F26: the template's silence.


def stopped(pool: Pool) -> int:
    """Stop the template, as if it hung."""
    pid = template_of(pool)
    os.kill(pid, signal.SIGSTOP)
    processes.wait_state(pid, "T")
    return pid


def test_f26_a_template_hangs(setting: Setting, tmp_path: Path) -> None:
    pool = setting.start("--health-timeout", "500ms", *NEW_WORKERS, jobs=4)
    folders = make_trees(tmp_path, 7)
    assert method(pool, folders[0]) == "forkserver"
    template = stopped(pool)
    pool.send(*(call(tree, "result = ['on']", tree.name) for tree in folders[1:5]))
    found = pool.responses(4)
    assert [response["result"] for response in found] == [["on"]] * 4
    assert {response["worker"]["start_method"] for response in found} == {"spawn"}
    processes.wait_gone([template])
    assert pool.stderr.count(FAILED) == 1
    assert "did not answer in time" in pool.stderr
    # Another chance, and the last one.
    assert method(pool, folders[5]) == "forkserver"
    template = stopped(pool)
    assert method(pool, folders[6]) == "spawn"
    processes.wait_gone([template])
    assert [method(pool, make_tree(tmp_path / name)) for name in "ab"] == ["spawn"] * 2
    assert (pool.stderr.count(FAILED), pool.stderr.count(FALLBACK)) == (2, 1)
    assert pool.finish() == ([], 0)


def test_f26_a_worker_dies_under_a_template_that_hangs(
    setting: Setting, tree: Path, gate: Gate
) -> None:
    """The template cannot say how it died; that must not keep the answer back."""
    pool = setting.start("--health-timeout", "500ms")
    worker = pool.settle(tree)
    pool.send(call(tree, with_child(gate, IGNORE_TERM), 1))
    running = [gate.arrived(), gate.arrived()]
    template = stopped(pool)
    os.kill(worker["pid"], signal.SIGKILL)
    response = pool.response(5)
    assert kind(response) == "WorkerCrashed"
    processes.wait_gone([template, *running], timeout=2)
    assert pool.ask(call(tree, "result = ['on']", 2))["result"] == ["on"]
    processes.wait_no_zombies(pool.pid)
    assert pool.finish() == ([], 1)


def test_f26_the_end_of_a_program_whose_template_hangs(setting: Setting, tree: Path) -> None:
    pool = setting.start("--health-timeout", "500ms")
    pool.settle(tree)
    template = stopped(pool)
    assert pool.finish() == ([], 0)
    assert not processes.alive(template)


@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGTERM, signal.SIGINT]])
def test_f17_f18_a_signal_while_a_template_hangs(
    setting: Setting, tree: Path, gate: Gate, numbers: list[signal.Signals]
) -> None:
    """The grace period ends as it does otherwise, and a second signal ends it at once."""
    grace = "1s" if len(numbers) == 1 else "1h"
    note = (
        f"import signal\nsignal.signal(signal.SIGTERM, lambda *_: open({NOTED!r}, 'w').close())\n"
    )
    pool = setting.start("--grace-period", grace, "--health-timeout", "6s")
    pool.settle(tree)
    pool.send(call(tree, note + gate.arrive + FOR_EVER))
    hook = gate.arrived()
    template = stopped(pool)
    pool.signal(numbers[0])
    wait_for_file(tree / NOTED)
    for number in numbers[1:]:
        pool.signal(number)
    (response,) = pool.rest()
    assert kind(response) == "Interrupted"
    assert pool.wait() - 128 in numbers
    assert not any(processes.alive(pid) for pid in (hook, template))


BAD_TEMPLATES = {
    "dies at start": "sys.exit(4)",
    "dies of a signal": "os.abort()",
    "says garbage": "os.write(0, b'garbage')\nwhile True: signal.pause()",
    "says nothing": "while True: signal.pause()",
    "closes its socket": "os.close(0)\nwhile True: signal.pause()",
    "floods": "while True: os.write(0, b'x' * 1000)",
    "refuses": (
        "import json, socket\n"
        "channel = socket.socket(fileno=0)\n"
        "while True:\n"
        "    order = json.loads(channel.recv(65536))\n"
        "    if 'retire' in order: break\n"
        "    channel.send(json.dumps({'not_forked': order.get('fork'), 'reason': 'no'}).encode())"
    ),
}


def bad_template(path: Path, what: str) -> str:
    """An interpreter that is a good one but for templates."""
    branch = f"import signal\nif '--template' in arguments:\n    exec({BAD_TEMPLATES[what]!r})\n"
    return fake_python(path, branch + "run_real_worker()\n")


@pytest.mark.parametrize("what", BAD_TEMPLATES)
def test_f26_templates_that_are_none(
    setting: Setting, tree: Path, tmp_path: Path, what: str
) -> None:
    bad = bad_template(tmp_path / "bad-python", what)
    pool = setting.start("--health-timeout", "300ms", "--startup-timeout", "3s")
    for number, folder in enumerate(make_trees(tmp_path, 4)):
        response = pool.ask(call(folder, "result = ['on']", number, python=bad))
        assert response["result"] == ["on"], response
        assert response["worker"]["start_method"] == "spawn"
    if what != "refuses":
        assert (pool.stderr.count(FAILED), pool.stderr.count(FALLBACK)) == (2, 1)
    assert method(pool, tree) == "forkserver"
    assert processes.peak_memory(pool.pid) < 64 * 2**20
    assert pool.finish() == ([], 0)


# Slow imports.


def test_f12_the_supervisor_is_killed_while_a_template_imports(
    setting: Setting,
    environment: Environment,
    slow_tree: Path,
    tree: Path,
    gate: Gate,
    isolation: str,
) -> None:
    pool = setting.start("--isolation", isolation, python=environment.python)
    pool.settle(tree)
    pool.send(call(slow_tree, ""))
    importing = gate.arrived()
    assert importing in processes.templates(pool.pid)
    pool.send(call(tree, with_child(gate, IGNORE_TERM)))
    gate.arrived()
    gate.arrived()
    everyone = list(processes.marked(setting.mark))
    # The supervisor, two templates, a worker, its hook, the hook's child.
    assert len(everyone) == (6 if isolation == "hook" else 5)
    setting.killed = True
    pool.signal(signal.SIGKILL)
    pool.wait()
    processes.wait_gone(everyone, timeout=5)
    assert not processes.marked(setting.mark)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_template_imports(
    setting: Setting,
    environment: Environment,
    slow_tree: Path,
    gate: Gate,
    number: signal.Signals,
) -> None:
    pool = setting.start(python=environment.python)
    pool.send(call(slow_tree, ""))
    template = gate.arrived()
    pool.signal(number)
    (response,) = pool.rest()
    assert kind(response) == "Interrupted"
    assert pool.wait() == 128 + number
    # It may be a trial of the template's, which the kernel kills after it.
    processes.wait_gone([template])


def test_an_import_that_takes_too_long_for_a_template(
    setting: Setting, environment: Environment, slow_tree: Path, gate: Gate
) -> None:
    """The hook does it then, as in a fresh process, for which only its own deadline counts."""
    pool = setting.start(
        "--startup-timeout", "1s", "--health-timeout", "1s", python=environment.python
    )
    pool.send(call(slow_tree, "result = ['built']", 1))
    template = gate.arrived()
    hook = gate.arrived()
    processes.wait_gone([template])
    assert "slow_backend" in pool.stderr
    gate.release()
    response = pool.response()
    assert response["result"] == ["built"]
    assert response["worker"]["start_method"] == "spawn"
    # Its answer is not kept back by the end of its process.
    processes.wait_gone([hook])
    assert pool.finish() == ([], 0)


def test_others_do_not_wait_for_a_template_that_imports(
    setting: Setting, environment: Environment, slow_tree: Path, tree: Path, gate: Gate
) -> None:
    pool = setting.start(python=environment.python)
    pool.send(call(slow_tree, "result = ['built']", "slow"))
    gate.arrived()
    assert method(pool, tree) == "forkserver"
    # One for the template, and one for the hook: a backend that keeps its process's number, as
    # this one does by what it says at the gate, is not preloaded.
    gate.release(2)
    response = pool.response()
    assert (response["id"], response["result"]) == ("slow", ["built"])
    assert FAILED not in pool.stderr
    assert pool.finish() == ([], 0)


# Deaths next to a template.


def test_f12_the_supervisor_of_templates_is_killed(
    setting: Setting, environment: Environment, tree: Path, gate: Gate, tmp_path: Path
) -> None:
    environment.write({"plain_backend.py": CODE_BACKEND})
    pool = setting.start(python=environment.python)
    pool.settle(backend_tree(tmp_path / "plain", "plain_backend"))
    pool.send(call(tree, detach(gate) + with_child(gate, IGNORE_TERM)))
    for _ in range(3):
        gate.arrived()
    assert len(processes.templates(pool.pid)) == 2
    everyone = list(processes.marked(setting.mark))
    setting.killed = True
    pool.signal(signal.SIGKILL)
    pool.wait()
    processes.wait_gone(everyone, timeout=5)
    assert not processes.marked(setting.mark)


def test_f50_a_worker_dies_next_to_others(setting: Setting, tmp_path: Path, gate: Gate) -> None:
    """What its hook left is adopted and killed by the template, which goes on."""
    pool = setting.start()
    one, two, three = make_trees(tmp_path, 3)
    pool.settle(one)
    template = template_of(pool)
    pool.send(call(two, gate.code + "result = ['two']", 2))
    gate.arrived()
    grandchild = "import os\nos.setsid()\n" + IGNORE_TERM + gate.arrive + FOR_EVER
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {grandchild!r}])\n"
    pool.send(call(one, code, 1))
    sleeper = gate.arrived()
    assert os.getsid(sleeper) == sleeper
    hook = processes.parent(sleeper)
    os.kill(processes.parent(hook), signal.SIGKILL)
    response = pool.response()
    assert (response["id"], kind(response)) == (1, "WorkerCrashed")
    assert "KILL" in str(response["error"])
    processes.wait_gone([sleeper], timeout=2)
    gate.release()
    assert pool.response()["result"] == ["two"]
    assert [method(pool, folder) for folder in (one, three)] == ["forkserver"] * 2
    assert template_of(pool) == template
    processes.wait_no_zombies(template)
    assert FAILED not in pool.stderr
    assert pool.finish() == ([], 1)


# Limits and replacements.


def backends(environment: Environment, folder: Path, names: Sequence[str]) -> list[Path]:
    """Trees of backends that answer with their names."""
    trees = []
    for name in names:
        hook = "def get_requires_for_build_wheel(config_settings=None):\n"
        environment.write({f"{name}.py": f"{hook}    return [{name!r}]\n"})
        trees.append(backend_tree(folder / f"tree-of-{name}", name))
    return trees


def wait_templates(pool: Pool, count: int) -> None:
    """Wait until there are no more than so many."""
    end = time.monotonic() + 10
    while len(found := processes.templates(pool.pid)) > count:
        assert time.monotonic() < end, f"there still are {found}"
        time.sleep(processes.TICK)


def test_max_templates(setting: Setting, environment: Environment, tmp_path: Path) -> None:
    folders = backends(environment, tmp_path, ["back_a", "back_b"])
    # Each request evicts the other's worker, and with it the other's template.
    pool = setting.start(
        "--max-templates", "1", "--max-workers", "1", jobs=1, python=environment.python
    )
    seen = set()
    for number in range(10):
        tree = folders[number % 2]
        response = pool.ask(call(tree, "", number))
        assert response["result"] == [tree.name.removeprefix("tree-of-")]
        assert response["worker"]["start_method"] == "forkserver"
        wait_templates(pool, 1)
        seen.add(template_of(pool))
    assert len(seen) == 10
    assert pool.finish() == ([], 0)


def test_max_templates_spares_those_with_workers(
    setting: Setting, environment: Environment, tmp_path: Path, gate: Gate
) -> None:
    one, two = backends(environment, tmp_path, ["back_a", "back_b"])
    environment.write({"back_held.py": CODE_BACKEND})
    held = backend_tree(tmp_path / "held", "back_held")
    pool = setting.start("--max-templates", "1", jobs=2, python=environment.python)
    pool.send(call(held, gate.code + "result = ['held']", "held"))
    gate.arrived()
    holder = template_of(pool)
    for number in range(4):
        tree = (one, two)[number % 2]
        assert pool.ask(call(tree, "", number))["result"] == [tree.name.removeprefix("tree-of-")]
    assert holder in processes.templates(pool.pid)
    gate.release()
    assert pool.response()["result"] == ["held"]
    # One that is in use, and those whose workers are idle.
    assert len(processes.templates(pool.pid)) <= 3
    assert pool.finish() == ([], 0)


CODE_OF_ANSWER = "import os\nresult = [os.environ.get('ANSWER', 'none')]"


def test_variables_of_requests_share_a_template(setting: Setting, tmp_path: Path) -> None:
    """Those that no module has read when it was imported."""
    pool = setting.start("-vv")
    one, two = make_trees(tmp_path, 2)
    for answer in ("none", "1", "2", "none", "1"):
        for tree in (one, two):
            env = {} if answer == "none" else {"ANSWER": answer}
            response = pool.ask(call(tree, CODE_OF_ANSWER, 1, env=env))
            assert response["result"] == [answer]
            assert response["worker"]["start_method"] == "forkserver"
    assert len(processes.templates(pool.pid)) == 1
    assert pool.stderr.count("template starts") == 1
    assert pool.finish() == ([], 0)


@pytest.mark.parametrize("reading", ["os.environ.get('ANSWER')", "os.environ.copy()"])
def test_variables_that_a_backend_reads_when_it_is_imported(
    setting: Setting, environment: Environment, tmp_path: Path, reading: str
) -> None:
    environment.write({"reading_backend.py": f"import os\nFOUND = {reading}\n" + CODE_BACKEND})
    pool = setting.start(python=str(environment.python))
    code = CODE_OF_ANSWER + "\nimport reading_backend\nfound = reading_backend.FOUND\n"
    code += (
        "result += [found.get('ANSWER', 'none') if isinstance(found, dict) else found or 'none']"
    )

    def ask(tree: Path, **env: str) -> tuple[str, str]:
        response = pool.ask(call(tree, code, 1, env=env))
        kept, found = response["result"]
        assert kept == found
        return found, response["worker"]["start_method"]

    one, two, three = (backend_tree(tmp_path / f"t{n}", "reading_backend") for n in range(3))
    assert ask(one) == ("none", "forkserver")
    # They may never come again.
    assert ask(one, ANSWER="1") == ("1", "spawn")
    assert ask(one, ANSWER="2") == ("2", "spawn")
    assert len(processes.templates(pool.pid)) == 1
    assert ask(two, ANSWER="1") == ("1", "forkserver")
    assert ask(three, ANSWER="1") == ("1", "forkserver")
    assert ask(three, ANSWER="3") == ("3", "spawn")
    assert ask(two) == ("none", "forkserver")
    assert len(processes.templates(pool.pid)) == 2
    assert pool.finish() == ([], 0)


def test_the_variables_that_were_read_are_known_in_the_next_run(
    setting: Setting, environment: Environment, tmp_path: Path
) -> None:
    """The first of other values that come with the first request is spawned at once."""
    reading = "import os\nFOUND = os.environ.get('ANSWER')\n"
    environment.write({"reading_backend.py": reading + CODE_BACKEND})
    tree = backend_tree(tmp_path / "tree", "reading_backend")
    for _ in range(2):
        pool = setting.start("-vv", python=str(environment.python))
        for answer in ("1", "2"):
            response = pool.ask(call(tree, CODE_OF_ANSWER, 1, env={"ANSWER": answer}))
            assert response["result"] == [answer]
        assert pool.finish() == ([], 0)
    (kept,) = (setting.cache / "hookpool" / "learned").iterdir()
    assert "ANSWER" in json.loads(kept.read_text())["variables"]["names"]


def test_f44_sighup_replaces_the_template(setting: Setting, tmp_path: Path, gate: Gate) -> None:
    pool = setting.start()
    one, two = make_trees(tmp_path, 2)
    pool.send(call(one, gate.code + "result = ['held']", "held"))
    gate.arrived()
    first = template_of(pool)
    pool.send(call(two, "", 1))
    idle = pool.response()["worker"]["pid"]
    pool.signal(signal.SIGHUP)
    processes.wait_gone([idle])
    assert method(pool, two) == "forkserver"
    # It stays for as long as its worker.
    (second,) = set(processes.templates(pool.pid)) - {first}
    assert processes.alive(first)
    gate.release()
    assert pool.response()["result"] == ["held"]
    processes.wait_gone([first])
    assert method(pool, one) == "forkserver"
    assert template_of(pool) == second
    assert FAILED not in pool.stderr
    assert pool.finish() == ([], 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_templates(
    setting: Setting, tmp_path: Path, gate: Gate, number: signal.Signals
) -> None:
    pool = setting.start(preexec=lambda: os.setpgid(0, 0))
    one, two = make_trees(tmp_path, 2)
    pool.settle(one)
    template = template_of(pool)
    pool.send(call(two, with_child(gate)))
    running = [gate.arrived(), gate.arrived()]
    # As a terminal does: to the whole group.
    os.killpg(pool.pid, number)
    (response,) = pool.rest()
    assert kind(response) == "Interrupted"
    assert pool.wait() == 128 + number
    assert not any(processes.alive(pid) for pid in (template, *running))
    assert FAILED not in pool.stderr


def test_f19_stopped_and_continued(setting: Setting, tmp_path: Path, gate: Gate) -> None:
    pool = setting.start("--health-timeout", "500ms")
    one, two = make_trees(tmp_path, 2)
    pool.settle(one)
    template = template_of(pool)
    pool.send(call(one, gate.code + "result = ['done']", 1))
    hook = gate.arrived()
    pool.signal(signal.SIGTSTP)
    for pid in (pool.pid, hook):
        processes.wait_state(pid, "T")
    # The template's time to answer must not run meanwhile.
    processes.outlast(0.5)
    pool.send(call(two, "result = ['forked']", 2))
    pool.signal(signal.SIGCONT)
    response = pool.response()
    assert (response["id"], response["result"]) == (2, ["forked"])
    assert response["worker"]["start_method"] == "forkserver"
    gate.release()
    assert pool.response()["result"] == ["done"]
    assert template_of(pool) == template
    assert pool.finish() == ([], 0)


def test_f19_stopped_while_a_template_imports(
    setting: Setting, environment: Environment, slow_tree: Path, gate: Gate
) -> None:
    """The time of the stop does not count against the template."""
    pool = setting.start("--startup-timeout", "2s", python=environment.python)
    pool.send(call(slow_tree, "result = ['done']"))
    gate.arrived()
    pool.signal(signal.SIGTSTP)
    processes.wait_state(pool.pid, "T")
    processes.outlast(2)
    pool.signal(signal.SIGCONT)
    # The import is still not done when the supervisor has looked at its clock.
    pool.send({"no": "request"})
    assert kind(pool.response()) == "InvalidRequest"
    # One for the template, and one for the hook should it have to import by itself.
    gate.release(2)
    response = pool.response()
    assert response["result"] == ["done"]
    assert FAILED not in pool.stderr
    assert pool.finish() == ([], 1)


def test_a_slow_start_of_the_interpreter_is_no_silence(
    setting: Setting, tree: Path, tmp_path: Path
) -> None:
    """It has --startup-timeout for that, as a worker has."""
    start = "import time\ntime.sleep(1)\nrun_real_worker()\n"
    slow = fake_python(tmp_path / "slow-python", start)
    pool = setting.start("--health-timeout", "300ms")
    response = pool.ask(call(tree, "result = ['on']", 1, python=slow))
    assert response["result"] == ["on"]
    assert response["worker"]["start_method"] == "forkserver"
    assert pool.finish() == ([], 0)
