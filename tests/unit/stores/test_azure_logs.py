"""What Azure's packages log when they are refused, in the driver and in a worker process."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap

import pytest

from prs_dask.stores.azure_logs import redact_logs

PRINCIPAL = {
    "tenant_id": "cAnArY-tenant-0123456789",
    "client_id": "cAnArY-client-0123456789",
    "client_secret": "cAnArY-client-secret-0123456789",
}
REFUSED = f"""
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity.aio._internal.aad_client import AadClient
    from prs_dask import FileDataset
    from prs_dask.errors import InputError, PrsError

    async def refused(client, scopes, secret, **_):
        given = {{"tenant_id": client._tenant_id, "client_id": client._client_id, "client_secret": secret}}
        assert given == {PRINCIPAL}, "options reach the client as they are"
        raise ClientAuthenticationError(message=(
            f"AADSTS700016: Application with identifier {{client._client_id!r}} was not found "
            f"in the directory {{client._tenant_id!r}}; {{secret}}"
        ))

    AadClient.obtain_token_by_client_secret = refused
    url = "abfs://box@account.dfs.core.windows.net/items"
    try:
        FileDataset.from_files(url, storage_options={PRINCIPAL}).check()
    except PrsError as error:
        assert not [value for value in {PRINCIPAL}.values() if value in str(error)]
        assert "refuses access" in str(error), error
        print("REFUSED")
"""


@pytest.mark.parametrize("level", [None, "DEBUG"])
@pytest.mark.parametrize("place", ["driver", "worker process"])
def test_what_a_refused_service_principal_makes_azures_packages_log_holds_none_of_its_values(
    place: str, level: str | None
) -> None:
    program = "import logging\n"
    if place == "worker process":
        program += "from prs_dask.entry_script.log_handlers import prepare_root\nprepare_root()\n"
    if level is not None:
        program += f"logging.basicConfig(level={level!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", program + textwrap.dedent(REFUSED)], capture_output=True, text=True, timeout=60
    )
    assert "REFUSED" in done.stdout, done.stderr
    told = done.stdout if place == "worker process" and level is None else done.stderr
    assert "get_token_info failed: AADSTS700016: Application with identifier '***'" in told
    assert "cAnArY" not in done.stdout + done.stderr
    assert ("Traceback" in told) == (level is not None)


def test_other_loggers_are_left_alone_and_a_filter_is_added_once() -> None:
    ours, other = logging.getLogger("azure.identity.test_logs"), logging.getLogger("azuresque.test_logs")
    for _ in range(2):
        redact_logs({"client_id": "canary-0123456789"})
    assert len(ours.filters) == 1
    assert other.filters == []
