"""The topic `access` in memory, and replicas that read it: what both APIs and the access commands see of Kafka."""

from __future__ import annotations

from collections.abc import Callable

from runtime.access import ApiKey, KnowledgeBase
from runtime.access_state import AccessState
from schemas.records import AccessEntry


class AccessTopic:
    """Its entries, in order."""

    def __init__(self, *entries: AccessEntry) -> None:
        self.entries = list(entries)

    def compacted(self) -> AccessTopic:
        """As a process finds it that comes when the broker has compacted all of it."""
        last = {entry.key: place for place, entry in enumerate(self.entries)}
        return AccessTopic(*(entry for place, entry in enumerate(self.entries) if last[entry.key] == place))


class AccessReplica:
    """One process. It has read up to where it last looked: at its start, at each put, and when told to."""

    ready = True
    connected = True

    def __init__(self, topic: AccessTopic) -> None:
        self.topic = topic
        self.state = AccessState()
        self.meanwhile: Callable[[], None] = lambda: None
        self._read = 0
        self.read()

    def read(self) -> None:
        """Catch up."""
        for entry in self.topic.entries[self._read :]:
            self.state.take(entry)
        self._read = len(self.topic.entries)

    def put(self, *entries: AccessEntry) -> None:
        """What happens meanwhile happens after they are written and before they are read back."""
        self.topic.entries += entries
        self.meanwhile()
        self.read()

    async def put_async(self, *entries: AccessEntry) -> None:
        self.put(*entries)

    def find_key(self, key_digest: str, now_ms: int) -> ApiKey | None:
        found = self.state.key_by_digest(key_digest)
        return found if found is not None and found.alive(now_ms) else None

    def base(self, tenant: str, name: str) -> KnowledgeBase | None:
        return self.state.base(tenant, name)

    def bases(self, tenant: str) -> list[KnowledgeBase]:
        return self.state.bases(tenant)
