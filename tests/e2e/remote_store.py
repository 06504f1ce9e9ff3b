"""A remote store of answers: bazel-remote's protocol over HTTP, with faults.

As a program, for tests in other languages: `remote_store.py [AUTHORIZATION]` prints its port and
serves until its standard input ends. `PUT /faults` with a name of a fault as its body changes
what it does; `GET /requests` returns the requests so far, as a list of JSON.
"""

from __future__ import annotations

import http.server
import json
import sys
import threading

#: What the server can do, but for answering as it should. With " of files" after it, it does that
#: for files, and not for entries.
FAULTS = (
    "error",  # 500 to everything
    "half",  # half of each body, then the end of the connection
    "wrong",  # another body of the same length
    "short",  # a shorter body, and its length
    "long",  # a longer body, and its length
    "endless",  # a body without an end, and without its length
    "hang",  # nothing, until the server stops
    "closed",  # the end of the connection in place of an answer
    "garbage",  # something else than HTTP
    "moved",  # a redirect to another path
    "elsewhere",  # a redirect to another server
    "loop",  # a redirect to itself
    "missing",  # 404 to everything
)


class QuietServer(http.server.ThreadingHTTPServer):
    """Prints nothing when a client leaves in the middle of a response."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class RemoteStore:
    """Serves what was stored; with `authorization`, only to requests with that header."""

    def __init__(self, authorization: str | None = None) -> None:
        self.items: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.fault = ""
        self._authorization = authorization
        self._stopping = threading.Event()
        store = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                store.handle(self, b"")

            def do_HEAD(self) -> None:
                store.handle(self, b"")

            def do_PUT(self) -> None:
                # Without a length it is refused, as bazel-remote does.
                length = int(self.headers["Content-Length"])
                store.handle(self, self.rfile.read(length))

            def log_message(self, *_: object) -> None:
                pass

        self._server = QuietServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/store"

    def handle(self, request: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
        """Answers a request, or does what the fault says."""
        path = request.path
        if path == "/faults":
            self.fault = body.decode()
            self.answer(request, 200, b"")
            return
        if path == "/requests":
            self.answer(request, 200, json.dumps(self.requests).encode())
            return
        self.requests.append(f"{request.command} {path}")
        fault = self.fault_for(path)
        statuses = {"error": 500, "missing": 404}
        locations = {"loop": path}
        if not path.startswith("/moved"):
            locations["moved"] = f"/moved{path}"
        if not request.headers["Host"].startswith("localhost"):
            locations["elsewhere"] = f"http://localhost:{self.port}{path}"
        if self._authorization not in (None, request.headers.get("Authorization")):
            self.answer(request, 401, b"")
        elif fault in statuses:
            self.answer(request, statuses[fault], b"something else")
        elif fault == "hang":
            self._stopping.wait()
            request.close_connection = True
        elif fault == "closed":
            request.close_connection = True
        elif fault == "garbage":
            request.wfile.write(b"\x00\x01 this is no HTTP\r\n\r\n")
            request.close_connection = True
        elif fault in locations:
            self.answer(request, 307, b"", location=locations[fault])
        elif request.command == "PUT":
            self.items[path] = body
            self.answer(request, 201, b"")
        else:
            self.send(request, path.removeprefix("/moved"), fault)

    def fault_for(self, path: str) -> str:
        """The fault of a request."""
        if not self.fault.endswith(" of files"):
            return self.fault
        return self.fault.removesuffix(" of files") if "/cas/" in path else ""

    def send(self, request: http.server.BaseHTTPRequestHandler, path: str, fault: str) -> None:
        """Answers with an item."""
        content = self.items.get(path)
        if content is None:
            self.answer(request, 404, b"there is no such thing")
            return
        length = len(content)
        if fault == "half":
            content = content[: length // 2]
            request.close_connection = True
        elif fault == "wrong":
            content = bytes(byte ^ 1 for byte in content)
        elif fault == "short":
            content, length = content[:-1], length - 1
        elif fault == "long":
            content, length = content + b"more", length + 4
        elif fault == "endless":
            request.send_response(200)
            request.end_headers()
            request.close_connection = True
            while not self._stopping.is_set():
                try:
                    request.wfile.write(content)
                except OSError:
                    return
        self.answer(request, 200, content, length=length)

    @staticmethod
    def answer(
        request: http.server.BaseHTTPRequestHandler,
        code: int,
        content: bytes,
        length: int | None = None,
        location: str | None = None,
    ) -> None:
        """Sends a response."""
        request.send_response(code)
        request.send_header("Content-Length", str(len(content) if length is None else length))
        if location is not None:
            request.send_header("Location", location)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)

    def stop(self) -> None:
        """Stops; what hangs ends."""
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> RemoteStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


if __name__ == "__main__":
    with RemoteStore(*sys.argv[1:2]) as served:
        print(served.port, flush=True)
        sys.stdin.read()
