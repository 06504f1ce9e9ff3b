"""Answers that machines share through a server: a real one, and one that does its worst.

A machine is a cache folder here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from builds import Built, build, make_project
from conftest import Setting
from remote_store import RemoteStore

NGINX = """\
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error;
events {{}}
http {{
    access_log {folder}/access;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            root {folder}/items;
            dav_methods PUT;
            create_full_put_path on;
            client_max_body_size 1g;
        }}
    }}
}}
"""


@pytest.fixture
def archive(setting: Setting, tmp_path: Path) -> Path:
    """A source distribution."""
    project = make_project(tmp_path / "project")
    built = build(setting, "sdist", project, "--output-dir", tmp_path / "sdists")
    assert built.code == 0, built.stderr
    (made,) = (tmp_path / "sdists").iterdir()
    return made


def machine(setting: Setting, name: str, url: str, *words: object) -> Built:
    """Runs a command on a machine that reads and writes."""
    own = ["--cache-dir", setting.root / name, "--answers-remote", url]
    return build(setting, *words, *own, "--answers-remote-access", "read-write")


def ran(result: dict[str, Any]) -> list[str]:
    """The hooks that a worker ran."""
    return [hook["hook"] for hook in result["hooks"] if hook["worker"] is not None]


def check(setting: Setting, url: str, archive: Path) -> None:
    """What one machine has built, another one has without running a hook."""
    results, wheels = [], []
    for name in ["one", "other"]:
        built = machine(setting, name, url, "metadata", archive, "--format", "json")
        assert built.code == 0, built.stderr
        output = setting.root / f"{name}-wheels"
        wheel = machine(
            setting, name, url, "wheel", archive, "--output-dir", output, "--format", "json"
        )
        assert wheel.code == 0, wheel.stderr
        results.append((built.result, wheel.result))
        wheels.append({path.name: path.read_bytes() for path in output.iterdir()})
    (metadata, wheel_result), (other_metadata, other_wheel) = results
    assert ran(metadata)
    assert ran(wheel_result)
    assert not ran(other_metadata)
    assert not ran(other_wheel)
    assert other_metadata["metadata"] == metadata["metadata"]
    assert wheels[0] == wheels[1]
    assert len(wheels[0]) == 1


@contextmanager
def nginx(folder: Path, target: Path) -> Iterator[str]:
    """The address of an nginx with WebDAV."""
    places = [str(target / "nginx" / "usr" / "sbin"), os.environ.get("PATH", ""), "/usr/sbin"]
    program = shutil.which("nginx", path=os.pathsep.join(places))
    if program is None:
        pytest.skip("nginx is not installed")
    folder.mkdir()
    (folder / "items").mkdir()
    # A port that was free a moment ago.
    with RemoteStore() as store:
        port = store.port
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, port=port))
    command = [program, "-c", str(configuration), "-e", str(folder / "error")]
    with subprocess.Popen(command) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            while not (folder / "pid").exists():
                assert process.poll() is None, (folder / "error").read_text()
                time.sleep(0.01)
            yield url
        finally:
            process.terminate()


def test_nginx_shares_answers(
    setting: Setting, tmp_path: Path, target: Path, archive: Path
) -> None:
    with nginx(tmp_path / "nginx", target) as url:
        check(setting, url, archive)
        kinds = {path.name for path in (tmp_path / "nginx" / "items").iterdir()}
        assert kinds == {"ac", "cas"}


def test_the_store_of_the_tests_shares_answers(setting: Setting, archive: Path) -> None:
    with RemoteStore() as store:
        check(setting, store.url, archive)


@pytest.mark.parametrize("fault", ["error", "half", "wrong", "wrong of files", "elsewhere"])
def test_no_fault_of_the_server_changes_a_result(
    setting: Setting, archive: Path, fault: str
) -> None:
    with RemoteStore() as store:
        first = machine(setting, "one", store.url, "metadata", archive, "--format", "json")
        store.fault = fault
        other = machine(setting, "other", store.url, "metadata", archive, "--format", "json")
    assert (first.code, other.code) == (0, 0), other.stderr
    assert other.result["metadata"] == first.result["metadata"]
    # That there is no hook for requirements is an answer without files.
    expected = ran(first.result)[1:] if fault.endswith("files") else ran(first.result)
    assert ran(other.result) == expected != []
    words = {
        "wrong": "is damaged: it is not used",
        "wrong of files": "has another content than its name says: it is not used",
    }
    assert words.get(fault, "") in other.stderr


def test_a_server_that_is_down_costs_one_warning(setting: Setting, archive: Path) -> None:
    with RemoteStore() as store:
        url = store.url
    run = machine(setting, "one", url, "metadata", archive, archive, archive, "--format", "json")
    assert run.code == 0, run.stderr
    assert run.stderr.count("WARN") == 1
    assert "is left alone for the rest of this run" in run.stderr


def test_credentials_come_from_a_file_or_from_netrc(setting: Setting, archive: Path) -> None:
    secret = "dXNlcjpzZWNyZXQ="  # user:secret
    file = setting.root / "credentials"
    file.write_text("user:secret\n")
    netrc = setting.root / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    with RemoteStore(f"Basic {secret}") as store:
        words = ["metadata", archive, "-vvv", "--format", "json"]
        words += ["--answers-remote", store.url, "--answers-remote-access", "read-write"]
        one = ["--cache-dir", setting.root / "one", "--answers-remote-credentials", file]
        # The variable counts for every answer.
        env = {"NETRC": str(netrc)}
        first = build(setting, *words, *one, env=env)
        assert store.items
        other = ["--cache-dir", setting.root / "other"]
        second = build(setting, *words, *other, env=env)
        assert not ran(second.result), second.stderr
        asked = len(store.requests)
        third = build(setting, *words, "--cache-dir", setting.root / "third")
        assert len(store.requests) == asked + 1
        assert "401" in third.stderr
    for run in [first, second, third]:
        assert run.code == 0, run.stderr
        assert "secret" not in run.stdout + run.stderr
        assert secret not in run.stdout + run.stderr


def test_an_address_with_a_password_is_refused(setting: Setting, archive: Path) -> None:
    run = build(setting, "metadata", archive, "--answers-remote", "http://user:secret@127.0.0.1/")
    assert run.code == 2
    assert "has credentials" in run.stderr
    assert "--answers-remote-credentials" in run.stderr
    assert "secret" not in run.stderr


def test_without_a_network_the_server_is_not_asked(setting: Setting, archive: Path) -> None:
    with RemoteStore() as store:
        run = machine(setting, "one", store.url, "metadata", archive, "--offline")
        assert run.code == 0, run.stderr
        assert store.requests == []
