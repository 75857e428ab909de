"""URLs lose their credentials, or are refused, and are otherwise left as they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.errors import InputError
from prs_dask.stores import is_url, without_credentials
from prs_dask.stores.urls import shown

CANARY = "cAnArY7c1f"


@pytest.mark.parametrize(
    "path", ["s3://b/k", "abfs://c@a.dfs.core.windows.net/x", "HTTP://h/x", "memory://x", "a+b.c-1://x"]
)
def test_urls_are_told_from_paths(path):
    assert is_url(path)


@pytest.mark.parametrize("path", ["/a/b", "/a://b", "file:///a", "LOCAL://a", "a/b://c", "://x", "1s://x", "c:x"])
def test_local_paths_are_no_urls(path):
    assert not is_url(path)


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/a b?x=1#y/%20*[z].csv",
        "s3a://bucket/k",
        "abfs://container@account.dfs.core.windows.net/a?b.csv",
        "abfss://container/a@b:c@d.csv",
        "gs://bucket/a",
        "https://host:81/a%20b.csv?download=1&page=2",
        "sftp://me@host/a",
        "memory://a/b",
        "s3://bucket",
    ],
)
def test_urls_without_credentials_stay_as_they_are(url):
    assert without_credentials(url) == (url, {})


@pytest.mark.parametrize(
    ("url", "clean", "options"),
    [
        (f"s3://me:{CANARY}%2F@bucket/a", "s3://bucket/a", {"key": "me", "secret": f"{CANARY}/"}),
        (f"https://me:{CANARY}@host/a", "https://host/a", {"username": "me", "password": CANARY}),
        (f"https://{CANARY}@host/a", "https://host/a", {"username": CANARY, "password": ""}),
        (f"sftp://me:{CANARY}@host:22/a", "sftp://host:22/a", {"username": "me", "password": CANARY}),
        (f"abfs://c@a.dfs.core.windows.net/x?sv=1&sig={CANARY}", "abfs://c@a.dfs.core.windows.net/x",
         {"sas_token": f"sv=1&sig={CANARY}"}),
        (f"https://a.blob.core.windows.net/c/x?sv=1&sig={CANARY}", "https://a.blob.core.windows.net/c/x",
         {"url_queries": {"https://a.blob.core.windows.net/c/x": f"sv=1&sig={CANARY}"}}),
        (f"https://h?token={CANARY}", "https://h/", {"url_queries": {"https://h/": f"token={CANARY}"}}),
        (f"https://h/x?X-Amz-Credential=a&X-Amz-Signature={CANARY}", "https://h/x",
         {"url_queries": {"https://h/x": f"X-Amz-Credential=a&X-Amz-Signature={CANARY}"}}),
    ],
)  # fmt: skip
def test_credentials_become_options(url, clean, options):
    assert without_credentials(url) == (clean, options)


@pytest.mark.parametrize(
    "url",
    [
        f"abfs://c:{CANARY}@a.dfs.core.windows.net/x",
        f"gs://me:{CANARY}@bucket/x",
        f"s3://{CANARY}@bucket/x",
        f"s3://:{CANARY}@bucket/x",
        f"s3://bucket/x?X-Amz-Signature={CANARY}",
        f"gs://bucket/x?access_token={CANARY}",
        f"simplecache::https://me:{CANARY}@host/x",
        f"zip://a::https://me:{CANARY}@host/x",
        f"nonsense://me:{CANARY}@host/x",
        f"s3://me:{CANARY}@",
    ],
)
def test_secrets_that_cannot_be_taken_out_are_refused_and_not_shown(url):
    with pytest.raises(InputError, match="path: found .* with ") as caught:
        without_credentials(url)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense://x/y", "the unknown protocol 'nonsense'"),
        ("s3://", "no bucket"),
        ("s3:///x", "no bucket"),
        ("zip://a.csv::s3://bucket/z.zip", "another URL chained to it"),
    ],
)
def test_what_is_no_url_of_a_store_is_refused(url, said):
    with pytest.raises(InputError, match=said):
        without_credentials(url)


def test_shown_urls_have_no_query():
    assert shown(f"https://me:{CANARY}@h/x?a={CANARY}") == "https://me:***@h/x"
    assert shown("s3://bucket/a?b") == "s3://bucket/a?b"


@given(
    st.sampled_from(["s3", "abfs", "https", "sftp", "gs"]),
    st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=20),
)
def test_taking_credentials_out_twice_is_taking_them_out_once(protocol, path):
    try:
        clean, _ = without_credentials(f"{protocol}://box/{path}")
    except InputError:
        return
    assert without_credentials(clean) == (clean, {})
