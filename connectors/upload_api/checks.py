"""What `/health` and `/ready` of the upload API look at. Before this: `main.py`. After this: probes."""

from __future__ import annotations

import asyncio

from connectors.upload_api.progress import ProgressTail
from connectors.upload_api.upload_keys import UploadKeyTail
from runtime.blobs import BlobStore, BlobUnavailable
from runtime.directory import Directory
from runtime.web.health import Check, NotHealthy
from schemas.registry import NotRegistered, Registry, RegistryUnavailable


def checks(
    directory: Directory, tail: ProgressTail, keys: UploadKeyTail, blobs: BlobStore, schemas: Registry
) -> list[Check]:
    """Kafka, who may write, the keys, the registry and the blob store are required; progress only tells."""

    async def kafka() -> str:
        return _told(directory.connected, "connected", "Kafka does not answer: start it, or correct its address.")

    async def access() -> str:
        return _told(directory.ready, "read", "The topic `access` is not read yet: `thalweg topics apply` makes it.")

    async def progress() -> str:
        return _told(tail.caught_up, "read", "The topics `uploads` and `receipts` are not read yet.")

    async def upload_keys() -> str:
        return _told(
            keys.caught_up, "read", "The topic `upload-keys` is not read yet: `thalweg topics apply` makes it."
        )

    async def registry() -> str:
        try:
            await asyncio.to_thread(
                lambda: [schemas.id_of(f"{topic}-value") for topic in ("uploads", "upload-keys", "events")]
            )
        except (RegistryUnavailable, NotRegistered) as error:
            raise NotHealthy("The registry does not answer, or `thalweg schemas register` is due.") from error
        return "schemas are registered"

    async def store() -> str:
        try:
            await asyncio.to_thread(blobs.check)
        except BlobUnavailable as error:
            raise NotHealthy(str(error)) from error
        return "writable"

    return [
        Check("kafka", kafka),
        Check("access", access),
        Check("upload-keys", upload_keys),
        Check("registry", registry),
        Check("blobs", store),
        Check("progress", progress, required=False),
    ]


def _told(well: bool, good: str, bad: str) -> str:
    if not well:
        raise NotHealthy(bad)
    return good
