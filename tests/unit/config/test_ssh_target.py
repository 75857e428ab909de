"""SSHTarget and its three forms."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from distributed import Security

from prs_dask import ParallelRunConfig, SettingsError, SSHTarget
from prs_dask.config.compute_target import compute_target
from prs_dask.config.ssh_target import SSHHost
from prs_dask.config.yaml_files import with_paths_from

ROLES = ("client", "scheduler", "worker")


class Certificates:
    """What of a distributed.Security is looked at."""

    def __init__(self, **given: object) -> None:
        names = ["tls_ca_file", *(f"tls_{role}_{what}" for role in ROLES for what in ("cert", "key"))]
        vars(self).update({"require_encryption": True, **{name: f"{name}\n" for name in names}, **given})

    def get_connection_args(self, role: str) -> dict[str, str]:
        return {}


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("ssh://node1", SSHTarget(["node1"])),
        ("ssh://node1,node2", SSHTarget(["node1", "node2"])),
        ("ssh://ann@node1, bob@node2:2222", SSHTarget(["node1", "bob@node2:2222"], user="ann")),
        ("ssh://10.0.0.5/opt/my%20venv/bin/python", SSHTarget("10.0.0.5", python="/opt/my venv/bin/python")),
        ("ssh://[fe80::1]:22,fe80::2", SSHTarget(["[fe80::1]:22", "fe80::2"])),
        ("SSH://node1", SSHTarget(["node1"])),
        ("ssh://node1/~/my%20venv/bin/python", SSHTarget(["node1"], python="~/my venv/bin/python")),
    ],
)
def test_a_url_says_hosts_their_user_and_their_python(url, target):
    assert compute_target(url) == target
    assert compute_target(target.as_mapping()) == target
    assert pickle.loads(pickle.dumps(target)) == target
    assert eval(repr(target)) == target


def test_a_host_has_its_own_user_and_port_before_those_of_all():
    target = SSHTarget(["node1", "bob@node2:2222", "[::1]:22", "::1"], user="ann", port=23)
    assert target.ssh_hosts == (
        SSHHost("node1", "node1", "ann", 23),
        SSHHost("bob@node2:2222", "node2", "bob", 2222),
        SSHHost("[::1]:22", "::1", "ann", 22),
        SSHHost("::1", "::1", "ann", 23),
    )


@pytest.mark.parametrize(
    ("settings", "name", "found"),
    [
        ({"hosts": []}, "hosts", r"\[\]"),
        ({"hosts": ["node1", "node1"]}, "hosts", "which names a host twice: node1"),
        ({"hosts": ["node1", "NODE1"]}, "hosts", "which names a host twice: node1 and NODE1"),
        ({"hosts": ["node1", "ann@node1"]}, "hosts", "which names a host twice: node1 and ann@node1"),
        (
            {"hosts": ["node1", "ann@node1:22"], "user": "ann"},
            "hosts",
            "which names a host twice: node1 and ann@node1:",
        ),
        ({"hosts": ["node1:23", "node1"], "port": 23}, "hosts", "which names a host twice: node1:23 and node1"),
        ({"hosts": ["::1", "[0:0:0:0:0:0:0:1]:22"]}, "hosts", "which names a host twice: ::1 and"),
        ({"hosts": ["fe80::1%eth0"]}, "hosts", "'fe80::1%eth0' names a network card of this machine"),
        ({"hosts": ["[fe80::1%eth0]:22"]}, "hosts", "'fe80::1%eth0' names a network card of this machine"),
        ({"hosts": ["[node1]"]}, "hosts", r"where '\[node1\]' is no host"),
        ({"hosts": ["node 1"]}, "hosts", "where 'node 1' is no host"),
        ({"hosts": ["-oProxyCommand=x"]}, "hosts", "is no host"),
        ({"hosts": ["node1:70000"]}, "hosts", "is no host"),
        ({"hosts": [3]}, "hosts", "where 3 is no host"),
        ({"user": ""}, "user", "''"),
        ({"port": 0}, "port", "0"),
        ({"keys": []}, "keys", r"\[\]"),
        ({"known_hosts": 1}, "known_hosts", "1"),
        ({"python": "/a\nb"}, "python", "b"),
        ({"worker_class": "Worker"}, "worker_class", "'Worker'"),
        ({"worker_class": int}, "worker_class", "its name is wanted"),
        ({"security": "tls"}, "security", "a str"),
        ({"scheduler_host": "ann@node1"}, "scheduler_host", "'ann@node1', which has more than a name"),
        ({"scheduler_host": "[fe80::1%1]"}, "scheduler_host", "names a network card"),
        ({"scheduler_port": 0}, "scheduler_port", "0"),
        ({"dashboard": 1}, "dashboard", "1"),
        ({"connect_timeout": 0}, "connect_timeout", "0"),
        ({"start_timeout": "1"}, "start_timeout", "'1'"),
    ],
)
def test_a_value_that_cannot_be_used_is_told_with_what_is_allowed(settings, name, found):
    with pytest.raises(SettingsError, match=rf"SSHTarget: {name}: found .*{found}.*; allowed: .*; try: {name}="):
        SSHTarget(**{"hosts": ["node1"], **settings})


def test_hosts_that_differ_in_their_port_are_two():
    assert SSHTarget(["node1:22", "node1"], port=2222).hosts == ("node1:22", "node1")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"require_encryption": None}, "which does not require encryption"),
        ({"require_encryption": False, "tls_ca_file": None}, "which does not require encryption, without tls_ca_file"),
        ({"tls_worker_cert": None, "tls_worker_key": ""}, "without tls_worker_cert, tls_worker_key"),
        ({"tls_ca_file": "/nowhere/ca.pem"}, r"whose tls_ca_file cannot be read \(/nowhere/ca.pem: No such file"),
        ({"tls_client_key": Path("key.pem")}, "whose tls_client_key is no PEM text and no path of one"),
    ],
)
def test_a_security_that_would_not_encrypt_or_lacks_something_is_refused(given, found):
    with pytest.raises(SettingsError, match=f"SSHTarget: security: found a Certificates, {found}.*; allowed: "):
        SSHTarget("node1", security=Certificates(**given))


def test_certificates_may_be_files_and_hold_their_keys(tmp_path):
    (tmp_path / "both.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    both = {f"tls_{role}_{what}": str(tmp_path / "both.pem") if what == "cert" else None
            for role in ROLES for what in ("cert", "key")}  # fmt: skip
    security = Certificates(**both)
    assert SSHTarget("node1", security=security).security is security


def test_dasks_own_temporary_security_is_taken_and_its_default_is_not():
    SSHTarget("node1", security=Security.temporary())
    with pytest.raises(SettingsError, match="a Security, which does not require encryption, without tls_ca_file, tls_"):
        SSHTarget("node1", security=Security())


def test_all_faults_are_told_at_once_with_those_of_the_other_settings():
    with pytest.raises(SettingsError) as caught:
        ParallelRunConfig(
            compute_target={"ssh": {"hosts": [], "port": 0}}, output_action="append_row", error_threshold=-2
        )
    names = {fault.name for fault in caught.value.faults}
    assert names == {"entry_script", "error_threshold", "SSHTarget: hosts", "SSHTarget: port"}


@pytest.mark.parametrize(
    ("mapping", "found"),
    [
        ({"ssh": {}}, "without hosts"),
        ({"ssh": ["node1"]}, r"\['node1'\]"),
        ({"ssh": {"hosts": ["a"], "key": "x"}}, "a name that does not exist; allowed: hosts, .*keys"),
        ({"ssh": {"hosts": ["a"], "security": {}}}, "a name that does not exist"),
    ],
)
def test_a_mapping_that_is_no_target_is_refused(mapping, found):
    with pytest.raises(SettingsError, match=f"compute_target: ssh.*{found}"):
        compute_target(mapping)


@pytest.mark.parametrize("host", ["ann:hunter2@node1", "node1,ann:hunter2@node2"])
def test_a_password_is_refused_and_not_shown(host):
    with pytest.raises(SettingsError, match="a password is not taken") as caught:
        compute_target(f"ssh://{host}")
    assert "hunter2" not in str(caught.value)


def test_own_certificates_are_not_shown_and_have_no_form_in_yaml(tmp_path):
    target = SSHTarget(["node1"], security=Certificates())
    assert "security" not in repr(target)
    assert target.as_mapping() is None
    (tmp_path / "score.py").write_text("def run(mini_batch): return mini_batch")
    script = str(tmp_path / "score.py")
    config = ParallelRunConfig(
        entry_script=script, error_threshold=0, output_action="append_row", compute_target=target
    )
    with pytest.raises(SettingsError, match="compute_target: found .*which has no form in YAML"):
        config.save_to_yaml(tmp_path / "config.yml")


def test_a_config_brings_its_hosts_back_from_yaml(tmp_path):
    target = SSHTarget(["node1", "node2"], keys=[tmp_path / "key"], dashboard=True, connect_timeout=3)
    (tmp_path / "score.py").write_text("def run(mini_batch): return mini_batch")
    script = str(tmp_path / "score.py")
    config = ParallelRunConfig(
        entry_script=script, error_threshold=0, output_action="append_row", compute_target=target
    )
    config.save_to_yaml(tmp_path / "config.yml")
    assert ParallelRunConfig.load_yaml(tmp_path / "config.yml").compute_target == target


def test_paths_in_a_file_are_relative_to_it_those_on_the_hosts_are_not():
    ssh = {"hosts": ["node1"], "keys": ["id", "~/id"], "known_hosts": "known", "python": "venv/bin/python"}
    placed = with_paths_from("/settings", {"compute_target": {"ssh": ssh}})["compute_target"]["ssh"]
    assert placed["keys"] == ["/settings/id", str(Path.home() / "id")]
    assert (placed["known_hosts"], placed["python"]) == ("/settings/known", "venv/bin/python")
    url = with_paths_from("/settings", {"compute_target": "ssh://node1/venv/bin/python"})
    assert url == {"compute_target": "ssh://node1/venv/bin/python"}
