"""A store as far away as one likes: files of a folder in the S3 protocol, each answer after a wait.

``python -m tests.benchmarks.slow_store FOLDER SECONDS`` prints its port and serves until its stdin ends. It knows
listings of one page, HEAD and GET with ranges, and no signatures.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

__all__: list[str] = []


def _handler(folder: Path, seconds: float) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            time.sleep(seconds)
            parts = urlsplit(self.path)
            name = parts.path.strip("/").partition("/")[2]
            if not name:
                prefix = parse_qs(parts.query).get("prefix", [""])[0]
                self._answer(200, _listing(folder, prefix).encode())
            elif (folder / name).is_file():
                self._send(folder / name)
            else:
                self._answer(404, b"")

        do_HEAD = do_GET

        def _send(self, file: Path) -> None:
            size = file.stat().st_size
            span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            start, stop = (int(span[1]), min(int(span[2]) + 1, size)) if span else (0, size)
            self._answer(206 if span else 200, None, stop - start)
            if self.command == "GET":
                self.wfile.flush()
                with file.open("rb") as data:
                    while start < stop:
                        start += os.sendfile(self.connection.fileno(), data.fileno(), start, stop - start)

        def _answer(self, status: int, body: bytes | None, size: int = 0) -> None:
            self.send_response(status)
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Sat, 21 Nov 2026 00:00:00 GMT")
            self.send_header("Content-Length", str(len(body) if body is not None else size))
            self.end_headers()
            if body and self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _listing(folder: Path, prefix: str) -> str:
    files = [file for file in sorted(folder.iterdir()) if file.name.startswith(prefix)]
    entries = "".join(
        f"<Contents><Key>{file.name}</Key><Size>{file.stat().st_size}</Size><ETag>1</ETag></Contents>" for file in files
    )
    return (
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<IsTruncated>false</IsTruncated><KeyCount>{len(files)}</KeyCount>{entries}</ListBucketResult>"
    )


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(Path(sys.argv[1]), float(sys.argv[2])))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
