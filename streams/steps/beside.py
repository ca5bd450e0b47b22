"""While a generation is being promoted: each batch is written to it first, then to the live one, which tells.

Before this: `bootstrap.py` makes one IndexStep for each. After this: `rebuilding/rebuild.py` switches the alias once
every worker of the main group works like this: then no receipt was ever sent for what the new live generation does not
hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from streams.core.outcomes import Outcome, Rejected, Retry
from streams.ports import Inbound, Step

log = structlog.get_logger()


@dataclass(frozen=True)
class BesideStep:
    """Step over two: live decides and sends receipts; joining sends none, and only its wish to wait counts.

    What joining rejects is logged: if live takes it, the comparison before a promotion finds it.
    """

    live: Step
    joining: Step

    @property
    def name(self) -> str:
        """As Step.name."""
        return self.live.name

    async def handle(self, batch: Sequence[Inbound]) -> list[Outcome]:
        """As Step.handle. A record that joining cannot take yet is not shown to live: it is handed in again."""
        first = await self.joining.handle(batch)
        for record, outcome in zip(batch, first, strict=True):
            if isinstance(outcome, Rejected):
                log.warning("joining_rejected", offset=record.offset, partition=record.partition, reason=outcome.reason)
        taken = [at for at, outcome in enumerate(first) if not isinstance(outcome, Retry)]
        second = await self.live.handle([batch[at] for at in taken]) if taken else []
        outcomes = list(first)
        for at, outcome in zip(taken, second, strict=True):
            outcomes[at] = outcome
        return outcomes

    async def failed(self, record: Inbound, outcome: Rejected) -> None:
        """As Step.failed: only the live generation's step tells."""
        await self.live.failed(record, outcome)
