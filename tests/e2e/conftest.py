"""Fixtures: private folders for each test, and a check that the test left nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import exhaustive
import leaks
import processes
import pytest
import trees
from gate import Gate
from interpreters import NEWEST, interpreters
from pool import PROGRAM, REPOSITORY, Pool
from service import Service

INTERPRETERS = interpreters()

# Settings of the caller for other sources of distributions: they decide which installer hookpool
# chooses, and what the installer finds.
NOT_OURS = ("HOOKPOOL_", "PYTHON", "PYTEST_", "XDG_", "PIP_FIND_LINKS", "UV_FIND_LINKS")

# Marks tests that a start method may affect: processes, signals, deaths, state.
BOTH_START_METHODS = pytest.mark.usefixtures("start_method")
# Marks tests of the building commands that a service must not affect.
BOTH_POOLS = pytest.mark.usefixtures("pool_of")
# Marks tests that build environments must not affect: scheduling, limits, the end of the program.
BOTH_WAYS = pytest.mark.usefixtures("way")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flag `--exhaustive`."""
    exhaustive.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Add its mark."""
    exhaustive.add_mark(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out one of four combinations: spawned workers in build environments.

    Each of the two is tested with the other's counterpart, and starting a worker takes longest so.
    """
    pair = {"start_method": "spawn", "way": "isolated"}

    def is_left_out(item: pytest.Item) -> bool:
        is_pair = pair.items() <= exhaustive.parameters(item).items()
        return is_pair or exhaustive.is_left_out(config, item)

    exhaustive.leave_out(config, items, list(filter(is_left_out, items)))


@pytest.fixture(scope="session", autouse=True)
def _program() -> None:
    if not os.access(PROGRAM, os.X_OK):
        pytest.exit(f"{PROGRAM} is not there: cargo build -p hookpool", returncode=3)
    # Background jobs of a script and nohup(1) ignore these signals, and programs inherit that.
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for the whole session, so that hookd is compiled once."""
    folder = tmp_path_factory.mktemp("cache")
    folder.chmod(0o700)
    return folder


@dataclass
class Setting:
    """The folders of a test, and the way to start its programs."""

    root: Path
    cache: Path
    mark: str
    env: dict[str, str]
    # A killed supervisor cannot remove its capture folder.
    killed: bool = False
    # The value of the flag, if it is passed.
    start_method: str | None = None
    # Whether hooks run in build environments, unless the test chooses.
    build_isolation: bool = False
    pools: list[Pool] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    # Whether a service does the work of building commands.
    builds_by_service: bool = False
    # These services, by the number of their jobs.
    building: dict[int, Service] = field(default_factory=dict)

    def installs_only_from(self, wheels: Path) -> None:
        """Build environments get the wheels of this folder, and nothing from an index."""
        self.env |= {"HOOKPOOL_NO_INDEX": "true", "HOOKPOOL_FIND_LINKS": str(wheels)}

    @property
    def tmp(self) -> Path:
        """TMPDIR."""
        return self.root / "t"

    def start(
        self,
        *flags: str,
        env: dict[str, str] | None = None,
        python: str | None = sys.executable,
        jobs: int | None = 2,
        build_isolation: bool | None = None,
        **options: Any,
    ) -> Pool:
        """Start `hookpool run` with `flags`."""
        arguments: list[str] = []
        if build_isolation is None:
            build_isolation = self.build_isolation
        if not build_isolation:
            arguments.append("--no-build-isolation")
        if python is not None:
            arguments += ["--python", python]
        if jobs is not None:
            arguments += ["--jobs", str(jobs)]
        if self.start_method is not None:
            arguments += ["--start-method", self.start_method]
        arguments += flags
        log = self.root / f"stderr-{len(self.pools)}"
        pool = Pool(arguments, {**self.env, **(env or {})}, log, **options)
        self.pools.append(pool)
        return pool

    def serve(
        self,
        *flags: str,
        env: dict[str, str] | None = None,
        socket: Path | None = None,
        build_isolation: bool | None = None,
        jobs: int = 2,
    ) -> Service:
        """Start `hookpool serve` with `flags`, and wait until it serves."""
        arguments = ["--python", sys.executable, "--jobs", str(jobs)]
        if not (self.build_isolation if build_isolation is None else build_isolation):
            arguments.append("--no-build-isolation")
        log = self.root / f"service-{len(self.services)}"
        place = socket or self.root / "s" / "socket"
        service = Service([*arguments, *flags], {**self.env, **(env or {})}, place, log)
        self.services.append(service)
        return service.wait_ready()

    def service_with(self, jobs: int) -> Service:
        """A service that does the work of building commands."""
        if jobs not in self.building:
            place = self.root / f"s{jobs}" / "socket"
            self.building[jobs] = self.serve(socket=place, build_isolation=True, jobs=jobs)
        return self.building[jobs]


@pytest.fixture(autouse=True)
def setting(tmp_path: Path, shared_cache: Path) -> Iterator[Setting]:
    """A private TMPDIR, HOME and marker for the test; nothing of it may be left afterwards."""
    # Templates are started with variables of such names, and with few others.
    mark = f"PYTHON_E2E_MARK={uuid.uuid4().hex}"
    env = {name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)}
    # A short name: hooks create sockets in the folder, whose paths may have 107 bytes (unix(7)).
    for name in ("t", "home", "runtime"):
        (tmp_path / name).mkdir(mode=0o700)
    env |= {
        "TMPDIR": str(tmp_path / "t"),
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(shared_cache),
        "XDG_RUNTIME_DIR": str(tmp_path / "runtime"),
        # uv is several times as fast as pip; tests of pip choose it explicitly.
        "HOOKPOOL_INSTALLER": "uv",
        mark.partition("=")[0]: mark.partition("=")[2],
    }
    # The modules that a template preloads must not depend on earlier tests.
    shutil.rmtree(shared_cache / "hookpool" / "learned", ignore_errors=True)
    # It belongs to another test, whose program was killed.
    halves_before = leaks.halves(shared_cache / "hookpool")
    setting = Setting(tmp_path, shared_cache, mark, env)
    yield setting
    for pool in setting.pools:
        if pool.process.poll() is None:
            setting.killed = True
        pool.stop()
    for service in setting.services:
        if service.process.poll() is None:
            setting.killed = True
        service.kill()
    left = leaks.processes_of(mark, 5)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    processes.wait_gone(left)
    assert not left, f"processes were left behind: {left}"
    # A killed program cannot clean up.
    if not setting.killed:
        assert not (files := leaks.files(setting.tmp)), f"files were left behind: {files}"
        halves = leaks.halves(shared_cache / "hookpool") - halves_before
        assert not halves, f"the cache folder has incomplete files: {halves}"
    locked = leaks.locks(shared_cache / "hookpool", tmp_path)
    assert not locked, f"locks are still held: {locked}"
    # pip asks rustc for its version, and rustup records that; uv searches for
    # its own interpreters.
    written = {
        path.name
        for name in ("home", "runtime")
        if (tmp_path / name).exists()
        for path in (tmp_path / name).iterdir()
    } - {".local", ".rustup"}
    assert not written, f"HOME or XDG_RUNTIME_DIR was written to: {written}"
    alien = {path.name for path in shared_cache.iterdir()} - {"hookpool", "pip", "uv"}
    assert not alien, f"the cache folder has unknown files: {alien}"


@pytest.fixture
def own_cache(setting: Setting, tmp_path: Path) -> Path:
    """A private, empty cache folder."""
    folder = tmp_path / "own-cache"
    setting.env["HOOKPOOL_CACHE_DIR"] = str(folder)
    return folder


@pytest.fixture
def start(setting: Setting) -> Callable[..., Pool]:
    """Starts pools, see `Setting.start`."""
    return setting.start


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree whose hooks run the code in the request."""
    return trees.make_tree(tmp_path / "tree")


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate for hooks."""
    gate = Gate(tmp_path)
    yield gate
    gate.close()


@pytest.fixture
def gates(tmp_path: Path) -> Iterator[Callable[[str], Gate]]:
    """Makes gates by name."""
    made: list[Gate] = []

    def make(name: str) -> Gate:
        made.append(Gate(tmp_path, name))
        return made[-1]

    yield make
    for gate in made:
        gate.close()


@pytest.fixture(params=["hook", "none"])
def isolation(request: pytest.FixtureRequest) -> str:
    """Each isolation."""
    return str(request.param)


def _interpreter(version: str) -> str:
    if version not in INTERPRETERS:
        pytest.skip(f"Python {version} is not installed")
    return str(INTERPRETERS[version])


@pytest.fixture(params=NEWEST)
def newest(request: pytest.FixtureRequest) -> str:
    """The newest Pythons, if they are available."""
    return _interpreter(request.param)


@pytest.fixture(params=["running", *NEWEST])
def python(request: pytest.FixtureRequest) -> str:
    """The interpreter that runs the tests, and the newest ones."""
    return sys.executable if request.param == "running" else _interpreter(request.param)


@pytest.fixture(params=["command", "service"])
def pool_of(request: pytest.FixtureRequest, setting: Setting) -> Iterator[str]:
    """Building commands have a pool of their own, or a service does their work."""
    setting.builds_by_service = request.param == "service"
    yield str(request.param)
    for service in setting.building.values():
        assert service.end() == 0


@pytest.fixture(params=["isolated", "plain"])
def way(request: pytest.FixtureRequest, setting: Setting) -> bool:
    """With build isolation, the default, and without it, for all pools of the test."""
    setting.build_isolation = request.param == "isolated"
    return setting.build_isolation


@pytest.fixture(params=["forkserver", "spawn"])
def start_method(request: pytest.FixtureRequest, setting: Setting) -> str:
    """Each start method, for all pools of the test."""
    setting.start_method = str(request.param)
    return setting.start_method


@pytest.fixture(scope="session")
def target() -> Path:
    """The folder for what is built and downloaded once and kept between runs."""
    return REPOSITORY / "target"
