"""Knowledge bases that a source or a published file names: made on first use, as the upload API does.

Before this: `apply.py` and `commands.py`. After this: both APIs know the base, and so a search reaches its documents.
"""

from __future__ import annotations

from collections.abc import Iterable

from runtime.access import KnowledgeBase
from runtime.directory import Directory
from runtime.producer import ConfirmedProducer
from runtime.topics import BrokerUnavailable
from schemas.codec import Codec


def make_bases(
    bootstrap: str, codec: Codec, producer: ConfirmedProducer, tenant: str, names: Iterable[str], *, timeout_s: float
) -> list[str]:
    """Make those of these knowledge bases that are not there; returns their names. One that is there stays as it is.

    Raises BrokerUnavailable, DeliveryFailed, NotReadBack.
    """
    directory = Directory(bootstrap, codec, producer=producer, timeout_s=timeout_s)
    directory.start()
    try:
        if not directory.wait_ready(timeout_s):
            raise BrokerUnavailable("the topic `access` could not be read: run `thalweg topics apply`")
        missing = [name for name in dict.fromkeys(names) if directory.base(tenant, name) is None]
        for name in missing:
            directory.put(KnowledgeBase(tenant, name).used_entry())
        return missing
    finally:
        directory.close()
