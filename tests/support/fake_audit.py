"""runtime.web.audit.Log in memory: what was said, and whether it can be said."""

from __future__ import annotations

from runtime.audit import AuditUnavailable
from schemas.records import AuditEntry


class FakeAudit:
    """entries in the order in which they were said; away: nothing can be confirmed."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.away = False

    def tell(self, entry: AuditEntry) -> None:
        self.entries.append(entry)

    async def confirm_async(self, entry: AuditEntry) -> None:
        if self.away:
            raise AuditUnavailable("Kafka is away")
        self.entries.append(entry)
