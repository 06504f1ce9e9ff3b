"""The examples of the guide to the service are run, and so is the one for Kubernetes."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from builds import PREPARE, make_project
from conftest import Setting
from pool import PROGRAM, REPOSITORY
from service import Service

GUIDE = REPOSITORY / "docs" / "src" / "guide" / "service.md"
POD = REPOSITORY / "docs" / "ops" / "kubernetes" / "hookpool.yaml"


def blocks(kind: str) -> list[str]:
    """The examples of the guide that are of this kind."""
    return re.findall(rf"```{kind}\n(.+?)```", GUIDE.read_text(), re.DOTALL)


def shell(setting: Setting, command: str, **env: str) -> str:
    """Run a command of the guide; its standard output."""
    done = subprocess.run(
        ["bash", "-c", command],
        env={**setting.env, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A source tree that has all hooks of the examples."""
    return make_project(tmp_path / "src" / "example", PREPARE, additional=[])


def test_the_requests_of_the_guide(setting: Setting, project: Path) -> None:
    # The PATH of the example need not have uv.
    service = setting.serve(build_isolation=True, env={"HOOKPOOL_INSTALLER": "auto"})
    kinds = []
    for block in blocks("json"):
        moved = block.replace("/src/example", str(project)).replace("/tmp/dist", str(setting.root))
        request = json.loads(moved)
        if "command" in request:
            kinds.append("build")
            answer = service.ask("POST", "/v1/builds", request)
            assert answer.lines[-1]["result"]["ok"], answer.body
        else:
            kinds.append("hook")
            answer = service.ask("POST", "/v1/hooks", request)
            assert answer.json["ok"], answer.body
    assert sorted(kinds) == ["build", "hook"]
    assert service.end() == 0


def test_the_commands_of_the_guide(setting: Setting, project: Path) -> None:
    lines = "".join(blocks("console")).replace("\\\n", " ").splitlines()
    commands = [line.removeprefix("$ ") for line in lines]
    [secret] = [command for command in commands if "openssl" in command]
    asked = [command for command in commands if command.startswith("curl")]
    # The home folder of the test has to stay empty.
    home, folder = setting.root / "h", setting.root / "x"
    (home / ".config").mkdir(parents=True)
    folder.mkdir(mode=0o700)
    place = folder / "hookpool" / "hookpool.sock"
    variables = {"HOME": str(home), "XDG_RUNTIME_DIR": str(folder), "HOOKPOOL_SOCKET": str(place)}
    shell(setting, secret, **variables)
    token = ["--token-file", str(home / ".config" / "hookpool-token")]
    service = setting.serve("--listen", "127.0.0.1:0", *token, socket=place, build_isolation=True)
    port = re.search(r"address=127\.0\.0\.1:(\d+)\n", service.stderr)
    assert port, service.stderr
    found = []
    for command in asked:
        moved = command.replace("/src/example", str(project)).replace(":8123", f":{port[1]}")
        found.append(json.loads(shell(setting, moved, **variables)))
    hook, version, *probes = found
    assert hook["ok"], hook
    assert version["pid"] == service.pid
    assert [probe["phase"] for probe in probes] == ["serving"] * 2
    assert service.end() == 0


def moved(value: str, root: Path) -> str:
    """A path of a container, as one of the test."""
    volumes = {"/run/hookpool/": root / "run", "/cache/": root / "cache"}
    for start, folder in volumes.items():
        if value.startswith(start):
            return str(folder / value.removeprefix(start))
    return value


def test_the_pod_for_kubernetes(setting: Setting, project: Path) -> None:
    """What its containers run, with the folders of the volumes in the folder of the test."""
    pod: dict[str, Any] = yaml.safe_load(POD.read_text())
    served, builds = pod["spec"]["containers"]
    mounted = {mount["mountPath"] for mount in served["volumeMounts"]}
    assert {"/run/hookpool", "/cache"} <= mounted
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in served["volumeMounts"]} == volumes
    for name in ("run", "cache"):
        (setting.root / name).mkdir(mode=0o700)
    variables = {entry["name"]: moved(entry["value"], setting.root) for entry in served["env"]}
    assert builds["env"] == served["env"]
    program, subcommand, *flags = served["command"]
    assert (program, subcommand) == ("hookpool", "serve")
    env = {**setting.env, **variables}
    service = Service(flags, env, None, setting.root / "log")
    setting.services.append(service)
    service.socket = Path(variables["HOOKPOOL_SOCKET"])
    service.wait_ready()
    for probe in ("readinessProbe", "livenessProbe"):
        words = [moved(word, setting.root) for word in served[probe]["exec"]["command"]]
        assert json.loads(subprocess.check_output(words, timeout=60))["phase"] == "serving"
    words = ["metadata", str(project), "--service", "require"]
    subprocess.run([PROGRAM, *words], env=env, capture_output=True, check=True, timeout=60)
    drain = re.search(r"(\d+)s", flags[flags.index("--drain-timeout") + 1])
    # The default of --grace-period is 10 s.
    assert drain
    assert pod["spec"]["terminationGracePeriodSeconds"] > int(drain[1]) + 10
    assert service.end() == 0
