"""How an idle worker ends, with both isolations."""

from __future__ import annotations

import os
import signal

import pytest
from conftest import Start

BOTH = pytest.mark.parametrize("isolation", ["hook", "none"])

REQUEST = ["run", "sample_module", "", "build_wheel", "", "{}", ""]


@BOTH
def test_shutdown(start: Start, isolation: str) -> None:
    hookd = start(isolation=isolation)
    assert hookd.shut_down() == 0
    assert hookd.line() == b""
    assert hookd.log.read_text() == ""


@BOTH
@pytest.mark.parametrize("lines", range(len(REQUEST)))
def test_end_of_input(start: Start, isolation: str, lines: int) -> None:
    """The input ends between requests and within one, with and without an unfinished line."""
    for piece in (b"", b"half a li"):
        hookd = start(isolation=isolation)
        hookd.write(*REQUEST[:lines])
        hookd.write_bytes(piece)
        hookd.close_input()
        assert hookd.wait() == 0
        kinds = {line.split()[0] for line in iter(hookd.line, b"")}
        assert kinds <= {b"EXPECT"}, "nothing was run"
        assert ("unfinished" in hookd.log.read_text()) == bool(piece)


@BOTH
def test_shutdown_without_newline_is_no_action(start: Start, isolation: str) -> None:
    hookd = start(isolation=isolation)
    hookd.write_bytes(b"shutdown")
    hookd.close_input()
    assert hookd.wait() == 0
    assert hookd.line() == b""


@BOTH
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_an_idle_worker(start: Start, isolation: str, number: signal.Signals) -> None:
    hookd = start(isolation=isolation)
    hookd.run("sample_module")
    os.kill(hookd.pid, number)
    assert hookd.wait() == -number
    assert hookd.line() == b""


@BOTH
def test_signal_in_the_middle_of_a_request(start: Start, isolation: str) -> None:
    hookd = start(isolation=isolation)
    hookd.write("run")
    hookd.until("EXPECT")
    os.kill(hookd.pid, signal.SIGTERM)
    assert hookd.wait() == -signal.SIGTERM


@BOTH
def test_nobody_reads(start: Start, isolation: str) -> None:
    hookd = start(isolation=isolation)
    hookd.output.close()
    hookd.write("nonsense")
    assert hookd.wait() == 0


@BOTH
def test_pipe_script_without_control(start: Start, isolation: str) -> None:
    """Requests that are piped into a bare hookd are answered after the end of the pipe."""
    hookd = start(isolation=isolation, control=False)
    slow = "run\nrun_code\n\nget_requires_for_build_wheel\n{}\n"
    code = "import os; open(settings['go']).read(); result = ['slow']"
    go = os.path.join(os.path.dirname(str(hookd.log)), "go")
    os.mkfifo(go)
    payload = '{{"code": "{}", "go": "{}"}}'.format(code, go)
    hookd.write_bytes((slow.format(payload) + "run\nsample_module\n\n").encode())
    hookd.write_bytes(b"get_requires_for_build_wheel\n\nshutdown\n")
    hookd.close_input()
    with open(go, "w"):
        pass
    assert hookd.ready().result == ["slow"]
    assert hookd.ready().result == ["wheel >= 0.25", "[null]"]
    hookd.until("SHUTDOWN")
    assert hookd.wait() == 0
