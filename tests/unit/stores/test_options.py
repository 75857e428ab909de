"""StorageOptions show names and never values."""

import copy
import pickle
import traceback

import pytest

from prs_dask.errors import SettingsError
from prs_dask.stores import StorageOptions
from prs_dask.stores.credentials import merged

CANARY = "canary-7c1f0e"


def options(**more):
    return StorageOptions({"account_key": CANARY, "client_kwargs": {"headers": CANARY}, **more})


@pytest.mark.parametrize(
    "show",
    [repr, str, "{}".format, "{!r:>90}".format, lambda one: f"{[one]} {(one,)} { {'x': one} }"],
)
def test_no_text_made_of_options_holds_a_value(show):
    assert CANARY not in show(options())
    assert "account_key" in show(options())


def test_a_traceback_through_options_holds_no_value():
    with pytest.raises(KeyError) as caught:
        options()["missing"]
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_options_have_no_dictionary_that_a_debugger_or_asdict_would_show():
    with pytest.raises(TypeError):
        vars(options())


def test_options_are_a_mapping_with_their_values():
    assert dict(options(anon=False)) == {
        "account_key": CANARY,
        "client_kwargs": {"headers": CANARY},
        "anon": False,
    }


def test_equal_options_are_equal_and_their_hash_knows_names_only():
    assert options() == options()
    assert options() != options(anon=True)
    assert StorageOptions({"key": "a"}) != StorageOptions({"key": "b"})
    assert hash(StorageOptions({"key": "a"})) == hash(StorageOptions({"key": "b"}))


def test_options_travel_and_are_copied():
    assert pickle.loads(pickle.dumps(options())) == options()
    assert copy.deepcopy(options()) == options()


def test_what_the_caller_does_with_his_mapping_later_changes_nothing():
    mine = {"key": "a"}
    made = StorageOptions(mine)
    mine["key"] = "b"
    assert made["key"] == "a"


@pytest.mark.parametrize("wrong", [CANARY, [CANARY], 5, {1: CANARY}])
def test_what_is_no_mapping_of_names_is_refused_without_being_shown(wrong):
    with pytest.raises(SettingsError, match=r"storage_options.*try: \{'anon': True\}") as caught:
        StorageOptions(wrong)
    assert CANARY not in str(caught.value)


def test_options_from_a_url_join_those_given():
    assert merged(None, {}) is None
    assert merged(StorageOptions({"a": 1}), {"b": 2}) == {"a": 1, "b": 2}
    assert merged(StorageOptions({"q": {"u": "1"}}), {"q": {"v": "2"}}) == {"q": {"u": "1", "v": "2"}}


def test_two_values_of_one_option_are_refused_without_showing_them():
    with pytest.raises(SettingsError, match="storage_options: key: found two values") as caught:
        merged(StorageOptions({"key": CANARY}), {"key": CANARY + "2"})
    assert CANARY not in str(caught.value)
