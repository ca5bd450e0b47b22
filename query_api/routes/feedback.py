"""What people think of an answer: a rating by the answer's id, into the topic `feedback`. After it: whoever evaluates.

Before it: `queries.py`. The audit says which question (its hash) and which documents an answer id belongs to.
"""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from runtime.access import Principal
from runtime.metrics import Metrics
from runtime.producer import DeliveryFailed, Encoder, Outgoing, Sender
from runtime.web.problems import Problem
from schemas.records import Feedback
from schemas.registry import NotRegistered, RegistryUnavailable

TOPIC = "feedback"
BEST = 5
LONGEST_COMMENT = 2000
_AGAIN = {"Retry-After": "5"}


class FeedbackRequest(BaseModel):
    """A rating; the same answer rated again by the same caller replaces the earlier one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    answer_id: UUID = Field(description="`answer_id` of a `POST /v1/query`.", strict=False)
    rating: int = Field(ge=1, le=BEST, description="1: useless, 5: just right.")
    comment: Annotated[str, StringConstraints(max_length=LONGEST_COMMENT)] | None = None


class FeedbackResponse(BaseModel):
    """It is durable; position: where it lies."""

    answer_id: UUID
    position: str


class Ratings:
    """Takes ratings, and shows their mean since the process started."""

    def __init__(self, sender: Sender, encoder: Encoder, metrics: Metrics) -> None:
        self._sender = sender
        self._encoder = encoder
        self._metrics = metrics
        self._sum = self._count = 0

    async def take(self, caller: Principal, given: FeedbackRequest, now_ms: int) -> FeedbackResponse:
        """Returns once it is durable. Raises Problem 503. The tenant is the caller's."""
        record = Feedback(
            answer_id=str(given.answer_id),
            tenant=caller.tenant,
            subject=caller.subject,
            rating=given.rating,
            comment=given.comment,
            at_ms=now_ms,
        )
        try:
            # In a thread: the registry may have to be asked first.
            value = await asyncio.to_thread(self._encoder.encode, TOPIC, record)
            (delivery,) = await self._sender.send_async([Outgoing(TOPIC, record.key.encode(), value)])
        except (RegistryUnavailable, NotRegistered, DeliveryFailed) as error:
            raise Problem(
                "unavailable", "Kafka did not confirm the rating in time: send it again.", headers=_AGAIN
            ) from error
        self._sum += given.rating
        self._count += 1
        self._metrics.feedback_rating.observe(given.rating)
        self._metrics.user_satisfaction_score.set(self._sum / self._count)
        return FeedbackResponse(answer_id=given.answer_id, position=delivery.position)
