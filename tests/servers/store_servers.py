"""Stores that tests talk to: S3 (moto), Azure Blob (Azurite), HTTP, and a proxy that makes them fail.

Started once for all tests, on ports of their own on the loopback, ended by their pids, and killed with the tests'
process. A test that cannot get its server fails; none is skipped.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import hashlib
import http.client
import itertools
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from installing import is_asked_for, npm_package

PATIENCE = 60.0
AZURITE = "3.35.0"
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of Azurite, the same everywhere: no secret."""
_NUMBERS = itertools.count()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


@contextlib.contextmanager
def _server(name: str, command: list[str], port: int, folder: Path) -> Iterator[None]:
    """A process that listens on a port of the loopback."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=_die_with_parent
        )
    try:
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            if process.poll() is not None or time.monotonic() > end:
                text = log.read_text(errors="replace")
                pytest.fail(f"{name} did not start ({command}):\n{text}", pytrace=False)
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# -------------------------------------------------------------------- S3


@dataclass
class S3Server:
    """moto's server. It takes any key."""

    port: int
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import boto3

        self.options = self.through(self.port)
        self._client = boto3.client(
            "s3",
            endpoint_url=self.options["endpoint_url"],
            aws_access_key_id="tests",
            aws_secret_access_key="tests",
            region_name="us-east-1",
        )

    @staticmethod
    def through(port: int) -> dict[str, Any]:
        """Options for this port: the server's, or that of a proxy before it."""
        return {"key": "tests", "secret": "tests-secret", "endpoint_url": f"http://127.0.0.1:{port}"}

    def bucket(self) -> str:
        """A new one; its URL."""
        name = f"bucket-{next(_NUMBERS)}"
        self._client.create_bucket(Bucket=name)
        return f"s3://{name}"

    def put(self, url: str, data: bytes) -> str:
        """Write an object; its URL."""
        bucket, _, key = url.removeprefix("s3://").partition("/")
        self._client.put_object(Bucket=bucket, Key=key, Body=data)
        return url


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _server("moto", command, port, tmp_path_factory.mktemp("s3")):
        yield S3Server(port)


# -------------------------------------------------------------------- Azure


@dataclass
class AzureServer:
    """Azurite's blobs."""

    port: int
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from azure.storage.blob import BlobServiceClient

        text = (
            f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};"
            f"BlobEndpoint=http://127.0.0.1:{self.port}/{AZURE_ACCOUNT};"
        )
        self.options = {"connection_string": text}
        self._client = BlobServiceClient.from_connection_string(text)

    def bucket(self) -> str:
        """A new container; its URL."""
        name = f"container-{next(_NUMBERS)}"
        self._client.create_container(name)
        return f"abfs://{name}"

    def put(self, url: str, data: bytes, **how: Any) -> str:
        """Write a blob; its URL."""
        container, _, name = url.removeprefix("abfs://").partition("/")
        self._client.get_blob_client(container, name).upload_blob(data, overwrite=True, **how)
        return url


def _azurite() -> list[str]:
    """The command; from npm's registry once in a machine's life."""
    folder = npm_package("azurite", AZURITE)
    return ["node", str(folder / "dist" / "src" / "blob" / "main.js")]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch Azurite before the first test, not within its time limit."""
    if is_asked_for("azure", session):
        with contextlib.suppress(pytest.fail.Exception):  # the tests will say so
            _azurite()


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    port = free_port()
    options = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    command = [*_azurite(), "--blobHost", "127.0.0.1", "--blobPort", str(port), *options]
    with _server("azurite", command, port, tmp_path_factory.mktemp("azure")):
        yield AzureServer(port)


# -------------------------------------------------------------------- HTTP


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are no news."""


class WebServer:
    """Files over HTTP, with ranges, ETags and, where ``users`` are given, basic authentication.

    ``ranges`` False: a server that knows none; ``lengths`` False: one that tells none.
    ``requests``: (method, path, Range) of all.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.users: dict[str, str] = {}
        self.queries: dict[str, str] = {}
        self.ranges = self.head = self.lengths = True
        self.requests: list[tuple[str, str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._answer(self)

            do_HEAD = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self._server = _QuietServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="web-server")
        self._thread.start()

    def put(self, path: str, data: bytes) -> str:
        """Have a file; its URL."""
        self.files[path] = data
        return f"{self.url}/{path}"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path, _, query = request.path.removeprefix("/").partition("?")
        wanted = request.headers.get("Range") if self.ranges else None
        self.requests.append((request.command, request.path, request.headers.get("Range")))
        data, status, name = self.files.get(unquote(path)), 200, unquote(path)
        given = base64.b64decode(request.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        if name in self.users and given != self.users[name]:
            data, status = b"who are you?", 401
        elif name in self.queries and query != self.queries[name]:
            data, status = b"no", 403
        elif data is None:
            data, status = b"nothing", 404
        elif request.command == "HEAD" and not self.head:
            data, status = b"", 405
        tag = hashlib.sha256(data).hexdigest()[:12]
        total = len(data)
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted or "")
        if status == 200 and span:
            start, stop = int(span[1]), min(int(span[2]) + 1, total)
            status, data = (206, data[start:stop]) if start < total else (416, b"")
        request.send_response(status)
        request.send_header("ETag", f'"{tag}"')
        if self.lengths:
            request.send_header("Content-Length", str(len(data)))
        else:
            request.send_header("Connection", "close")
            request.close_connection = True
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(data)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


# -------------------------------------------------------------------- faults


class FaultyProxy:
    """Before a server: passes requests on, but for those that ``fault`` says how to harm.

    Parameters
    ----------
    fault
        Called with (method, path, Range) of each request, in one thread at a time; returns a status to answer
        with, ``"cut"`` (half of the answer), ``"reset"``, ``"hang"``, or None.

    ``seconds``: so long each answer waits. ``most_at_once``: requests that were under way side by side.
    """

    def __init__(self, port: int) -> None:
        self.fault: Callable[[str, str, str | None], int | str | None] = lambda *_: None
        self.requests: list[tuple[str, str]] = []
        self.seconds = 0.0
        self.most_at_once = self._at_once = 0
        self._lock = threading.Lock()
        self._released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with outer._counted():
                    time.sleep(outer.seconds)
                    outer._pass_on(self, port)

            do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self._server = _QuietServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="faulty-proxy")
        self._thread.start()

    def times(self, count: int, fault: int | str, method: str = "GET", path: str = "") -> None:
        """Do this to the first ``count`` requests whose paths hold ``path``."""
        left = itertools.repeat(fault, count)
        self.fault = lambda m, p, _: next(left, None) if m == method and path in p else None

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def _pass_on(self, request: BaseHTTPRequestHandler, port: int) -> None:
        with self._lock:
            self.requests.append((request.command, request.path))
            fault = self.fault(request.command, request.path, request.headers.get("Range"))
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        if fault in ("hang", "reset"):
            if fault == "hang":
                self._released.wait(PATIENCE)
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        if isinstance(fault, int):
            request.send_response(fault)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        server = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            server.request(request.command, request.path, body, dict(request.headers))
            answer = server.getresponse()
            data = answer.read()
            length = answer.getheader("Content-Length", str(len(data)))
        finally:
            server.close()
        request.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                request.send_header(name, value)
        request.send_header("Content-Length", length)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
        if fault == "cut":
            request.wfile.flush()
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def faulty_s3(s3: S3Server) -> Iterator[FaultyProxy]:
    """A proxy before the S3 server."""
    proxy = FaultyProxy(s3.port)
    yield proxy
    proxy.close()
