"""A site on 127.0.0.1 that browsers load pages from."""

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
        port: where it listens.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self._pages: dict[str, str] = {}
        self._folders: dict[str, Path] = {}

    @classmethod
    @contextmanager
    def serving(cls) -> Iterator[Self]:
        """A site that answers until the end of the context; it allows no caching."""
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
        """An origin, without a slash at its end; browsers trust it as they do HTTPS."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def other_url(self) -> str:
        """Another origin with the same pages: it shares no storage, no locks and no channels with `url`."""
        return f"http://localhost:{self.port}"

    def add(self, path: str, text: str) -> str:
        """Have a page at a path such as `/index.html`, whose ending tells its type; return its address."""
        self._pages[path] = text
        return self.url + path

    def mount(self, path: str, folder: Path) -> None:
        """Have the files of a folder below a path such as `/dist`."""
        self._folders[path] = folder

    def find(self, path: str) -> bytes | None:
        """Return what is at a path."""
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
            # Browsers ask for an icon by themselves, and would complain that there is none.
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
