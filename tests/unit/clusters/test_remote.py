"""The program on a host: what it starts, tells and takes away again. Here it runs on this machine."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import pytest
from distributed import Client, Nanny, Security
from distributed.system import MEMORY_LIMIT

from prs_dask.cancellation import Cancellation
from prs_dask.clusters import remote
from prs_dask.clusters.reachable import check_scheduler
from prs_dask.clusters.remote import Lifeline
from prs_dask.clusters.ssh import _sent

PATIENCE = 30.0


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def security():
    return Security.temporary()


@pytest.fixture
def program(no_leaks):
    """Start one: ``program(spec)``; its process, and what it has told. SSH has come by an address of this host."""
    started = []

    def start(spec, by="127.0.0.1"):
        ssh = {} if by is None else {"SSH_CONNECTION": f"{by} 1 {by} 22"}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "prs_dask.clusters.remote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**{name: value for name, value in os.environ.items() if name != "SSH_CONNECTION"}, **ssh},
        )
        started.append(process)
        process.stdin.write(json.dumps(spec).encode() + b"\n")
        process.stdin.flush()
        return process, json.loads(process.stdout.readline())["prs-dask"]

    yield start
    for process in started:
        process.kill()
        process.wait(PATIENCE)
        process.stdin.close()
        process.stdout.close()


def scheduler_spec(security, **more):
    spec = {"role": "scheduler", "host": None, "port": None, "dashboard": False}
    return {**spec, "security": _sent(security, "scheduler"), **more}


def worker_spec(security, scheduler, **more):
    spec = {"role": "worker", "scheduler": scheduler, "name": "here", "threads": 2, "worker_class": None}
    return {**spec, "security": _sent(security, "worker"), **more}


def test_a_scheduler_and_a_worker_work_for_who_has_the_certificate_and_end_with_their_input(program, security):
    scheduler, told = program(scheduler_spec(security))
    address = told["address"]
    assert address.startswith("tls://127.0.0.1:")
    check_scheduler(address, Cancellation(), security)
    worker, _ = program(worker_spec(security, address, threads=1))
    other, _ = program(worker_spec(security, address, name="other", worker_class="distributed.Worker"))
    with Client(address, security=security, set_as_default=False) as client:
        assert client.submit(sum, [1, 2]).result(timeout=PATIENCE) == 3
        found = {worker["name"]: worker for worker in client.scheduler_info(n_workers=-1)["workers"].values()}
        assert {name: worker["nthreads"] for name, worker in found.items()} == {"here": 1, "other": 2}
        assert found["here"]["services"] == {}
        assert found["here"]["memory_limit"] == MEMORY_LIMIT
        assert found["here"]["nanny"]
        assert not found["other"]["nanny"], "it is of the class that was asked for"
    all_of_them = (worker, other, scheduler)
    below = [child for process in all_of_them for child in psutil.Process(process.pid).children(recursive=True)]
    for process in all_of_them:
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
    assert not psutil.wait_procs(below, timeout=PATIENCE)[1]


def listening(process):
    """Addresses at which it and what it has started listen."""
    all_of_it = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    found = [one for each in all_of_it for one in each.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    return sorted(f"{one.laddr.ip} {one.laddr.port}" for one in found)


def test_hosts_that_ssh_reaches_by_ipv6_speak_ipv6(program, security, leave_out):
    with socket.socket(socket.AF_INET6) as one:
        try:
            one.bind(("::1", 0))
        except OSError:
            leave_out("this machine has no IPv6")
    for host in (None, "::1"):
        scheduler, told = program(scheduler_spec(security, host=host), by="::1")
        assert told["address"].startswith("tls://[::1]:")
        assert [one.split()[0] for one in listening(scheduler)] == ["::1"]
    worker, told = program(worker_spec(security, told["address"]), by="::1")
    assert told["address"].startswith("tls://[::1]:")
    assert [one.split()[0] for one in listening(worker)] == ["::1", "::1"]


def test_a_scheduler_behind_something_that_translates_addresses_tells_the_outer_one(program, security):
    port = free_port()
    scheduler, told = program(scheduler_spec(security, host="198.51.100.7", port=port))
    assert told["address"] == f"tls://198.51.100.7:{port}"
    assert listening(scheduler) == [f"127.0.0.1 {port}"]
    _, told = program(scheduler_spec(security, port=port))
    assert "already in use" in told["error"]


def test_a_scheduler_listens_at_that_address_of_its_host_which_it_shall_be_reached_at(program, security):
    scheduler, told = program(scheduler_spec(security, host="127.0.0.2"))
    assert told["address"].startswith("tls://127.0.0.2:")
    assert [one.split()[0] for one in listening(scheduler)] == ["127.0.0.2"]


@pytest.mark.parametrize(
    ("given", "reached", "listened"),
    [
        (None, "10.0.0.5", "10.0.0.5"),
        ("198.51.100.7", "10.0.0.5", "10.0.0.5"),
        ("no-such-host.invalid", "10.0.0.5", "10.0.0.5"),
        ("localhost", "10.0.0.5", "10.0.0.5"),  # as many hosts file their own name
        ("127.0.0.2", "127.0.0.1", "127.0.0.2"),
        ("127.0.0.2", None, "127.0.0.2"),
    ],
)
def test_where_a_scheduler_listens(given, reached, listened):
    assert remote._listened(given, reached) == listened


@pytest.mark.parametrize(
    ("given", "reached", "words"),
    [
        (None, None, r"tells none of this host's addresses .* scheduler_host is not set: set it"),
        ("198.51.100.7", None, "scheduler_host, 198.51.100.7, is not one of them: set it"),
        (None, "fe80::1%eth0", "at fe80::1%eth0, which other hosts cannot use .*: set scheduler_host"),
    ],
)
def test_a_scheduler_without_an_address_that_others_can_use_is_refused(given, reached, words):
    with pytest.raises(ValueError, match=words):
        remote._listened(given, reached)


def test_a_host_that_does_not_tell_how_ssh_came_is_refused_in_words(program, security):
    process, told = program(scheduler_spec(security), by=None)
    assert "set it to one" in told["error"]
    assert process.wait(PATIENCE) == 1


@pytest.mark.parametrize(
    ("worker_class", "servers"), [("distributed.Worker", 1), ("distributed.Nanny", 2), ("own.W", 1)]
)
def test_a_worker_of_another_class_serves_no_pages_either(
    program, security, monkeypatch, tmp_path, worker_class, servers
):
    (tmp_path / "own.py").write_text("import distributed\nclass W(distributed.Worker): pass\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    _, told = program(scheduler_spec(security))
    worker, _ = program(worker_spec(security, told["address"], worker_class=worker_class, threads=1))
    assert len(listening(worker)) == servers


def test_a_nanny_of_another_class_serves_pages_to_its_host_only(monkeypatch):
    class Own(Nanny):
        def __init__(self, scheduler: str, **options: Any) -> None:
            self.options = options

    made = ModuleType("own")
    made.Own = Own  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own", made)
    spec = {"scheduler": "tls://a:1", "threads": 1, "worker_class": "own.Own"}
    assert remote._worker(spec, {"name": "a"}).options["dashboard_address"] == "127.0.0.1:0"


def test_a_dashboard_tells_the_port_that_it_has_got(program, security):
    _, told = program(scheduler_spec(security, dashboard=True))
    first = told["dashboard_port"]
    scheduler, told = program(scheduler_spec(security, dashboard=True))
    assert told["dashboard_port"] not in (first, 8787)
    assert f"127.0.0.1 {told['dashboard_port']}" in listening(scheduler)


def test_of_own_certificates_a_host_gets_the_content_of_those_of_its_role(tmp_path, security):
    names = (
        "tls_ca_file",
        *(f"tls_{role}_{what}" for role in ("client", "scheduler", "worker") for what in ("cert", "key")),
    )
    for name in names:
        (tmp_path / name).write_text(f"{name}\n{getattr(security, name)}")
    paths = {name: str(tmp_path / name) for name in names}
    own = Security(**paths, require_encryption=True, tls_min_version=ssl.TLSVersion.TLSv1_3)
    sent = _sent(own, "worker")
    assert json.loads(json.dumps(sent)) == sent
    certificates = {name for name in sent if name.startswith("tls_") and sent[name] and "version" not in name}
    assert certificates == {"tls_ca_file", "tls_worker_cert", "tls_worker_key"}
    assert all(sent[name] == (tmp_path / name).read_text() for name in certificates)
    assert (sent["require_encryption"], ssl.TLSVersion(sent["tls_min_version"])) == (True, ssl.TLSVersion.TLSv1_3)


def test_what_cannot_be_started_is_told(program, security):
    process, told = program(worker_spec(security, "tls://127.0.0.1:1"))
    assert told == {
        "error": "ConnectionError: the scheduler at tls://127.0.0.1:1 cannot be reached from here "
        f"(Connection refused): {remote.REACH_IT}"
    }
    assert process.wait(PATIENCE) == 1


@pytest.mark.parametrize("ends", [True, False])
def test_a_lifeline_is_cut_when_it_ends_and_when_nothing_comes(monkeypatch, ends):
    monkeypatch.setattr("prs_dask.clusters.remote.END_SECONDS", 0)
    monkeypatch.setattr("prs_dask.clusters.remote.end_at_once", lambda: None)
    reader, writer = os.pipe()
    cut = threading.Event()
    lifeline = Lifeline(reader, cut.set, silence=0.3)
    begun = time.monotonic()
    lifeline.start()
    for _ in range(5):
        time.sleep(0.1)
        os.write(writer, b"\n")
    assert not cut.is_set(), "signs of life keep it"
    if ends:
        os.close(writer)
    assert cut.wait(PATIENCE)
    assert time.monotonic() - begun > 0.5
    lifeline.join()
    os.close(reader)
    if not ends:
        os.close(writer)


@pytest.mark.parametrize(("threads", "per_gpu", "each"), [(None, 1, 1), (None, 3, 3), (2, 3, 1), (3, 1, 2), (8, 1, 4)])
def test_a_worker_of_dask_cuda_gets_threads_for_each_of_two_gpus(monkeypatch, threads, per_gpu, each):
    class CUDAWorker:
        def __init__(self, scheduler: str, **options: Any) -> None:
            self.options = options
            self.nannies = [SimpleNamespace(preload_argv=["--create-cuda-context", "--more"])]

    made = ModuleType("dask_cuda")
    made.CUDAWorker = CUDAWorker  # type: ignore[attr-defined]
    utils = ModuleType("dask_cuda.utils")
    utils.get_n_gpus = lambda: 2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dask_cuda", made)
    monkeypatch.setitem(sys.modules, "dask_cuda.utils", utils)
    spec = {"scheduler": "tls://a:1", "threads": threads, "processes_per_gpu": per_gpu}
    server = remote._worker({**spec, "worker_class": "dask_cuda.CUDAWorker"}, {"name": "a"})
    assert server.options["nthreads"] == each
    assert server.nannies[0].preload_argv == ["--more"]
