"""A server on this machine for tests of downloads."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from urllib.parse import unquote


class Web:
    """What is published, and what was asked for: names of files in the order of the requests."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked: list[str] = []
        self.files: dict[str, tuple[bytes, int]] = {}

    def put(self, name: str, content: bytes, *, missing: int = 0) -> None:
        """Publish a file; the connection breaks before the last `missing` bytes."""
        self.files[name] = content, missing


@contextlib.contextmanager
def serve() -> Iterator[Web]:
    """Run a server."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = unquote(self.path).lstrip("/")
            web.asked.append(name)
            if name not in web.files:
                self.send_error(404)
                return
            content, missing = web.files[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) - missing])

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        web = Web(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
        thread.start()
        yield web
        server.shutdown()
        thread.join()
