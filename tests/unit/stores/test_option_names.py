"""Misspelt options of a store are told before it is asked anything."""

from __future__ import annotations

import pytest

from prs_dask.errors import InputError
from prs_dask.stores import StorageOptions, store_of


@pytest.mark.parametrize(
    ("url", "options", "told"),
    [
        ("s3://b/x", {"endpint_url": "x"}, "found 'endpint_url', which S3FileSystem.*secret.*try: endpoint_url"),
        ("s3://b/x", {"account_key": "canary"}, "found 'account_key', which S3FileSystem"),
        ("abfs://c/x", {"acount_key": "canary"}, "found 'acount_key', which AzureBlobFileSystem.*try: account_key"),
        ("abfs://c@a.dfs.core.windows.net/x", {"key": "canary", "secret": "canary"}, "(?s)'key'.*'secret'"),
    ],
)
def test_names_that_a_store_does_not_take_are_refused_and_a_close_one_is_named(url, options, told):
    with pytest.raises(InputError, match=told) as caught:
        store_of(url, StorageOptions(options))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        (
            "s3://b/x",
            {"key": "k", "secret": "s", "token": "t", "client_kwargs": {}, "profile": None},
        ),
        ("abfs://c@a.dfs.core.windows.net/x", {"sas_token": "t", "anon": False, "max_concurrency": 2}),
        ("http://localhost/x", {"headers": {"X": "y"}, "what_aiohttp_may_know": 1}),
    ],
)
def test_names_that_it_takes_or_may_pass_on_are_taken(url, options):
    assert store_of(url, StorageOptions(options))


def test_an_azure_url_without_account_and_options_tells_the_ways_in():
    with pytest.raises(InputError, match="allowed: account_key; sas_token; tenant_id, client_id and client_secret"):
        store_of("abfs://container/x", StorageOptions({"socket_timeout": 5}))
