"""Faults of stores are told apart, and told without secrets."""

import errno

import aiohttp
import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)
from fsspec.exceptions import FSTimeoutError
from s3fs.errors import translate_boto_error

from prs_dask.stores import AccessRefused, StorageOptions, StoreFailed
from prs_dask.stores.failures import Failure, ShortRead, describe, kind_of

CANARY = "cAnArY7c1f0e"


def http(status):
    return aiohttp.ClientResponseError(None, (), status=status, message="no", headers={})


def boto(status, code="Whatever"):
    error = ClientError(
        {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject"
    )
    return translate_boto_error(error)


def azure(status, code=""):
    error = HttpResponseError("m")
    error.status_code, error.error_code = status, code
    return error


@pytest.mark.parametrize("make", [http, boto, azure])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *[(status, Failure.TRANSIENT) for status in (408, 429, 500, 502, 503, 504)],
        *[(status, Failure.REFUSED) for status in (401, 403)],
        (404, Failure.MISSING),
        *[(status, Failure.OTHER) for status in (400, 409, 412, 501)],
    ],
)
def test_the_status_decides(make, status, kind):
    assert kind_of(make(status)) is kind


@pytest.mark.parametrize(
    "error",
    [
        boto(400, "SlowDown"),
        boto(400, "RequestTimeout"),
        azure(409, "ServerBusy"),
        TimeoutError(),
        FSTimeoutError(),
        ConnectionResetError(),
        BrokenPipeError(),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError("cut"),
        aiohttp.ServerTimeoutError(),
        EndpointConnectionError(endpoint_url="http://x"),
        ReadTimeoutError(endpoint_url="http://x"),
        ConnectTimeoutError(endpoint_url="http://x"),
        ServiceRequestError("m"),
        ServiceResponseError("m"),
        ShortRead("5 bytes instead of 10"),
    ],
    ids=repr,
)
def test_what_passes_by_itself(error):
    assert kind_of(error) is Failure.TRANSIENT


@pytest.mark.parametrize(
    "error",
    [
        boto(400, "ExpiredToken"),
        boto(400, "InvalidAccessKeyId"),
        PermissionError(),
        NoCredentialsError(),
        ClientAuthenticationError("m"),
    ],
    ids=repr,
)
def test_what_is_refused(error):
    assert kind_of(error) is Failure.REFUSED


@pytest.mark.parametrize("error", [FileNotFoundError(), ResourceNotFoundError("m"), boto(404, "NoSuchKey")], ids=repr)
def test_what_is_missing(error):
    assert kind_of(error) is Failure.MISSING


def test_a_fault_of_ours_is_no_transient_one():
    assert kind_of(TypeError("x")) is Failure.OTHER


def test_the_error_says_what_is_allowed_where_access_is_refused():
    error = describe(http(403), "https://host/a?sig=x", StorageOptions({"headers": {"X": CANARY}}))
    assert isinstance(error, AccessRefused)
    assert isinstance(error, PermissionError)
    assert (error.errno, error.filename) == (errno.EACCES, "https://host/a")
    assert "HTTP 403" in str(error)
    assert "username and password" in str(error)
    assert "given: headers, which may have expired or be wrong" in str(error)
    assert CANARY not in str(error)


@pytest.mark.parametrize(
    ("url", "option"),
    [
        ("s3://b/k", "secret"),
        ("abfs://c/b", "client_secret"),
        ("gs://b/k", "token"),
        ("sftp://h/f", "fsspec's class for sftp"),
    ],
)
def test_the_ways_in_are_those_of_the_store(url, option):
    assert option in str(describe(PermissionError(), url, None))


def test_missing_files_are_told_by_their_url():
    error = describe(boto(404), "s3://box/a", None)
    assert isinstance(error, FileNotFoundError)
    assert str(error) == "[Errno 2] no such file in the store: 's3://box/a'"


def test_messages_lose_queries_and_values_of_options():
    text = f"cannot connect to https://h/x?sv=1&sig=abc for AccountKey={CANARY}; {CANARY} and {CANARY}2"
    options = StorageOptions({"connection_string": f"AccountName=a;AccountKey={CANARY};"})
    error = describe(RuntimeError(text), "abfs://c/x", options)
    assert isinstance(error, StoreFailed)
    assert CANARY not in str(error)
    assert "sv=1" not in str(error)
    assert "https://h/x" in str(error)
