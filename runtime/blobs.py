"""Where uploaded files lie: named by their content, within a tenant, on a local folder or an object store.

Before this: the upload API puts. After this: the parse stage fetches, and erasing deletes. A name is
`blob:<tenant>/sha256/<first two digits>/<sha256>`: it says nothing of where the store is, so a store can be moved.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import quote

from runtime.leftovers import clear

_URI = re.compile(r"^blob:([A-Za-z0-9._~%-]+)/sha256/([0-9a-f]{2})/(\2[0-9a-f]{62})$")
_CHUNK_BYTES = 1_048_576
_PARTS = ".parts"
"""The folder of what is being written, beside the tenants'."""


class BlobMissing(Exception):
    """There is no such blob, or the name is none of ours."""


class BlobUnavailable(Exception):
    """The store did not take or give it: full, read-only or away. The same call may succeed later."""


def blob_uri(tenant: str, sha256: str) -> str:
    """The name of a tenant's content. Equal bytes of two tenants are two blobs: neither learns of the other's."""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ValueError("sha256 is 64 hexadecimal digits")
    if tenant in ("", ".", ".."):
        raise ValueError(f"no tenant: {tenant!r}")
    return f"blob:{quote(tenant, safe='')}/sha256/{sha256[:2]}/{sha256}"


class BlobStore:
    """A store at a URL: a folder's path, `file://...`, or what fsspec knows (`s3://bucket/prefix`). Thread-safe.

    storage_options go to fsspec as they are (endpoint, credentials).
    """

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        scheme, mark, rest = url.partition("://")
        self._folder = Path(rest if mark else url) if not mark or scheme == "file" else None
        self._url = url.rstrip("/")
        self._options = dict(storage_options or {})
        self._remote: Any = None

    def put(self, path: Path, *, tenant: str) -> str:
        """Store the file's content; returns its name once the bytes are durable. The same content twice is one blob.

        Raises BlobUnavailable; then nothing half-written bears the name.
        """
        uri = blob_uri(tenant, _sha256(path))
        try:
            if self._folder is not None:
                _put_local(path, self._folder, _relative(uri))
            else:
                self._filesystem().put_file(str(path), self._remote_path(uri))
        except OSError as error:
            raise BlobUnavailable(
                f"the blob store did not take it: {error.strerror or type(error).__name__}"
            ) from error
        return uri

    def open(self, uri: str) -> IO[bytes]:
        """The content, for reading. Raises BlobMissing, BlobUnavailable."""
        try:
            if self._folder is not None:
                return (self._folder / _relative(uri)).open("rb")
            return cast(IO[bytes], self._filesystem().open(self._remote_path(uri), "rb"))
        except FileNotFoundError as error:
            raise BlobMissing(uri) from error
        except OSError as error:
            raise BlobUnavailable(f"{uri}: {error.strerror or type(error).__name__}") from error

    def fetch_to(self, uri: str, path: Path) -> None:
        """Copy the content to a file and check that it is what its name says.

        Raises BlobMissing, also for content that does not match its name; BlobUnavailable.
        """
        with self.open(uri) as source, path.open("wb") as target:
            try:
                shutil.copyfileobj(source, target, _CHUNK_BYTES)
            except OSError as error:
                raise BlobUnavailable(f"{uri}: {error.strerror or type(error).__name__}") from error
        if not uri.endswith(_sha256(path)):
            raise BlobMissing(f"{uri}: the stored bytes are not those that were put")

    def exists(self, uri: str) -> bool:
        """True if the blob is there. Raises BlobUnavailable."""
        try:
            if self._folder is not None:
                return (self._folder / _relative(uri)).exists()
            return bool(self._filesystem().exists(self._remote_path(uri)))
        except OSError as error:
            raise BlobUnavailable(f"{uri}: {error.strerror or type(error).__name__}") from error

    def delete(self, uri: str) -> None:
        """Remove the blob; one that is not there is no error. Other documents of the tenant may have the same content:
        who deletes must know that none has. Raises BlobUnavailable.
        """
        try:
            if self._folder is not None:
                (self._folder / _relative(uri)).unlink(missing_ok=True)
            elif self._filesystem().exists(self._remote_path(uri)):
                self._filesystem().rm_file(self._remote_path(uri))
        except OSError as error:
            raise BlobUnavailable(f"{uri}: {error.strerror or type(error).__name__}") from error

    def check(self) -> None:
        """Raise BlobUnavailable unless something can be written."""
        try:
            if self._folder is not None:
                probe = _part(self._folder)
                probe.write_bytes(b"x")
                probe.unlink()
            else:
                self._filesystem().ls(self._url, detail=False)
        except OSError as error:
            raise BlobUnavailable(f"{self._url}: {error.strerror or type(error).__name__}") from error

    def clear_leftovers(self) -> int:
        """Remove what killed processes left half-written, a day later; how many files. An object store shows none:
        unfinished uploads to one are for the bucket's lifecycle rule. Raises nothing.
        """
        return 0 if self._folder is None else clear(self._folder / _PARTS, "*.part")

    def _filesystem(self) -> Any:
        if self._remote is None:
            import fsspec

            self._remote, _ = fsspec.core.url_to_fs(self._url, **self._options)
        return self._remote

    def _remote_path(self, uri: str) -> str:
        return f"{self._url}/{_relative(uri)}"


def _relative(uri: str) -> str:
    match = _URI.match(uri)
    if match is None or match.group(1) in (".", ".."):
        raise BlobMissing(f"no name of a blob: {uri[:100]!r}")
    return uri.removeprefix("blob:")


def _put_local(source: Path, folder: Path, name: str) -> None:
    """Copy beside the store, fsync, rename, fsync the folders: after a power cut it is there whole or not at all."""
    target = folder / name
    if target.exists():
        return
    made = _make_folders(target.parent)
    part = _part(folder)
    try:
        with source.open("rb") as content, part.open("xb") as copy:
            shutil.copyfileobj(content, copy, _CHUNK_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    for changed in {target.parent, *(path.parent for path in made)}:
        _fsync_folder(changed)


def _part(folder: Path) -> Path:
    """A fresh name for what is being written: all of them in one folder, where leftovers are found without a search."""
    parts = folder / _PARTS
    parts.mkdir(parents=True, exist_ok=True)
    return parts / f"{secrets.token_hex(16)}.part"


def _make_folders(folder: Path) -> list[Path]:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _fsync_folder(folder: Path) -> None:
    with contextlib.ExitStack() as stack:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, handle)
        os.fsync(handle)


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
