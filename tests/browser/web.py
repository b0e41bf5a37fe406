"""A web server on 127.0.0.1 for pages of tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from threading import Thread
from typing import Any, Self
from urllib.parse import urlsplit

TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".cjs": "text/javascript",
    ".mjs": "text/javascript",
    ".json": "application/json",
    ".map": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}


class Web:
    """Pages and folders of one test.

    Attributes:
        port: port that it listens on.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self._pages: dict[str, str] = {}
        self._folders: dict[str, Path] = {}

    @classmethod
    @contextmanager
    def serving(cls) -> Iterator[Self]:
        """Serve until the end of the context, without caching."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.daemon_threads = True
        web = cls(server.server_address[1])
        server.web = web  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield web
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    @property
    def url(self) -> str:
        """Origin of the site, without a final slash; browsers trust it like HTTPS."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def other_url(self) -> str:
        """Another origin with the same pages, which shares no storage, locks or channels with `url`."""
        return f"http://localhost:{self.port}"

    def add(self, path: str, text: str) -> str:
        """Add a page at a path such as `/index.html`, whose suffix sets its type; return its address."""
        self._pages[path] = text
        return self.url + path

    def mount(self, path: str, folder: Path) -> None:
        """Add the files of a folder below a path such as `/dist`."""
        self._folders[path] = folder

    def find(self, path: str) -> bytes | None:
        """Return the content at a path."""
        if path in self._pages:
            return self._pages[path].encode()
        for prefix, folder in self._folders.items():
            if path.startswith(f"{prefix.rstrip('/')}/"):
                file = (folder / path[len(prefix) :].lstrip("/")).resolve()
                if file.is_relative_to(folder.resolve()) and file.is_file():
                    return file.read_bytes()
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        body = self.server.web.find(path)  # type: ignore[attr-defined]
        if body is None:
            # Browsers request an icon by themselves, and would log an error if it were missing.
            self.send_response(204 if path == "/favicon.ico" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        kind = TYPES.get(PurePosixPath(path).suffix, "application/octet-stream")
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Write nothing."""
