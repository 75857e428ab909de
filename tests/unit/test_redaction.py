"""Secrets stay out of files."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.redaction import _PARAMETER, Redactor, redact_settings, redact_text, salted_hash, without_hashes

CANARY = "c4n4ry%2Fs3cr3t+value"


@pytest.mark.parametrize(
    "text",
    [
        f"https://me:{CANARY}@host/path",
        f"https://{CANARY}@github.com/x.git",
        f"postgresql+psycopg://user:{CANARY}@db:5432/name",
        f"sftp://me:p@{CANARY}@host/a",
        f"https://a.blob.core.windows.net/c/f.csv?sv=2020&se=2030&sig={CANARY}",
        f"https://b.s3.amazonaws.com/k?X-Amz-Signature={CANARY}&X-Amz-Credential={CANARY}/s3&X-Amz-Date=1",
        f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={CANARY}==;EndpointSuffix=core.windows.net",
        f"Endpoint=sb://x/;SharedAccessKey={CANARY}",
        f"storage_options={{'secret': '{CANARY}', 'anon': False}}",
        f'{{"aws_secret_access_key": "{CANARY}"}}',
        f"connect(host='x', password='{CANARY}')",
        f"Authorization: Bearer {CANARY.replace('%', '')}",
        f"token={CANARY}",
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    hidden = redact_text(f"before {text} after\nnext line")
    assert CANARY not in hidden
    assert CANARY.replace("%", "") not in hidden
    assert hidden.startswith("before ")
    assert hidden.endswith(" after\nnext line")
    assert "***" in hidden


@given(st.from_regex(re.compile(_PARAMETER, re.IGNORECASE), fullmatch=True))
def test_every_name_of_a_secret_parameter_is_looked_for(name: str) -> None:
    assert redact_text(f"?{name}={CANARY}") == f"?{name}=***"
    assert redact_text(f"{{'{name}': '{CANARY}'}}") == f"{{'{name}': '***'}}"


@pytest.mark.parametrize(
    "text",
    [
        "/data/a=b/c.csv",
        "/data/year=2026/month=11/part-0.parquet",
        "abfs://container@account.dfs.core.windows.net/a.csv",
        "s3://bucket/key.parquet",
        "tcp://127.0.0.1:8786",
        "design=4, key=value, Store=2/",
        "ssh://me@host/path",
        "12 files: /a/0.png .. /a/11.png",
        "ValueError: not enough tokens: 3",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert redact_text(text) == text


def test_settings_keep_names_and_lose_values() -> None:
    settings = {
        "mini_batch_size": 5,
        "environment_variables": {"MODE": CANARY},
        "inputs": [
            {"path": f"https://h/x?sig={CANARY}", "storage_options": {"account_name": "a", "account_key": CANARY}},
        ],
        "arguments": ("--rate", 0.5, None, True),
        "connection_string": CANARY,
        "partition_keys": ["Store"],
        "token": None,
    }
    hidden = redact_settings(settings, b"salt")
    text = json.dumps(hidden)
    assert CANARY not in text
    assert hidden["mini_batch_size"] == 5
    assert hidden["partition_keys"] == ["Store"]
    assert hidden["arguments"] == ["--rate", 0.5, None, True]
    assert hidden["token"] is None
    assert list(hidden["environment_variables"]) == ["MODE"]
    assert list(hidden["inputs"][0]["storage_options"]) == ["account_name", "account_key"]
    assert hidden == redact_settings(settings, b"salt")


def test_a_hash_tells_whether_a_value_has_changed() -> None:
    assert salted_hash("a", b"1") == salted_hash("a", b"1")
    assert len({salted_hash("a", b"1"), salted_hash("b", b"1"), salted_hash("a", b"2")}) == 3


def test_people_are_shown_no_hashes() -> None:
    hashed = salted_hash("a", b"1")
    assert without_hashes({"key": hashed, "more": [hashed, 1, "b"]}) == {"key": "***", "more": ["***", 1, "b"]}


def test_known_secrets_are_hidden_wherever_they_stand() -> None:
    redactor = Redactor(
        {
            "storage_options": {"key": "AKIA12345678", "client_kwargs": {"x": [b"bytes-secret"]}, "anon": False},
            "environment_variables": {"DATA": "/data/images", "MY_TOKEN": "tok-abcdefgh", "A_KEY": "1"},
        }
    )
    assert redactor.text("AKIA12345678 tok-abcdefgh bytes-secret") == "*** *** ***"
    assert redactor.text("/data/images 1 False") == "/data/images 1 False"
    assert "AKIA" not in repr(redactor)
    assert Redactor().text("") == ""
