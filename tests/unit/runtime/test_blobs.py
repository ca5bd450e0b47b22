import hashlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.blobs import BlobMissing, BlobStore, BlobUnavailable, blob_uri
from runtime.leftovers import UNTOUCHED_S

CONTENT = b"the river " * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    ).create_bucket(Bucket="files")
    yield url
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "folder":
        return BlobStore(str(tmp_path / "blobs"))
    options = {
        "key": "test",
        "secret": "test",
        "client_kwargs": {
            "endpoint_url": request.getfixturevalue("object_store"),
            "region_name": "us-east-1",
        },
        "skip_instance_cache": True,
    }
    return BlobStore(f"s3://files/{uuid.uuid4()}", options)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "upload"
    path.write_bytes(CONTENT)
    return path


def test_what_is_put_comes_back(store: BlobStore, file: Path, tmp_path: Path) -> None:
    uri = store.put(file, tenant="acme")
    assert uri == f"blob:acme/sha256/{DIGEST[:2]}/{DIGEST}"
    with store.open(uri) as content:
        assert content.read() == CONTENT
    store.fetch_to(uri, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT
    store.check()


def test_the_same_content_twice_is_one_blob_of_each_tenant(store: BlobStore, file: Path) -> None:
    assert store.put(file, tenant="acme") == store.put(file, tenant="acme")
    assert not store.exists(blob_uri("other", DIGEST))
    other = store.put(file, tenant="other")
    store.delete(other)
    assert store.exists(blob_uri("acme", DIGEST))
    assert not store.exists(other)


def test_a_missing_blob_is_told_and_deleting_it_is_no_error(store: BlobStore, tmp_path: Path) -> None:
    uri = blob_uri("acme", DIGEST)
    with pytest.raises(BlobMissing):
        store.fetch_to(uri, tmp_path / "copy")
    store.delete(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        f"blob:../sha256/{DIGEST[:2]}/{DIGEST}",
        f"blob:a/b/sha256/{DIGEST[:2]}/{DIGEST}",
        f"blob:acme/sha256/00/{DIGEST}",
        f"blob:acme/sha256/{DIGEST[:2]}/{DIGEST}/../x",
        "",
    ],
)
def test_a_foreign_name_opens_nothing(store: BlobStore, uri: str) -> None:
    with pytest.raises(BlobMissing):
        store.open(uri)


def test_a_tenant_with_strange_characters_stays_within_its_folder(file: Path, tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "blobs"))
    uri = store.put(file, tenant="a/../../b c")
    assert store.exists(uri)
    assert {path.name for path in (tmp_path / "blobs").iterdir()} == {"a%2F..%2F..%2Fb%20c", ".parts"}
    with pytest.raises(ValueError, match="no tenant"):
        store.put(file, tenant="..")


def test_stored_bytes_that_changed_are_not_handed_out(file: Path, tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "blobs"))
    uri = store.put(file, tenant="acme")
    (tmp_path / "blobs" / uri.removeprefix("blob:")).write_bytes(CONTENT[:-1] + b"X")
    with pytest.raises(BlobMissing, match="not those that were put"):
        store.fetch_to(uri, tmp_path / "copy")


def test_a_store_that_fails_leaves_nothing_half_written(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BlobStore(str(tmp_path / "blobs"))

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(BlobUnavailable, match="No space left"):
            store.put(file, tenant="acme")
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []
    store.put(file, tenant="acme")


def test_many_at_once_make_one_blob(file: Path, tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "blobs"))
    with ThreadPoolExecutor(8) as pool:
        uris = set(pool.map(lambda _: store.put(file, tenant="acme"), range(50)))
    assert len(uris) == 1
    (only,) = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert only.read_bytes() == CONTENT


_COPIES_AND_DIES = """
import os, shutil, sys
from pathlib import Path
from runtime.blobs import BlobStore

def die(source, target, length):
    target.write(source.read(1000))
    target.flush()
    os.kill(os.getpid(), 9)

shutil.copyfileobj = die
BlobStore(sys.argv[1]).put(Path(sys.argv[2]), tenant="acme")
"""


def test_what_a_killed_process_left_goes_a_day_later_and_nothing_else(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    died = subprocess.run([sys.executable, "-c", _COPIES_AND_DIES, str(folder), str(file)], check=False)
    assert died.returncode == -9
    store = BlobStore(str(folder))
    uri = store.put(file, tenant="acme")  # the same content: the leftover is in nobody's way
    (left,) = folder.rglob("*.part")
    assert left.stat().st_size == 1000

    assert store.clear_leftovers() == 0
    assert left.exists(), "another process may still be writing it"

    long_ago = time.time() - UNTOUCHED_S - 60
    for path in (left, folder / uri.removeprefix("blob:")):
        os.utime(path, (long_ago, long_ago))
    assert store.clear_leftovers() == 1
    assert not left.exists()
    assert store.exists(uri)


def test_a_store_that_keeps_no_leftovers_or_is_not_there_yet_clears_none(store: BlobStore) -> None:
    assert store.clear_leftovers() == 0
