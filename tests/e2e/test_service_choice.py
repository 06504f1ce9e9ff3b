"""Whether a building command uses a service, and how `-v` says why it does not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import processes
import pytest
from builds import make_project
from conftest import Setting
from other_user import USER
from pool import PROGRAM
from service import Service

USED = "a service does the work"
# What `-v` says, for the variables and flags of a command.
CASES: dict[str, tuple[dict[str, str], list[str], str]] = {
    "the default socket": ({}, [], USED),
    "chosen by a variable": ({"HOOKPOOL_SERVICE": "{socket}", "XDG_RUNTIME_DIR": ""}, [], USED),
    "the socket of a variable": ({"HOOKPOOL_SOCKET": "{socket}", "XDG_RUNTIME_DIR": ""}, [], USED),
    "required": ({}, ["--service", "require"], USED),
    "nobody listens": (
        {"HOOKPOOL_SOCKET": "{socket}.not"},
        [],
        "no service listens at {socket}.not",
    ),
    "another cache": ({"HOOKPOOL_CACHE_DIR": "{folder}/other"}, [], "its cache folder is {cache}"),
    "a flag of the workers": ({}, ["--jobs", "2"], "--jobs asks for workers of its own"),
    "its variable": ({"HOOKPOOL_JOBS": "2"}, [], "HOOKPOOL_JOBS asks for workers of its own"),
    "another flag": ({"HOOKPOOL_HOOK_TIMEOUT": "1h"}, ["--offline"], USED),
    "within a hook": ({"HOOKPOOL_WITHIN": "1:2"}, [], "this is a hook of another hookpool"),
    "switched off": ({}, ["--service", "never"], ""),
}


@pytest.fixture
def service(setting: Setting) -> Service:
    """A service at the default socket, which is not in the folder that has to stay empty."""
    folder = setting.root / "x"
    folder.mkdir(mode=0o700)
    setting.env["XDG_RUNTIME_DIR"] = str(folder)
    service = Service(["--python", sys.executable, "-vv"], setting.env, None, setting.root / "log")
    setting.services.append(service)
    service.socket = folder / "hookpool" / "hookpool.sock"
    return service.wait_ready()


@pytest.fixture
def wheel(tmp_path: Path, setting: Setting, service: Service) -> Path:
    """A wheel, whose metadata need no hook."""
    tree = make_project(tmp_path / "tree")
    words = ["wheel", tree, "-o", tmp_path / "out", "--python", sys.executable]
    subprocess.run([PROGRAM, *map(str, words)], env=setting.env, capture_output=True, check=True)
    return next((tmp_path / "out").iterdir())


def start(
    setting: Setting, wheel: Path, *flags: str, program: str = PROGRAM, **variables: str
) -> subprocess.Popen[str]:
    """A command that tells which pool it uses."""
    words = ["-v", "metadata", str(wheel), "--python", sys.executable, *flags]
    return subprocess.Popen(
        [program, *words],
        env={**setting.env, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    """Its message about a service, when it has succeeded."""
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    found = [line for line in stderr.splitlines() if USED in line or "no service" in line]
    assert len(found) <= 1, stderr
    return found[0] if found else ""


@pytest.mark.parametrize("case", CASES)
def test_the_command_says_which_pool_it_uses(
    setting: Setting, service: Service, wheel: Path, case: str
) -> None:
    variables, flags, words = CASES[case]
    names = {"socket": service.socket, "folder": setting.root, "cache": setting.cache / "hookpool"}
    filled = {name: value.format(**names) for name, value in variables.items()}
    line = said(start(setting, wheel, *flags, **filled))
    assert words.format(**names) in line
    assert (f"pid={service.pid}" in line) == (words == USED)
    # The log of the service names the request like this.
    assert bool(re.search('http_request="[0-9a-f]{16}"', line)) == (words == USED)
    assert bool(line) == bool(words)
    assert service.end() == 0


def test_another_build_is_not_used(setting: Setting, service: Service, wheel: Path) -> None:
    other = setting.root / "hookpool"
    shutil.copy(PROGRAM, other)
    try:
        line = said(start(setting, wheel, program=str(other)))
    finally:
        other.unlink()
    assert "it is another build of hookpool (" in line
    assert service.end() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a socket away")
def test_the_socket_of_another_user_is_not_used(
    setting: Setting, service: Service, wheel: Path
) -> None:
    os.chown(service.socket, USER, USER)
    line = said(start(setting, wheel))
    assert f"{service.socket} belongs to user {USER}, and is not used" in line
    assert service.end() == 0


def refusals(service: Service) -> int:
    """How often it has refused something, by its log."""
    return service.stderr.count("status=503")


def test_a_service_that_refuses_for_a_moment_is_asked_again(
    setting: Setting, service: Service, wheel: Path
) -> None:
    """As while another one takes its place."""
    service.ask("POST", "/v1/drain")
    assert "it is being drained" in said(start(setting, wheel))
    before = refusals(service)
    process = start(setting, wheel)
    processes.wait_until(lambda: refusals(service) > before)
    service.ask("POST", "/v1/resume")
    assert USED in said(process)
    assert service.end() == 0
