"""The interpreters that are tested, and a check that no test leaves anything behind."""

from __future__ import annotations

import os
import signal
import sys
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import exhaustive
import pytest
from client import HOOKD, Hookd, Lifeline, kill, processes_with, wait_for_end
from interpreters import PROMISED, interpreters

BACKENDS = Path(__file__).parent / "backends"

TIME_LIMIT = 60


INTERPRETERS = interpreters()

# The oldest, that of the end-to-end tests, and those that change most.
ALL_TESTS_RUN_ON = ("3.7", "{}.{}".format(*sys.version_info), "3.14", "3.15")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flag `--exhaustive`."""
    exhaustive.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Add its mark."""
    exhaustive.add_mark(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without --exhaustive, also leave each test to one of the interpreters between, the same in
    each run.
    """
    if exhaustive.is_chosen(config):
        return
    between = [version for version in PROMISED if version not in ALL_TESTS_RUN_ON]

    def is_left_out(item: pytest.Item) -> bool:
        version = exhaustive.parameters(item).get("interpreter")
        name = item.nodeid.replace(str(version), "", 1)
        chosen = between[zlib.crc32(name.encode()) % len(between)]
        is_of_another = version in between and version != chosen
        return is_of_another or exhaustive.is_left_out(config, item)

    exhaustive.leave_out(config, items, list(filter(is_left_out, items)))


@pytest.fixture(params=PROMISED + sorted(set(INTERPRETERS) - set(PROMISED)))
def interpreter(request: pytest.FixtureRequest) -> str:
    """Every interpreter that hookd promises to run on."""
    if request.param not in INTERPRETERS:
        pytest.skip("Python {} is not installed".format(request.param))
    return str(INTERPRETERS[request.param])


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    """End a test that hangs: the tests themselves have no time limits."""

    def interrupt(number: int, frame: object) -> None:
        raise TimeoutError("the test took more than {} s".format(TIME_LIMIT))

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(TIME_LIMIT)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An empty source tree."""
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder


@pytest.fixture
def capture_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "capture"
    folder.mkdir()
    return folder


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment of workers: that of a user, without the variables that are set for tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return dict(kept, PYTHONPATH=str(BACKENDS), HOOKD_TEST_MARKER=uuid.uuid4().hex)


@pytest.fixture
def site(tmp_path: Path, environment: dict[str, str]) -> Path:
    """A folder on the workers' PYTHONPATH, for a sitecustomize, for example."""
    folder = tmp_path / "site"
    folder.mkdir()
    environment["PYTHONPATH"] = str(folder) + os.pathsep + environment["PYTHONPATH"]
    return folder


Start = Callable[..., Hookd]


@pytest.fixture
def start(
    interpreter: str,
    tree: Path,
    capture_folder: Path,
    environment: dict[str, str],
    tmp_path: Path,
) -> Iterator[Start]:
    """Starts workers, and checks after the test that they left nothing behind."""
    workers: list[Hookd] = []

    def start(
        *arguments: str,
        isolation: str = "hook",
        json: bool = True,
        control: bool = True,
        ready: bool = True,
        tree: Path | str = tree,
    ) -> Hookd:
        switches = ["--json"] * json + ["--control"] * control
        command = [interpreter, str(HOOKD), *switches, "--isolation", isolation]
        command += ["--capture-dir", str(capture_folder), *arguments, str(tree)]
        hookd = Hookd(command, environment, tmp_path / "log-{}".format(len(workers)))
        workers.append(hookd)
        if ready:
            hookd.ready()
        return hookd

    yield start

    try:
        for hookd in workers:
            hookd.finish()
    finally:
        left = wait_for_end(processes_with(environment["HOOKD_TEST_MARKER"]), 5.0)
        kill(left)
    assert not left, "processes were left behind"
    announced = {path for hookd in workers for path in hookd.announced}
    assert {str(path) for path in capture_folder.iterdir()} <= announced


@pytest.fixture
def lifeline(tmp_path: Path) -> Iterator[Lifeline]:
    lifeline = Lifeline(tmp_path / "lifeline")
    yield lifeline
    lifeline.close()
