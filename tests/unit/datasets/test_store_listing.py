"""Datasets over stores list, cut and read as those over local folders do (here: fsspec's memory)."""

from __future__ import annotations

import gzip
import io
import pickle
import time

import fsspec
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prs_dask.datasets import FileDataset, ReadError, TabularDataset
from prs_dask.datasets.reading import read
from prs_dask.datasets.source_file import open_text
from prs_dask.datasets.store_listing import ListedPath
from prs_dask.errors import InputError, SettingsError
from prs_dask.mini_batches import FileMiniBatch, decode, encode


def emptied():
    """fsspec's memory, which is one for the whole process, with nothing in it."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    return memory


@pytest.fixture
def put():
    """Write a file of the store; its URL."""
    memory = emptied()

    def write(name, data=b"x"):
        memory.pipe_file(f"/box/{name}", data)
        return f"memory://box/{name}"

    yield write
    emptied()


def listed(path, **options):
    dataset = FileDataset.from_files(path, **options)
    return [file.removeprefix("memory://box/") for file in dataset.files()]


NAMES = ["z.csv", "a/1.csv", "a/2.txt", "a/b/1.csv", "a-b/1.csv", "_x/1.csv", "a/.hidden", "[z].csv", "é/1.csv"]


@pytest.fixture
def tree(put):
    for name in NAMES:
        put(name)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("", ["[z].csv", "a-b/1.csv", "a/1.csv", "a/2.txt", "a/b/1.csv", "z.csv", "é/1.csv"]),
        ("a", ["a/1.csv", "a/2.txt", "a/b/1.csv"]),
        ("a/", ["a/1.csv", "a/2.txt", "a/b/1.csv"]),
        ("z.csv", ["z.csv"]),
        ("_x", ["_x/1.csv"]),
        ("a/.hidden", ["a/.hidden"]),
        ("*.csv", ["[z].csv", "z.csv"]),
        ("[z].csv", ["[z].csv"]),
        ("[yz].csv", ["z.csv"]),
        ("*/1.csv", ["a-b/1.csv", "a/1.csv", "é/1.csv"]),
        ("**/1.csv", ["a-b/1.csv", "a/1.csv", "a/b/1.csv", "é/1.csv"]),
        ("a*", ["a-b/1.csv", "a/1.csv", "a/2.txt", "a/b/1.csv"]),
        ("a/?.csv", ["a/1.csv"]),
        ("_*/*", ["_x/1.csv"]),
        ("nothing*", []),
    ],
)
def test_files_folders_and_patterns(tree, path, names):
    assert listed(f"memory://box/{path}") == names


def test_hidden_names_count_where_they_are_asked_for(tree):
    assert listed("memory://box", include_hidden=True) == sorted(NAMES)


@given(
    st.lists(st.text("ab._/*[]-", min_size=1, max_size=6), max_size=6),
    st.text("ab._/*?[]-", min_size=1, max_size=6),
)
def test_a_store_gives_the_files_that_a_local_folder_gives(tmp_path_factory, names, path):
    folder = tmp_path_factory.mktemp("tree")
    memory = emptied()
    for name in ["ab/a", *names]:
        parts = name.strip("/").split("/")
        local = folder.joinpath(*parts)
        if "" in parts or not {".", ".."}.isdisjoint(parts) or local.exists():
            continue
        if any(parent.is_file() for parent in local.parents):
            continue
        local.parent.mkdir(parents=True, exist_ok=True)
        local.touch()
        memory.pipe_file("/box/" + "/".join(parts), b"")
    parts = path.strip("/").split("/")
    if "" in parts or not {".", ".."}.isdisjoint(parts):
        return
    path = "/".join(parts)
    try:
        expected = [file.removeprefix(f"{folder}/") for file in FileDataset.from_files(f"{folder}/{path}").files()]
    except InputError:
        with pytest.raises(InputError):
            listed(f"memory://box/{path}")
        return
    assert listed(f"memory://box/{path}") == sorted(expected)


def test_check_names_every_path_that_is_missing_empty_or_hidden(tree, tmp_path):
    (tmp_path / "there").touch()
    (tmp_path / "empty").mkdir()
    paths = [
        "memory://box/a",
        "memory://box/missing",
        "memory://box/no*thing",
        tmp_path / "there",
        tmp_path / "missing",
        tmp_path / "empty",
    ]
    with pytest.raises(InputError) as caught:
        FileDataset.from_files(paths).check()
    assert len(caught.value.faults) == 4
    for said in ("box/missing'", "box/no*thing'", f"{tmp_path}/missing'", f"{tmp_path}/empty'"):
        assert said in str(caught.value)


def test_a_folder_with_nothing_but_hidden_files_says_so(put):
    put("_only/_a")
    put("folder/_b")
    with pytest.raises(InputError, match="include_hidden=True"):
        FileDataset.from_files("memory://box/folder").check()


def test_local_paths_and_urls_together_in_their_order(put, tmp_path):
    (tmp_path / "local").touch()
    files = list(FileDataset.from_files([put("b"), str(tmp_path), put("a"), put("b")]).files())
    assert files == ["memory://box/b", f"{tmp_path}/local", "memory://box/a", "memory://box/b"]


def test_files_carry_the_versions_of_the_listing(put, tmp_path):
    (tmp_path / "local").touch()
    put("a", b"123")
    put("b", b"12345")
    (one, two) = FileDataset.from_files(["memory://box", tmp_path]).plan(2)
    assert [version.partition("-")[0] for version in one.versions] == ["3", "5"]
    assert two.versions == (f"0-{(tmp_path / 'local').stat().st_mtime_ns}",)
    assert decode(encode(one)) == one
    assert {type(path) for path in decode(encode(one)).paths} == {str}
    assert type(pickle.loads(pickle.dumps(ListedPath("s3://x")))) is str


@pytest.mark.parametrize(("mode", "told"), [(None, "download"), ("mount", "download"), ("direct", "direct")])
def test_the_mode_of_files_in_stores(put, tmp_path, mode, told):
    assert FileDataset.from_files(put("a"), mode=mode).reader().mode == told
    assert FileDataset.from_files(tmp_path, mode=mode).reader().mode is None


def test_credentials_in_urls_become_options_and_are_shown_nowhere():
    dataset = FileDataset.from_files(
        ["s3://me:canary@box/a", "s3://me:canary@box/b"], storage_options={"endpoint_url": "http://x"}
    )
    assert dataset.paths == ("s3://box/a", "s3://box/b")
    assert dict(dataset.storage_options) == {"key": "me", "secret": "canary", "endpoint_url": "http://x"}
    for text in (repr(dataset), str(dataset), repr(dataset.reader()), repr(dataset.as_download())):
        assert "canary" not in text
    assert dataset.as_named_input("x").storage_options == dataset.storage_options


def test_secrets_are_in_no_key_and_no_text_of_a_dask_collection(put):
    put("a.csv", CSV)
    dataset = TabularDataset.from_delimited_files("memory://box/a.csv", storage_options={"password": "canary"})
    frame = dataset.to_dask(1000)
    graph = dict(frame.__dask_graph__())
    assert len(graph) > 1
    for text in (repr(frame), str(list(graph)), repr(list(graph.values())), repr(frame.expr)):
        assert "canary" not in text
    assert len(frame.compute(scheduler="synchronous")) == 200
    bag = FileDataset.from_files("memory://box/a.csv", storage_options={"password": "canary"}).to_dask()
    assert bag.compute(scheduler="synchronous") == ["memory://box/a.csv"]


def test_two_credentials_in_one_dataset_are_refused():
    with pytest.raises(SettingsError, match="two values") as caught:
        FileDataset.from_files(["s3://me:canary@box/a", "s3://me:canary2@box/b"])
    assert "canary" not in str(caught.value)


def test_a_password_is_never_sent_to_another_host():
    with pytest.raises(InputError, match="credentials for another host"):
        FileDataset.from_files(["https://me:canary@one/a", "https://two/b"])
    FileDataset.from_files(["https://me:canary@one/a", "https://one/b"])


def test_urls_that_cannot_be_used_are_told_together():
    with pytest.raises(InputError) as caught:
        FileDataset.from_files(["nonsense://x/y", "s3://", "zip://a::s3://b"])
    assert len(caught.value.faults) == 3


# -------------------------------------------------------------------- tables


ROWS = "".join(f'{number},"text {number},\n{number}"\n' for number in range(200))
CSV = f"id,text\n{ROWS}".encode()


def frame_of(dataset, size):
    spec = dataset.reader()
    frames = [read(decode(encode(batch)), spec) for batch in dataset.plan(size)]
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize("size", [10, 100, 1000, 10_000])
@pytest.mark.parametrize("multi_line", ["auto", False])
def test_delimited_text_in_a_store_is_cut_and_read_as_a_local_file_is(put, tmp_path, size, multi_line):
    data = CSV if multi_line else CSV.replace(b",\n", b",")
    (tmp_path / "a.csv").write_bytes(data)
    local, remote = (
        TabularDataset.from_delimited_files(path, support_multi_line=multi_line)
        for path in (str(tmp_path / "a.csv"), put("a.csv", data))
    )
    ranges = [[(batch.start, batch.stop) for batch in one.plan(size)] for one in (local, remote)]
    assert ranges[0] == ranges[1]
    assert frame_of(local, size).equals(frame_of(remote, size))


def test_compressed_and_wide_text_in_a_store(put):
    put("a.csv.gz", gzip.compress(CSV))
    assert len(frame_of(TabularDataset.from_delimited_files("memory://box/a.csv.gz"), 100)) == 200
    put("b.csv", CSV.decode().encode("utf-16"))
    assert len(frame_of(TabularDataset.from_delimited_files("memory://box/b.csv", encoding="utf-16"), 100)) == 200


def test_json_lines_and_parquet_in_a_store(put):
    frame = pd.DataFrame({"a": range(100), "b": [str(number) for number in range(100)]})
    put("lines/a.jsonl", frame.to_json(orient="records", lines=True).encode())
    assert frame_of(TabularDataset.from_json_lines_files("memory://box/lines"), 100).a.tolist() == list(range(100))
    buffer = io.BytesIO()
    frame.to_parquet(buffer, row_group_size=10)
    put("tables/a.parquet", buffer.getvalue())
    dataset = TabularDataset.from_parquet_files("memory://box/tables", include_path=True)
    assert len(dataset.plan(1)) == 10
    found = frame_of(dataset, 1)
    assert found.pop("Path").unique().tolist() == ["memory://box/tables/a.parquet"]
    assert found.equals(frame)
    assert dataset.take(15).a.tolist() == list(range(15))


@pytest.mark.parametrize("where", ["store", "local"])
@pytest.mark.parametrize("kind", ["csv", "csv.gz", "jsonl", "parquet"])
def test_a_file_that_changed_after_listing_fails_its_mini_batches(put, tmp_path, kind, where):
    frame = pd.DataFrame({"a": range(100)})

    def write(frame):
        buffer = io.BytesIO()
        if kind == "parquet":
            frame.to_parquet(buffer)
        elif kind == "jsonl":
            buffer.write(frame.to_json(orient="records", lines=True).encode())
        else:
            text = frame.to_csv(index=False).encode()
            buffer.write(gzip.compress(text) if kind == "csv.gz" else text)
        if where == "store":
            return put(f"a.{kind}", buffer.getvalue())
        (tmp_path / f"a.{kind}").write_bytes(buffer.getvalue())
        return str(tmp_path / f"a.{kind}")

    path = write(frame)
    make = {
        "parquet": TabularDataset.from_parquet_files,
        "jsonl": TabularDataset.from_json_lines_files,
    }.get(kind, TabularDataset.from_delimited_files)
    dataset = make(path)
    batches, spec = dataset.plan(100), dataset.reader()
    assert all(batch.version for batch in batches)
    read(batches[-1], spec)
    for other in (frame[::-1], frame[:3], pd.DataFrame({"b": []})):
        time.sleep(0.01)
        write(other)
        for batch in batches:
            with pytest.raises(ReadError, match=r"the file was changed since it was listed"):
                read(batch, spec)


def test_a_file_that_is_gone_after_listing_is_missing(put):
    dataset = TabularDataset.from_delimited_files(put("a.csv", CSV))
    (batch, *_), spec = dataset.plan(), dataset.reader()
    fsspec.filesystem("memory").rm("/box/a.csv")
    with pytest.raises(FileNotFoundError, match=r"no such file in the store: 'memory://box/a.csv'"):
        read(batch, spec)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 300_000), st.integers(0, 200_000)), min_size=1, max_size=8))
def test_windows_give_the_bytes_that_are_asked_for(reads):
    data = bytes(range(251)) * 1000
    fsspec.filesystem("memory").pipe_file("/windows/a", data)
    with open_text("memory://windows/a", None) as text:
        for offset, size in reads:
            assert text.read_at(offset, size) == data[offset : offset + size]


# -------------------------------------------------------------------- mode="direct"


def test_urls_are_handed_out_if_their_files_are_as_they_were_listed(put):
    urls = [put(f"{number:02}") for number in range(50)]
    dataset = FileDataset.from_files("memory://box", mode="direct")
    assert [read(batch, dataset.reader()) for batch in dataset.plan(25)] == [urls[:25], urls[25:]]


@pytest.mark.parametrize("size", [1, 3])
def test_a_changed_or_missing_file_is_no_url_of_run(put, size):
    for number in range(9):
        put(str(number))
    dataset = FileDataset.from_files("memory://box", mode="direct")
    batches, spec = dataset.plan(size), dataset.reader()
    time.sleep(0.01)
    put("4", b"y")
    fsspec.filesystem("memory").rm("/box/7")
    outcomes = []
    for batch in batches:
        try:
            outcomes.append(len(read(batch, spec)))
        except (ReadError, FileNotFoundError) as error:
            outcomes.append(str(error))
    good = [str(outcome) for outcome in outcomes if outcome == size]
    assert len(good) == len(batches) - 2
    assert sum("memory://box/4: the file was changed since it was listed" in str(one) for one in outcomes) == 1
    assert sum("no such file in the store: 'memory://box/7'" in str(one) for one in outcomes) == 1


def test_a_file_without_a_known_version_is_handed_out_unseen(put):
    put("a")
    dataset = FileDataset.from_files("memory://box", mode="direct")
    batch = FileMiniBatch(0, ("memory://box/a", "memory://box/gone"), (dataset.plan()[0].versions[0], ""))
    assert read(batch, dataset.reader()) == ["memory://box/a", "memory://box/gone"]


def test_versions_are_asked_for_side_by_side_and_again_after_a_fault(s3, faulty_s3, monkeypatch):
    monkeypatch.setattr("prs_dask.stores.retries.FIRST_WAIT", 0.01)
    bucket = s3.bucket()
    urls = [s3.put(f"{bucket}/{number}", b"x") for number in range(8)]
    dataset = FileDataset.from_files(bucket, storage_options=s3.through(faulty_s3.port), mode="direct")
    (batch,), spec = dataset.plan(), dataset.reader()
    faulty_s3.times(3, 503, method="HEAD")
    faulty_s3.seconds = 0.1
    assert read(batch, spec) == urls
    assert faulty_s3.most_at_once >= 4
