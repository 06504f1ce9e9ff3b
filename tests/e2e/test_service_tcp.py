"""`hookpool serve --listen`: TCP for this machine, with a token."""

from __future__ import annotations

import contextlib
import http.client
import re
import subprocess
from pathlib import Path

import pytest
from conftest import Setting
from pool import PROGRAM
from service import TIMEOUT, Answer, Service, ask
from trees import call

TOKEN = "not-to-be-seen-0123456789"


@pytest.fixture
def token_file(setting: Setting) -> Path:
    """A file with the token, only for its owner."""
    path = setting.root / "token"
    path.touch(mode=0o600)
    path.write_text(TOKEN + "\n")
    return path


def address(service: Service) -> tuple[str, int]:
    """The address that the service has logged."""
    found = re.search(r"address=\[?([0-9.:]+?)\]?:(\d+)\n", service.stderr)
    assert found, service.stderr
    return found[1], int(found[2])


def request(
    service: Service, method: str, path: str, body: object = None, token: str | None = None
) -> Answer:
    """A request over TCP."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    connection = http.client.HTTPConnection(*address(service), timeout=TIMEOUT)
    with contextlib.closing(connection):
        return ask(connection, method, path, body, **headers)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_clients_over_tcp_need_the_token(
    setting: Setting, tree: Path, token_file: Path, host: str
) -> None:
    service = setting.serve("--listen", f"{host}:0", "--token-file", str(token_file), "-vvv")
    body = call(tree, "result = ['ran']")
    for token in (None, "", TOKEN[:-1], TOKEN + "0", TOKEN.upper()):
        for path in ("/v1/hooks", "/v1/nothing", "/v1/drain"):
            answer = request(service, "POST", path, body, token)
            assert answer.status == 401, answer.body
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json["title"] == "Unauthorized"
    answer = request(service, "POST", "/v1/hooks", body, TOKEN)
    assert answer.json["result"] == ["ran"], answer.body
    for path in ("/healthz", "/readyz"):
        assert request(service, "GET", path).status == 200
    # The Unix socket knows its clients.
    assert service.hook(tree).json["ok"]
    process = Path(f"/proc/{service.pid}")
    for place in (process / "cmdline", process / "environ"):
        assert TOKEN.encode() not in place.read_bytes()
    assert service.end() == 0
    assert "not-to-be-seen" not in service.stderr


def test_the_document_tells_of_the_token(setting: Setting) -> None:
    service = setting.serve()
    document = service.get("/v1/openapi.json")
    scheme = document["components"]["securitySchemes"]["token"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert document["security"] == [{}, {"token": []}]
    assert service.end() == 0


def refused(setting: Setting, *flags: str) -> tuple[int, str]:
    """The exit code and the message of a service that does not start."""
    command = [PROGRAM, "serve", "--socket", str(setting.root / "s" / "socket"), *flags]
    ended = subprocess.run(command, env=setting.env, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    "flags",
    [
        ["--listen", "0.0.0.0:0", "--token-file", "/t"],
        ["--listen", "192.0.2.1:80", "--token-file", "/t"],
        ["--listen", "localhost:80", "--token-file", "/t"],
        ["--listen", "127.0.0.1", "--token-file", "/t"],
    ],
)
def test_other_addresses_are_refused(setting: Setting, flags: list[str]) -> None:
    code, message = refused(setting, *flags)
    assert code == 2
    assert flags[1] in message
    assert "127.0.0.1:PORT or [::1]:PORT" in message


def test_an_address_needs_a_token(setting: Setting, token_file: Path) -> None:
    code, message = refused(setting, "--listen", "127.0.0.1:0")
    assert (code, "--token-file" in message) == (2, True)
    code, message = refused(setting, "--token-file", str(token_file))
    assert (code, "--listen" in message) == (2, True)


def test_the_token_has_to_be_secret_and_long(setting: Setting, token_file: Path) -> None:
    flags = ("--listen", "127.0.0.1:0", "--token-file", str(token_file))
    token_file.chmod(0o640)
    code, message = refused(setting, *flags)
    assert code == 3
    assert f"{token_file} belongs to user" in message
    assert "has mode 640, expected" in message
    token_file.chmod(0o600)
    token_file.write_text("short-secret")
    code, message = refused(setting, *flags)
    assert (code, "expected 16 to 4096 letters" in message) == (3, True)
    assert "short-secret" not in message
    token_file.unlink()
    code, message = refused(setting, *flags)
    assert (code, f"cannot read the token file {token_file}" in message) == (3, True)
