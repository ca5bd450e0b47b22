"""Idempotency-Key: the same request twice is one upload, whichever replica it reaches.

Before this: `uploads.py` has a header, then a received file. After this: it has an upload id that every replica derives
alike, and the word that it is this replica's turn, or what the first request was answered. Protocol:
draft-ietf-httpapi-idempotency-key-header-07; a key counts for a day (`upload_keys.EXPIRY_MS`).

What a request refused for its own sake (a wrong field, a type, a missing right) leaves is nothing: the key is free.
From the claim on the key belongs to that request, whatever becomes of it.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import structlog

from connectors.upload_api.outbox import publish
from connectors.upload_api.ports import Parts, StageSeen, UploadState
from connectors.upload_api.progress import fingerprint
from connectors.upload_api.upload_keys import LEASE_MS, NotReadBack, TooManyKeys, may_claim
from runtime.access import Principal
from runtime.web.problem_fields import FieldError
from runtime.web.problems import Problem
from schemas.records import Upload, UploadKey, UploadKeyStep

NAMESPACE = uuid.UUID("b1c1f2c4-6e0e-5d0a-9b0a-6f5d6f0c7a11")
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_HEADER = "Idempotency-Key"


def upload_id_for(caller: Principal, headers: list[str], *, required: bool) -> str:
    """The id of an upload: derived from tenant, caller and key, random without a key.

    Raises Problem 400 for a malformed key, two of them, or a missing one where it is required.
    """
    if not headers:
        if required:
            raise Problem("idempotency-key-missing", f"Send a fresh {_HEADER} with each new upload: a UUID, say.")
        return str(uuid.uuid4())
    key = headers[0].strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':  # the draft's form is a quoted string, people send the bare one
        key = key[1:-1]
    if len(headers) > 1 or not _KEY.fullmatch(key):
        message, fix = "is not one key of 1-255 visible ASCII characters", "send a UUID, say"
        wrong = FieldError(_HEADER, message, fix)
        raise Problem("malformed-request", f"{_HEADER} {message}: {fix}.", errors=[wrong])
    return str(uuid.uuid5(NAMESPACE, json.dumps([caller.tenant, caller.subject, key])))


class InFlight:
    """The uploads at work in this process. Of one event loop."""

    def __init__(self) -> None:
        self._ids: set[str] = set()

    @contextmanager
    def holding(self, upload_id: str) -> Iterator[None]:
        """Hold an id while its request is at work. Raises Problem 409 if another one does."""
        if upload_id in self._ids:
            raise _at_work(1)
        self._ids.add(upload_id)
        try:
            yield
        finally:
            self._ids.discard(upload_id)


class Turns:
    """Who of the replicas may publish an upload with a key. One for each process, which it names; of one event loop.

    1. take() before anything is stored: a claim is written and read back. A death after it leaves a claim that ends
       with its lease. 2. The caller stores and publishes, beginning within `in_time`. A death after it leaves an upload
       that every replica reads from `uploads`: the retry is answered from there. 3. settle() or release().
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._holder = uuid.uuid4().hex
        self._claimed_at: dict[str, float] = {}
        self._releasing: set[asyncio.Task[None]] = set()

    async def take(self, upload: Upload) -> UploadState | None:
        """None: it is this process's turn. Else how the first request was answered, now or within patience_s.

        Raises Problem: 422 if the key belongs to another request, 409 while the same one is at work elsewhere, 503
        while Kafka does not let anyone know.
        """
        parts, same = self._parts, fingerprint(upload)
        if not parts.keys_ready():
            raise _unavailable("The topic `upload-keys` is not read yet; `thalweg topics apply` makes it")
        known = parts.keys.find(upload.upload_id, parts.now_ms())
        if (answered := self._answered(upload, known, same)) is not None:
            return answered
        if known is None or may_claim(known, self._holder, parts.now_ms()):
            started = asyncio.get_running_loop().time()
            claim = self._step(upload, UploadKeyStep.CLAIMED)
            known = await self._written(claim)
            if known == claim:
                self._claimed_at[upload.upload_id] = started
                return None
        known = await parts.keys.until(
            upload.upload_id, parts.now_ms(), lambda now: self._open(now, same), parts.patience_s
        )
        if (answered := self._answered(upload, known, same)) is not None:
            return answered
        raise _at_work(1 if known is not None else LEASE_MS // 1000)

    def in_time(self, upload_id: str) -> None:
        """Return if a claim is young enough to publish under it. Raises Problem 503: another replica may be at work."""
        if asyncio.get_running_loop().time() - self._claimed_at[upload_id] > LEASE_MS / 3000:
            raise _unavailable("Storing the file took too long")

    async def settle(self, upload: Upload, position: str | None) -> None:
        """Tell all replicas what was answered. If that fails they still know the upload itself from its topic."""
        self._claimed_at.pop(upload.upload_id, None)
        await self._tell(self._step(upload, UploadKeyStep.ACCEPTED, position))

    def release(self, upload: Upload) -> None:
        """Give the turn back, beside what goes on: the same request may be repeated anywhere at once."""
        if self._claimed_at.pop(upload.upload_id, None) is None:
            return
        task = asyncio.get_running_loop().create_task(self._tell(self._step(upload, UploadKeyStep.RELEASED)))
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    async def _tell(self, step: UploadKey) -> None:
        try:
            await publish(self._parts, "upload-keys", [step])
        except Problem as problem:
            structlog.get_logger(__name__).warning("upload_key_not_told", step=step.step, reason=problem.detail)

    async def _written(self, claim: UploadKey) -> UploadKey:
        try:
            parts = self._parts
            return await parts.keys.claim(claim, lambda: publish(parts, "upload-keys", [claim]), parts.key_timeout_s)
        except NotReadBack as error:
            raise _unavailable("The claim of the key did not come back from Kafka in time") from error
        except TooManyKeys as error:
            raise _unavailable("More keys are in use than can be remembered for a day") from error

    def _open(self, known: UploadKey, same: str) -> bool:
        """False while another replica is at work on this very request."""
        ended = known.step is UploadKeyStep.ACCEPTED or known.fingerprint != same
        return ended or may_claim(known, self._holder, self._parts.now_ms())

    def _answered(self, upload: Upload, known: UploadKey | None, same: str) -> UploadState | None:
        """The first answer, None if there is none yet. Raises Problem 422."""
        found = self._parts.progress.find(upload.upload_id)
        theirs = known.fingerprint if known is not None else found.fingerprint if found is not None else None
        if theirs not in (None, same):
            raise Problem(
                "idempotency-key-reused",
                f"An earlier request with this {_HEADER} had another file or other fields: use a fresh key.",
            )
        if known is not None and known.step is UploadKeyStep.ACCEPTED:
            first = UploadState(
                upload.upload_id, upload.tenant, upload.knowledge_base, upload.document_id,
                (StageSeen("received", known.at_ms),),
            )  # fmt: skip
            return replace(found or first, position=known.position)
        return found if found is not None and found.fingerprint is not None else None

    def _step(self, upload: Upload, step: UploadKeyStep, position: str | None = None) -> UploadKey:
        now_ms = self._parts.now_ms()
        return UploadKey(upload.upload_id, fingerprint(upload), self._holder, step, now_ms, position)


def _at_work(again_s: int) -> Problem:
    return Problem(
        "idempotency-key-in-use",
        f"A request with this {_HEADER} is still at work: wait for it, then send the same again.",
        headers={"Retry-After": str(again_s)},
    )


def _unavailable(why: str) -> Problem:
    return Problem("unavailable", f"{why}: nothing was accepted; send it again.", headers={"Retry-After": "5"})
