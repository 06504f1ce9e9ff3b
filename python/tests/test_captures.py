"""`--reuse-captures`: hooks that print nothing leave their output files to the next hook."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from client import Hookd, Lifeline, Reply
from conftest import Start

BOTH = pytest.mark.parametrize("isolation", ["hook", "none"])
REUSE = "--reuse-captures"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Leases of files are Linux's.")


def files(reply: Reply) -> list[str]:
    return [reply.value("STDOUT"), reply.value("STDERR")]


def are_the_same(hookd: Hookd, first: Reply) -> bool:
    """Whether the next hook writes to the same files as `first`. Checks its output, too."""
    second = hookd.run_code("import os; print('again'); os.write(2, b'!')")
    assert second.captured("STDOUT") == "again\n"
    assert second.captured("STDERR") == "!"
    same = files(second) == files(first)
    assert same or not set(files(second)) & set(files(first))
    return same


@BOTH
def test_empty_files_are_taken_again(start: Start, isolation: str) -> None:
    hookd = start(REUSE, isolation=isolation)
    first = hookd.run_code("")
    assert files(hookd.run_code("")) == files(first)
    assert are_the_same(hookd, first)
    # Which has written to them.
    third = hookd.run_code("")
    assert not set(files(third)) & set(files(first))
    assert [Path(path).stat().st_mode & 0o777 for path in files(third)] == [0o600, 0o600]


@BOTH
def test_a_silent_hook_is_said_to_be_one(start: Start, isolation: str) -> None:
    hookd = start(REUSE, isolation=isolation)
    assert "SILENT" in hookd.run_code("").kinds
    assert "SILENT" not in hookd.run_code("print('output')").kinds
    assert "SILENT" not in hookd.run_code("import os; os.write(2, b'!')").kinds
    assert "SILENT" in hookd.run_code("").kinds
    elsewhere = "import os; os.rename(os.readlink('/proc/self/fd/1'), 'elsewhere')"
    assert "SILENT" not in hookd.run_code(elsewhere).kinds


@BOTH
def test_acceptance_and_result_are_one_write_each(start: Start, site: Path, isolation: str) -> None:
    # The output becomes a pipe of packets: each read returns what one write has written (pipe(2)).
    packets = "import fcntl, os; fcntl.fcntl(1, fcntl.F_SETFL, os.O_DIRECT)"
    (site / "sitecustomize.py").write_text(packets)
    hookd = start(REUSE, isolation=isolation)
    hookd.start_code("")
    acceptance, result = hookd.packet(), hookd.packet()
    assert [kind for kind, _ in acceptance if kind != "EXPECT"] == ["STDOUT", "STDERR"]
    assert [kind for kind, _ in result][:2] == ["SILENT", "OK"]


@BOTH
def test_only_if_it_was_asked_for(start: Start, isolation: str) -> None:
    hookd = start(isolation=isolation)
    assert not are_the_same(hookd, hookd.run_code(""))


@BOTH
@pytest.mark.parametrize("stream", [0, 1])
def test_not_with_output(start: Start, isolation: str, stream: int) -> None:
    hookd = start(REUSE, isolation=isolation)
    first = hookd.run_code(f"import os; os.write({stream + 1}, b'output')")
    assert not are_the_same(hookd, first)
    assert Path(files(first)[stream]).read_text() == "output"


@BOTH
@pytest.mark.parametrize(
    "change",
    [
        "os.unlink(path)",
        "os.unlink(path); os.symlink(path + '.elsewhere', path); open(path, 'w').close()",
        "os.unlink(path); os.mkfifo(path)",
        "os.unlink(path); os.mkdir(path)",
        "os.unlink(path); open(path, 'w').close(); os.chmod(path, 0o600)",
        "os.link(path, path + '.link')",
        "os.chmod(path, 0o644)",
        "os.truncate(path, 1)",
    ],
)
def test_not_if_it_is_another_file(start: Start, isolation: str, change: str) -> None:
    hookd = start(REUSE, isolation=isolation)
    first = hookd.run_code(f"import os; path = os.readlink('/proc/self/fd/2'); {change}")
    assert not are_the_same(hookd, first)
    for path in Path(files(first)[0]).parent.iterdir():
        if path.name.endswith((".link", ".elsewhere")):
            path.unlink()


def test_not_while_the_worker_has_it_open_itself(start: Start) -> None:
    hookd = start(REUSE, isolation="none")
    first = hookd.run_code("import builtins, os; builtins.kept = os.dup(1)")
    assert not are_the_same(hookd, first)
    first = hookd.run_code("import builtins, os; os.close(builtins.kept)")
    assert are_the_same(hookd, first)


@BOTH
def test_not_while_a_process_that_was_left_behind_has_it_open(
    start: Start, isolation: str, lifeline: Lifeline
) -> None:
    hookd = start(REUSE, isolation=isolation)
    code = "import os, leftovers\nleftovers.open_lifeline(settings['line'])\n"
    hookd.start_code(code + "leftovers.child(os.setsid)", line=lifeline.path)
    lifeline.wait_started()
    first = hookd.ready()
    assert not are_the_same(hookd, first)


@BOTH
def test_not_while_somebody_reads_it(start: Start, isolation: str, lifeline: Lifeline) -> None:
    hookd = start(REUSE, isolation=isolation)
    code = "import leftovers; leftovers.open_lifeline(settings['line'])"
    hookd.start_code(code, line=lifeline.path)
    first = Reply(hookd.until("STDERR"))
    with open(files(first)[0]):
        # The hook waits for somebody to read its end of this.
        lifeline.wait_started(0)
        hookd.ready()
        assert not are_the_same(hookd, first)


@BOTH
def test_a_file_that_was_taken_away_is_not_missed(start: Start, isolation: str) -> None:
    hookd = start(REUSE, isolation=isolation)
    first = hookd.run_code("")
    kept = files(first)[0] + ".kept"
    os.rename(files(first)[0], kept)
    assert not are_the_same(hookd, first)
    assert Path(kept).read_bytes() == b""
    os.unlink(kept)


@BOTH
def test_hooks_find_descriptors_as_new_ones_are(start: Start, isolation: str) -> None:
    code = "import fcntl; result = [str(fcntl.fcntl(d, f)) for d in (1, 2) for f in (1, 3)]"
    expected = start(isolation=isolation).run_code(code).result
    hookd = start(REUSE, isolation=isolation)
    first = hookd.run_code("")
    second = hookd.run_code(code)
    assert files(second) == files(first)
    assert second.result == expected


@BOTH
def test_no_descriptor_is_lost_with_requests_that_need_none(start: Start, isolation: str) -> None:
    hookd = start(REUSE, isolation=isolation)
    code = "import os; result = sorted(os.listdir('/proc/self/fd'))"
    hookd.run_code("")
    expected = hookd.run_code(code).result
    first = hookd.run_code("")
    for _ in range(3):
        hookd.write("run", "no module", "", "build_wheel", "", "{}", "")
        hookd.ready()
        assert files(hookd.run_code("")) == files(first)
    assert hookd.run_code(code).result == expected


@pytest.mark.parametrize("name", ["os.lstat", "os.fstat", "os.open", "fcntl.fcntl"])
def test_functions_that_hooks_have_replaced(start: Start, name: str) -> None:
    """With isolation `none` they stay replaced. Then new files are made."""
    hookd = start(REUSE, isolation="none")
    first = hookd.run_code("")
    second = hookd.run_code(f"import os, fcntl\ndef fail(*a, **k): raise TypeError\n{name} = fail")
    assert files(second) == files(first)
    are_the_same(hookd, second)
