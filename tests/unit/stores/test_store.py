"""Stores read, list and download, from every kind of server, and through faults."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest

from prs_dask.errors import InputError, ReadError
from prs_dask.stores import AccessRefused, FileInfo, StorageOptions, StoreFailed, retries, size_in, store, store_of

NAMES = ["a", "b/x", "b-c", "b/ü y/%20#?*[z].txt", "b/x+&=;@:.csv"]


@pytest.fixture
def quick_retries(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.001)


class Place:
    """A bucket of one of the stores, with what is needed to use it."""

    def __init__(self, url, options, put):
        self.url, self.options, self._put = url, StorageOptions(options) if options else None, put

    def put(self, name, data):
        self._put(f"{self.url}/{name}", data)
        return f"{self.url}/{name}"

    @property
    def store(self):
        return store_of(self.url, self.options)


@pytest.fixture(params=["s3", "azure", "memory"])
def place(request):
    if request.param == "memory":
        memory = fsspec.filesystem("memory")
        memory.store.clear()
        memory.pseudo_dirs[:] = [""]
        yield Place("memory://box", None, lambda url, data: memory.pipe_file(url, data))
        memory.store.clear()
        memory.pseudo_dirs[:] = [""]
    else:
        server = request.getfixturevalue(request.param)
        yield Place(server.bucket(), server.options, server.put)


def test_files_are_listed_in_the_order_of_whole_paths_with_size_and_version(place):
    for name in NAMES:
        place.put(name, name.encode())
    found = list(place.store.list(place.url))
    assert [info.path for info in found] == sorted(f"{place.url}/{name}" for name in NAMES)
    for info in found:
        assert info.size == len(info.path.removeprefix(f"{place.url}/").encode()) == size_in(info.version)
        assert place.store.info(info.path) == info


def test_a_folder_is_not_what_begins_with_its_name(place):
    for name in NAMES:
        place.put(name, b"1")
    listed = [info.path.removeprefix(f"{place.url}/") for info in place.store.list(f"{place.url}/b")]
    assert listed == sorted(name for name in NAMES if name.startswith("b/"))
    listed = [info.path.removeprefix(f"{place.url}/") for info in place.store.list(f"{place.url}/b", prefix=True)]
    assert listed == sorted(name for name in NAMES if name.startswith("b"))


def test_ranges_are_read_at_any_place(place):
    url = place.put("b/ü y/%20#?*[z].txt", bytes(range(256)))
    assert place.store.read_at(url, 10, 5) == bytes(range(10, 15))
    assert place.store.read_at(url, 250, 100) == bytes(range(250, 256))
    assert place.store.read_at(url, 300, 5) == b""
    assert place.store.read_at(url, 5, 0) == b""


def test_reads_larger_than_a_request_are_joined(place, monkeypatch):
    monkeypatch.setattr(store, "REQUEST_BYTES", 100)
    data = bytes(range(250)) * 3
    url = place.put("large", data)
    assert place.store.read_at(url, 3, 700) == data[3:703]


def test_a_file_can_be_sought(place):
    data = bytes(range(200)) * 10
    with place.store.open(place.put("a", data), buffer=64) as file:
        assert file.seek(-5, 2) == len(data) - 5
        assert file.read() == data[-5:]
        file.seek(100)
        assert file.read(50) == data[100:150]
        assert file.tell() == 150
        assert file.read() == data[150:]


def test_a_file_is_downloaded_under_its_name_at_once(place, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "REQUEST_BYTES", 100)
    data = bytes(range(200)) * 2
    info = place.store.info(place.put("a", data))
    place.store.download(info, tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_empty_files_are_files(place, tmp_path):
    url = place.put("empty", b"")
    info = place.store.info(url)
    assert info.size == 0
    assert list(place.store.list(place.url)) == [info]
    place.store.download(info, tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b""


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_written_replaced_and_removed(place, name):
    url = f"{place.url}/new folder/{name}"
    for data in (b"first", b"", bytes(range(256)) * 1000):
        place.store.write(url, data)
        assert place.store.info(url).size == len(data)
        assert place.store.read_at(url, 0, 1 << 20) == data
    place.store.remove(url)
    place.store.remove(url)
    with pytest.raises(FileNotFoundError):
        place.store.info(url)


def test_a_changed_file_is_told(place, tmp_path):
    info = place.store.info(place.put("a", b"before"))
    place.store.check_unchanged(info.path, info.version)
    time.sleep(0.01)
    place.put("a", b"behind")
    with pytest.raises(ReadError, match=r"the file was changed since it was listed( \(written anew\))?$"):
        place.store.check_unchanged(info.path, info.version)
    with pytest.raises(ReadError, match="changed"):
        place.store.download(info, tmp_path / "here")
    assert not list(tmp_path.iterdir())
    place.put("a", b"longer than before")
    with pytest.raises(ReadError, match=r"\(6 bytes then, 18 now\)"):
        place.store.check_unchanged(info.path, info.version)


@pytest.mark.parametrize("name", ["missing", "folder", "folder/", "no/such/folder"])
def test_what_is_missing_is_missing(place, name):
    place.put("folder/file", b"1")
    with pytest.raises(FileNotFoundError, match="no such file in the store"):
        place.store.info(f"{place.url}/{name}")
    with pytest.raises(FileNotFoundError):
        place.store.read_at(f"{place.url}/missing", 0, 1)


def test_many_threads_share_a_store(place):
    urls = [place.put(f"{number:03d}", str(number).encode()) for number in range(50)]
    with ThreadPoolExecutor(16) as pool:
        read = list(pool.map(lambda url: store_of(url, place.options).read_at(url, 0, 10), urls))
    assert read == [str(number).encode() for number in range(50)]


def test_one_store_for_equal_options(place):
    assert store_of(f"{place.url}/a", place.options) is store_of(f"{place.url}/b", place.options)


@pytest.mark.parametrize("server", ["s3", "azure"])
def test_long_listings_come_page_by_page(server, request, monkeypatch):
    server = request.getfixturevalue(server)
    url = server.bucket()
    names = [f"{url}/{number:04d}" for number in range(25)]
    for name in names:
        server.put(name, b"")
    listing = store_of(url, StorageOptions(server.options))
    pages = []
    ask = listing._client.page

    def small_page(prefix, start):
        pages.append(start)
        return ask(prefix, start)

    file_system = listing._client._file_system
    monkeypatch.setattr(listing._client, "page", small_page)
    if server.__class__.__name__ == "S3Server":
        call = file_system._call_s3
        monkeypatch.setattr(
            file_system,
            "_call_s3",
            lambda *a, **k: call(*a, **k, **({"MaxKeys": 10} if a[0] == "list_objects_v2" else {})),
        )
        found = listing.list(url)
        assert next(found).path == names[0]
        assert len(pages) == 1
        assert [info.path for info in found] == names[1:]
        assert len(pages) == 3
    else:
        assert [info.path for info in listing.list(url)] == names


def test_marks_of_folders_are_no_files(s3):
    url = s3.bucket()
    for name in ("a/", "b_$folder$", "c//", "d"):
        s3.put(f"{url}/{name}", b"")
    s3.put(f"{url}/full/", b"not empty")
    found = [info.path for info in store_of(url, StorageOptions(s3.options)).list(url)]
    assert found == [f"{url}/d", f"{url}/full/"]


def test_folders_of_a_hierarchical_namespace_are_no_files(azure):
    url = azure.bucket()
    azure.put(f"{url}/folder", b"", metadata={"hdi_isfolder": "true"})
    azure.put(f"{url}/folder/a", b"1")
    store_ = store_of(url, StorageOptions(azure.options))
    assert [info.path for info in store_.list(url)] == [f"{url}/folder/a"]
    with pytest.raises(FileNotFoundError):
        store_.info(f"{url}/folder")


def test_a_wrong_key_is_told_at_once_and_not_shown(azure):
    url = azure.bucket()
    wrong = "canary" + "A" * 80 + "=="
    options = {"connection_string": azure.options["connection_string"].replace("Eby8vdM02x", "Canary8vd0")}
    with pytest.raises(AccessRefused, match="HTTP 403.*account_key; sas_token") as caught:
        store_of(url, StorageOptions(options)).info(f"{url}/a")
    assert "Canary" not in str(caught.value)
    options = {"account_name": "x", "account_key": wrong, "nonsense": 1}
    with pytest.raises((InputError, AccessRefused, StoreFailed)) as caught:
        store_of("abfs://c/x", StorageOptions(options)).info("abfs://c/x")
    assert "canary" not in str(caught.value)


# -------------------------------------------------------------------- HTTP


def test_files_over_http(web, tmp_path):
    url = web.put("folder/a b.csv", b"0123456789")
    url = url.replace(" ", "%20")
    there = store_of(url)
    info = there.info(url)
    assert (info.path, info.size) == (url, 10)
    assert there.read_at(url, 3, 4) == b"3456"
    assert there.read_at(url, 20, 4) == b""
    there.download(info, tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"0123456789"


def test_http_servers_without_ranges_and_without_head_will_do(web, monkeypatch, tmp_path):
    monkeypatch.setattr(store, "REQUEST_BYTES", 4)
    web.ranges = web.head = False
    url = web.put("a", b"0123456789")
    there = store_of(url)
    info = there.info(url)
    assert info.size == 10
    assert there.read_at(url, 3, 4) == b"3456"
    assert there.read_at(url, 20, 4) == b""
    there.download(info, tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"0123456789"


def test_http_has_no_listing(web):
    with pytest.raises(StoreFailed, match="no listings"):
        list(store_of(web.url).list(web.url + "/folder"))


def test_user_and_password_for_http(web):
    url = web.put("secret", b"x")
    web.users["secret"] = "me:canary-password"
    with pytest.raises(AccessRefused, match="HTTP 401.*username and password"):
        store_of(url).info(url)
    assert store_of(url, StorageOptions({"username": "me", "password": "canary-password"})).read_at(url, 0, 9) == b"x"


def test_secret_queries_for_http(web):
    url = web.put("signed", b"x")
    web.queries["signed"] = "sig=canary&sv=1"
    with pytest.raises(AccessRefused):
        store_of(url).info(url)
    options = StorageOptions({"url_queries": {url: "sig=canary&sv=1"}})
    assert store_of(url, options).info(url).path == url


# -------------------------------------------------------------------- faults


@pytest.mark.parametrize("fault", [503, 500, 429, "cut", "reset"])
def test_transient_faults_are_survived(s3, faulty_s3, quick_retries, fault):
    url = s3.put(f"{s3.bucket()}/a", bytes(range(200)))
    there = store_of(url, StorageOptions(s3.through(faulty_s3.port)))
    faulty_s3.times(retries.TRIES - 1, fault)
    assert there.read_at(url, 10, 100) == bytes(range(10, 110))
    assert len(faulty_s3.requests) == retries.TRIES


@pytest.mark.parametrize("fault", [503, "cut"])
def test_a_download_goes_on_where_it_was_cut(s3, faulty_s3, quick_retries, fault, monkeypatch, tmp_path):
    monkeypatch.setattr(store, "REQUEST_BYTES", 50)
    data = bytes(range(220))
    url = s3.put(f"{s3.bucket()}/a", data)
    there = store_of(url, StorageOptions(s3.through(faulty_s3.port)))
    info = there.info(url)
    faulty_s3.fault = lambda method, _, span: (
        fault if span == "bytes=100-149" and failed.append(1) is None and len(failed) < 3 else None
    )
    failed: list[int] = []
    there.download(info, tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == data


def test_writing_survives_transient_faults(s3, faulty_s3, quick_retries):
    url = f"{s3.bucket()}/a"
    there = store_of(url, StorageOptions(s3.through(faulty_s3.port)))
    faulty_s3.times(3, 503, method="PUT")
    there.write(url, b"x" * 1000)
    assert there.info(url).size == 1000


def test_nothing_is_written_over_http(web):
    url = web.put("a", b"x")
    with pytest.raises(PermissionError, match="HTTP servers take no files"):
        store_of(url).write(url, b"y")


def test_a_store_that_stays_down_is_given_up(s3, faulty_s3, quick_retries):
    url = s3.put(f"{s3.bucket()}/a", b"x")
    there = store_of(url, StorageOptions(s3.through(faulty_s3.port)))
    faulty_s3.times(100, 503)
    with pytest.raises(StoreFailed, match="also when asked again: HTTP 503"):
        there.read_at(url, 0, 1)
    assert len(faulty_s3.requests) == retries.TRIES


@pytest.mark.parametrize(("fault", "error"), [(403, AccessRefused), (401, AccessRefused), (404, FileNotFoundError)])
def test_refusals_are_not_asked_again(s3, faulty_s3, fault, error):
    url = s3.put(f"{s3.bucket()}/a", b"x")
    there = store_of(url, StorageOptions(s3.through(faulty_s3.port)))
    faulty_s3.times(100, fault)
    with pytest.raises(error):
        there.read_at(url, 0, 1)
    assert len(faulty_s3.requests) == 1


def test_a_server_that_hangs_is_asked_again(s3, faulty_s3, quick_retries, monkeypatch):
    from prs_dask.stores import client

    monkeypatch.setattr(client, "CALL_SECONDS", 0.5)
    url = s3.put(f"{s3.bucket()}/a", b"x")
    there = store_of(url, StorageOptions(s3.through(faulty_s3.port)))
    faulty_s3.times(1, "hang")
    began = time.monotonic()
    assert there.read_at(url, 0, 1) == b"x"
    assert time.monotonic() - began < 5


def test_a_listing_goes_on_after_a_fault(s3, faulty_s3, quick_retries):
    url = s3.bucket()
    for number in range(3):
        s3.put(f"{url}/{number}", b"")
    faulty_s3.times(3, 503)
    found = store_of(url, StorageOptions(s3.through(faulty_s3.port))).list(url)
    assert [info.path for info in found] == [f"{url}/{number}" for number in range(3)]


# -------------------------------------------------------------------- making one


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(InputError, match=r'pip install "prs-dask\[s3\]"'):
        store_of("s3://bucket/x", StorageOptions({"key": "other"}))


def test_options_that_the_store_does_not_take_are_told_without_their_values():
    with pytest.raises(InputError, match="storage_options: found what S3FileSystem does not take") as caught:
        store_of("s3://b/x", StorageOptions({"config_kwargs": "canary-value"}))
    assert "canary" not in str(caught.value)


def test_service_principal_reaches_adlfs_unchanged(monkeypatch):
    import adlfs

    given = {}

    class Recorder(adlfs.AzureBlobFileSystem):
        def __init__(self, **options):
            given.update(options)

    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "abfs", Recorder)
    principal = {"tenant_id": "canary-t", "client_id": "canary-c", "client_secret": "canary-s"}
    made = store_of("abfss://box@account.dfs.core.windows.net/a", StorageOptions(principal))
    assert {name: given[name] for name in principal} == principal
    assert given["account_name"] == "account"
    assert "canary" not in repr(made)


def test_google_cloud_storage_is_made_with_its_options_without_asking_anybody():
    made = store_of("gs://bucket/a", StorageOptions({"token": "anon", "project": "canary"}))
    assert repr(made) == "Store(gs)"


def test_accounts_in_urls_are_stores_of_their_own(azure):
    key = StorageOptions({"account_key": "QQ=="})
    one, two = (store_of(f"abfs://c@{name}.dfs.core.windows.net/a", key) for name in ("one", "two"))
    assert one is not two
    assert one is store_of("abfs://d@one.dfs.core.windows.net/b", key)


def test_file_info_of_unknown_size():
    assert size_in("-1-etag") == -1
    assert FileInfo("x") == FileInfo("x", -1, "")


def test_what_a_worker_process_imports_of_stores_loads_no_client():
    heavy = "fsspec", "tenacity", "aiohttp", "pandas", "pyarrow"
    code = (
        "import prs_dask.stores.store, prs_dask.datasets.reading, prs_dask.datasets.source_file, sys;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
