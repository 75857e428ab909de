"""Secrets of inputs appear nowhere: looked for everywhere while jobs run, fail, are refused and have ended.

Everywhere: all files, command lines and environments of all processes, logs and events of scheduler and workers,
Dask's configuration in each of them, the pages of the dashboard, and every text that Python makes.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import threading
import time
import traceback
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import dask
import pandas as pd
import pytest
import sqlalchemy
from azure.storage.blob import AccountSasPermissions, BlobServiceClient, ResourceTypes, generate_account_sas
from distributed import Client

from prs_dask import FileDataset, SettingsError, StepRun, TabularDataset
from prs_dask.mini_batches import FileMiniBatch
from tests.packed_files import contents

S3_KEYS = {
    "key": "cAnArY-key-0123456789",
    "secret": "cAnArY-secret-0123456789",
    "token": "cAnArY-token-0123456789",
}
PRINCIPAL = {
    "tenant_id": "cAnArY-tenant-0123456789",
    "client_id": "cAnArY-client-0123456789",
    "client_secret": "cAnArY-client-secret-0123456789",
}
OTHER_WAYS = {"account_key": "Y0FuQXJZLWFjY291bnQta2V5", "sas_token": "sv=2024&sig=cAnArY-sas-0123456789"}

WAITING = """
import time

def run(mini_batch):
    time.sleep(0.2)
    return ["x"] * len(mini_batch)
"""
RAISING = """
def run(mini_batch, mini_batch_context):
    raise ValueError(f"{mini_batch_context!r} {globals()!r}")
"""


class Dashboard:
    """The pages of a scheduler that are made from what it knows, as a browser gets them."""

    PAGES = (
        "info/main/workers.html",
        "info/main/logs.html",
        "info/main/exceptions.html",
        "json/counts.json",
        "metrics",
    )

    def __init__(self, url: str) -> None:
        self._url = url

    def texts(self, tasks: list[str], workers: list[str]) -> list[str]:
        pages = [self._page(path) for path in self.PAGES]
        assert all(worker in pages[0] for worker in workers)
        for address in workers:
            pages += [self._page(f"info/{kind}/{quote(address, safe='')}.html") for kind in ("worker", "logs")]
        for key in tasks[:4]:  # which may have ended meanwhile
            for kind in ("task", "call-stack"):
                with contextlib.suppress(urllib.error.HTTPError):
                    pages.append(self._page(f"info/{kind}/{quote(key, safe='')}.html"))
        return pages

    def _page(self, path: str) -> str:
        with urllib.request.urlopen(f"{self._url}/{path}", timeout=20) as answer:
            text: str = answer.read().decode(errors="replace")
            return text


class Search:
    """A cluster with a dashboard and a folder, in which some secrets must not be found."""

    def __init__(self, client: Client, folder: Path, capfd: Any) -> None:
        self._client, self._folder, self._capfd = client, folder, capfd
        self._dashboard = Dashboard(client.dashboard_link.removesuffix("/status"))

    def through(self, run: StepRun, inputs: Any, secrets: list[str]) -> None:
        """While the run goes on, and when it has ended."""
        canaries = [secret.encode() for secret in secrets]
        looked = False
        while run.get_status() == "Running":
            assert not self._in_processes(canaries)
            if not looked:
                self.texts(self._cluster_tells(), secrets)
                looked = True
            time.sleep(0.1)
        run.wait_for_completion(raise_on_error=False)
        assert looked, "the run was over before the dashboard was looked at"
        told = [repr(inputs), str(inputs), repr(inputs.reader()), repr(run), repr(run._step), str(run.error)]
        told += [*self._capfd.readouterr(), repr(inputs.plan()), repr(vars(inputs))]
        self.texts([*told, *self._cluster_tells()], secrets)
        assert not self._in_files(canaries)

    def cluster(self, secrets: list[str]) -> list[str]:
        """What scheduler, workers and dashboard tell now, in which there is none."""
        assert not self._in_processes([secret.encode() for secret in secrets])
        told = self._cluster_tells()
        self.texts([*told, *self._capfd.readouterr()], secrets)
        assert not self._in_files([secret.encode() for secret in secrets])
        return told

    def texts(self, texts: list[str], secrets: list[str]) -> None:
        """None of these holds one; nor does Dask's configuration here."""
        for text in [*texts, json.dumps(dask.config.config, default=repr)]:
            assert not [secret for secret in secrets if secret in text], text[:300]

    def _cluster_tells(self) -> list[str]:
        keys, *texts = self._client.run_on_scheduler(_everything_told)
        texts += map(str, self._client.run(lambda dask_worker: dask_worker.get_logs()).values())
        texts.append(str(self._client.run(lambda: repr(dict(os.environ)) + repr(dask.config.config))))
        return texts + self._dashboard.texts(keys, list(self._client.scheduler_info()["workers"]))

    @staticmethod
    def _in_processes(canaries: list[bytes]) -> list[str]:
        """Command lines and environments in which a canary stands, of all processes."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            for file in ("cmdline", "environ"):
                try:
                    data = Path(f"/proc/{name}/{file}").read_bytes()
                except OSError:
                    continue
                found += [f"/proc/{name}/{file}" for canary in canaries if canary in data]
        return found

    def _in_files(self, canaries: list[bytes]) -> list[str]:
        """Files of the run, and those of Dask's workers and of nodes' folders."""
        found = []
        for path in self._folder.rglob("*"):
            if path.is_file():
                parts = list(contents(path.read_bytes()))
                found += [str(path) for canary in canaries if any(canary in part for part in parts)]
        return found


def _everything_told(dask_scheduler: Any) -> list[Any]:
    """Task keys; then texts: keys, events and logs of a scheduler, and Dask's configuration there."""
    keys = [str(key) for key in dask_scheduler.tasks]
    events = repr(dask_scheduler.get_events())
    return [keys, *keys, events, repr(dask_scheduler.get_logs()), repr(dask.config.config), repr(dict(os.environ))]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=":0", set_as_default=False) as client:
        yield client


@pytest.fixture
def search(client: Client, tmp_path: Path, capfd: Any) -> Search:
    return Search(client, tmp_path, capfd)


@pytest.fixture
def azure_files(azure: Any) -> str:
    url: str = azure.bucket()
    for number in range(8):
        azure.put(f"{url}/{number}", b"x")
    return url


def shared_access(azure: Any, days: int) -> dict[str, str]:
    """Options with a signature that holds, or held, until so many days from now."""
    account = BlobServiceClient.from_connection_string(azure.options["connection_string"])
    now = datetime.datetime.now(datetime.UTC)
    token = generate_account_sas(
        account.account_name,
        account.credential.account_key,
        ResourceTypes(service=True, container=True, object=True),
        AccountSasPermissions(read=True, list=True),
        expiry=now + datetime.timedelta(days=days),
        start=now - datetime.timedelta(days=3),
    )
    account.close()
    return {"connection_string": f"BlobEndpoint={account.url};SharedAccessSignature={token}"}


def signatures(options: dict[str, str]) -> list[str]:
    token = options["connection_string"].partition("SharedAccessSignature=")[2]
    (signature,) = parse_qs(token)["sig"]
    return [token, signature, quote(signature, safe="")]


class OfAPrincipal(FileDataset):
    """Files that nobody has listed: asking for them is refused in the worker processes only."""

    def check(self) -> None:
        pass

    def mini_batches(self, mini_batch_size: int, input_index: int = 0) -> Iterator[Any]:
        for number in range(6):
            yield FileMiniBatch(input_index, (f"{self.paths[0]}/{number}",), ("1-listed",))


REFUSED_PRINCIPAL = f"""
import asyncio
from azure.core.exceptions import ClientAuthenticationError
from azure.identity.aio._internal.aad_client import AadClient

async def refused(client, scopes, secret, **_):
    await asyncio.sleep(0.5)
    given = [value[::-1] for value in (client._tenant_id, client._client_id, secret)]
    known = given == {[value[::-1] for value in PRINCIPAL.values()]}
    name = "AADSTS700016" if known else "other options"
    message = f"{{name}}: application {{client._client_id!r}} not in directory {{client._tenant_id!r}}; {{secret}}"
    raise ClientAuthenticationError(message=message)

AadClient.obtain_token_by_client_secret = refused

def run(mini_batch):
    return mini_batch
"""


def test_a_service_principal_that_is_refused_in_worker_processes_appears_nowhere(
    submit: Any, client: Client, search: Search, tmp_path: Path
) -> None:
    url = "abfs://box@account.dfs.core.windows.net/items"
    inputs = OfAPrincipal.from_files(url, storage_options=PRINCIPAL, mode="direct")
    settings = {"mini_batch_size": 1, "logging_level": "DEBUG", "run_max_try": 1, "compute_target": client}
    run = submit(REFUSED_PRINCIPAL, inputs=inputs, **settings)
    search.through(run, inputs, list(PRINCIPAL.values()))
    assert run.summary().failed_mini_batches == 6
    told = "".join(path.read_text() for path in (tmp_path / "run" / "logs" / "user" / "stdout").rglob("*.txt"))
    assert "failed: AADSTS700016: application '***' not in directory '***'; ***" in told


def test_an_account_key_and_a_service_principal_appear_nowhere(
    azure: Any, azure_files: str, submit: Any, client: Client, search: Search
) -> None:
    options = {**azure.options, **PRINCIPAL, **OTHER_WAYS}  # adlfs takes the connection string, where there is one
    inputs = FileDataset.from_files(azure_files, storage_options=options)
    key = options["connection_string"].partition("AccountKey=")[2].partition(";")[0]
    run = submit(WAITING, inputs=inputs, mini_batch_size=1, logging_level="DEBUG", compute_target=client)
    search.through(run, inputs, [*PRINCIPAL.values(), *OTHER_WAYS.values(), "cAnArY-sas-0123456789", key])
    assert run.get_status() == "Completed"


@pytest.mark.parametrize("mode", ["download", "direct"])
def test_a_shared_access_signature_appears_nowhere(
    azure: Any, azure_files: str, submit: Any, client: Client, search: Search, mode: str
) -> None:
    options = shared_access(azure, days=1)
    inputs = FileDataset.from_files(azure_files, storage_options=options, mode=mode)
    run = submit(WAITING, inputs=inputs, mini_batch_size=1, logging_level="DEBUG", compute_target=client)
    search.through(run, inputs, signatures(options))
    assert run.get_status() == "Completed"


def test_one_that_has_expired_is_refused_with_what_to_look_at_and_not_shown(
    azure: Any, azure_files: str, submit: Any, search: Search, tmp_path: Path
) -> None:
    options = shared_access(azure, days=-1)
    with pytest.raises(SettingsError, match=r"refuses access \(HTTP 403.*may have expired") as caught:
        submit(WAITING, inputs=FileDataset.from_files(azure_files, storage_options=options))
    frames = [frame for frame, _ in traceback.walk_tb(caught.tb) if "prs_dask" in frame.f_globals["__name__"]]
    assert frames
    texts = [*traceback.format_exception(caught.value), repr(caught.value), *(repr(one.f_locals) for one in frames)]
    search.texts(texts, signatures(options))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["files", "table", "broken"])
def test_keys_of_s3_appear_nowhere(
    s3: Any, faulty_s3: Any, submit: Any, client: Client, search: Search, tmp_path: Path, kind: str
) -> None:
    bucket, options = s3.bucket(), {**s3.through(faulty_s3.port), **S3_KEYS}
    url = bucket.replace("s3://", f"s3://{options.pop('key')}:{options.pop('secret')}@")
    if kind == "table":
        s3.put(f"{bucket}/a.csv", b"id,text\n" + b"".join(b"%d,line\n" % number for number in range(1000)))
        inputs: Any = TabularDataset.from_delimited_files(url, storage_options=options)
    else:
        for number in range(8):
            s3.put(f"{bucket}/{number}", b"x")
        inputs = FileDataset.from_files(url, storage_options=options)
    if kind == "broken":
        faulty_s3.fault = lambda method, path, span: 403 if method == "GET" and "/3" in path else None
    size = "1KB" if kind == "table" else 1
    run = submit(
        WAITING, inputs=inputs, mini_batch_size=size, logging_level="DEBUG", run_max_try=1, compute_target=client
    )
    search.through(run, inputs, list(S3_KEYS.values()))
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    (shown,) = told["inputs"]
    assert set(shown["storage_options"]) == {"key", "secret", "token", "endpoint_url"}
    hidden = [value for name, value in shown["storage_options"].items() if name != "endpoint_url"]
    assert all(value.startswith("pbkdf2:") for value in hidden)
    assert run.summary().failed_mini_batches == (1 if kind == "broken" else 0)


@pytest.mark.parametrize("fault", [None, 403])
def test_keys_of_a_target_of_partition_by_appear_nowhere(
    s3: Any, faulty_s3: Any, submit: Any, client: Client, search: Search, fault: int | None
) -> None:
    keys = {name: f"{value}-{uuid.uuid4().hex}" for name, value in S3_KEYS.items()}
    secrets = list(keys.values())
    target = s3.bucket().replace("s3://", f"s3://{keys['key']}:{keys['secret']}@") + "/by"
    options = {"endpoint_url": s3.through(faulty_s3.port)["endpoint_url"], "token": keys["token"]}
    writes_now, go_on = threading.Event(), threading.Event()

    def held(method: str, path: str, _: str | None) -> int | None:
        if method == "PUT" and "part-" in path:
            writes_now.set()
            go_on.wait(30)
            return fault
        return None

    faulty_s3.fault = held
    source = TabularDataset.from_pandas(pd.DataFrame({"n": range(300), "k": [number % 6 for number in range(300)]}))
    with Client(client.scheduler.address), ThreadPoolExecutor(1) as pool:
        writing = pool.submit(source.partition_by, ["k"], target, storage_options=options)
        try:
            assert writes_now.wait(30)
            assert any("_write" in text for text in search.cluster(secrets))  # it is done there
        finally:
            go_on.set()
        if fault:
            error = writing.exception(60)
            assert "refuses access" in str(error)
            search.texts([*traceback.format_exception(error), repr(error)], secrets)
        else:
            written = writing.result(60)
            search.texts([repr(written), repr(dict(written.to_dask().__dask_graph__()))], secrets)
    search.cluster(secrets)
    if not fault:
        how = {"partition_keys": ["k"], "mini_batch_size": None}
        run = submit(WAITING, inputs=written, logging_level="DEBUG", compute_target=client, **how)
        search.through(run, written, secrets)
        assert run.summary().rows == 300


@pytest.mark.parametrize("script", [WAITING, RAISING], ids=["read", "raising"])
def test_the_password_of_a_database_appears_nowhere(
    postgresql: str, submit: Any, client: Client, search: Search, script: str
) -> None:
    password = sqlalchemy.make_url(postgresql).password
    assert password
    inputs = TabularDataset.from_sql_query(postgresql, "select n as id, pg_sleep(0.5) from generate_series(1, 2) n")
    run = submit(script, inputs=inputs, logging_level="DEBUG", compute_target=client, run_max_try=1)
    search.through(run, inputs, [password, quote(password, safe="")])
    assert run.get_status() == ("Completed" if script == WAITING else "Failed")


def test_the_command_writes_no_secret_that_it_takes_from_the_environment(
    s3: Any, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", S3_KEYS["key"])
    monkeypatch.setenv("THE_SECRET", S3_KEYS["secret"])
    bucket = s3.bucket()
    for number in range(3):
        s3.put(f"{bucket}/{number}", b"x")
    command.script()
    (command.folder / "step.yml").write_text(
        "entry_script: script.py\noutput_action: append_row\ninputs:\n"
        f"  - path: {bucket}\n    storage_options: {{key: '${{env:THE_KEY}}', secret: '${{env:THE_SECRET}}', "
        f"endpoint_url: '{s3.options['endpoint_url']}'}}\n"
    )
    flags = ["--storage-option", "key=${env:THE_KEY}", "--storage-option", "secret=${env:THE_SECRET}"]
    flags += ["--storage-option", f"endpoint_url={s3.options['endpoint_url']}", "--input", bucket]
    flags += ["--entry-script", "script.py", "--output-action", "append_row", "--run-folder", "run"]
    told = ""
    for arguments in (["plan", "step.yml"], ["run", *flags]):
        code, out, err = command(*arguments)
        assert code == 0, err
        told += out + err
    files = [path for path in command.folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    texts = [told, *(part.decode(errors="replace") for path in files for part in contents(path.read_bytes()))]
    assert not [text[:300] for text in texts if "cAnArY" in text]
