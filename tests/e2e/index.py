"""A private package index, which can refuse requests."""

from __future__ import annotations

import base64
import http.server
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote


class Index:
    """Serves the wheels in a folder, to all clients or only to those with the password."""

    def __init__(
        self,
        wheels: Path,
        password: str | None = None,
        refuses: int | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self.asked: list[str] = []
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                index.asked.append(self.path)
                # The client waits for the response.
                meanwhile()
                code, content = index.answer(self.path, self.headers.get("Authorization"))
                self.send_response(code)
                if code == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="index"')
                is_page = self.path.endswith("/")
                kind = "text/html" if is_page else "application/octet-stream"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._wheels, self._password, self._refuses = wheels, password, refuses
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def url(self, user: str = "") -> str:
        """Its address, with the user (and password) if one is passed."""
        before = f"{user}@" if user else ""
        return f"http://{before}127.0.0.1:{self._server.server_port}/simple/"

    def answer(self, path: str, authorization: str | None) -> tuple[int, bytes]:
        """The status code and the content for a path."""
        if self._refuses is not None:
            return self._refuses, b""
        if self._password is not None:
            expected = base64.b64encode(f"user:{self._password}".encode()).decode()
            if authorization != f"Basic {expected}":
                return 401, b""
        parts = [unquote(part) for part in path.split("/") if part]
        if path.endswith("/") and len(parts) == 2:
            start = parts[1].replace("-", "_") + "-"
            names = [file.name for file in self._wheels.iterdir() if file.name.startswith(start)]
            links = "".join(f'<a href="/files/{name}">{name}</a>' for name in sorted(names))
            return (
                (200, f"<!DOCTYPE html><html><body>{links}</body></html>".encode())
                if names
                else (404, b"")
            )
        file = self._wheels / parts[-1]
        return (200, file.read_bytes()) if file.is_file() else (404, b"")

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
