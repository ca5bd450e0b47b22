"""May this caller write into this knowledge base? An administrator's first write makes it.

Before this: `runtime/web/identity.py` (who is calling). After this: the routes produce.
"""

from __future__ import annotations

import re

from connectors.upload_api.ports import Bases
from connectors.upload_api.receive import invalid_field
from runtime.access import KnowledgeBase, Principal
from runtime.directory import NotReadBack
from runtime.producer import DeliveryFailed
from runtime.web.problems import Problem

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_AGAIN = {"Retry-After": "2"}


async def require_writer(caller: Principal, knowledge_base: str, bases: Bases) -> None:
    """Return if the caller is editor or admin of the knowledge base, which is made if an administrator names a new one.

    Raises Problem: 404 where the caller has no role (whether the base exists is not told), 403 for a viewer, 503
    while the knowledge bases are not known yet.
    """
    if not _NAME.fullmatch(knowledge_base):
        raise invalid_field("knowledge_base", "is not 1-100 letters, digits, _ . -", "correct the name")
    role = caller.role_in(knowledge_base)
    known = bases.base(caller.tenant, knowledge_base) is not None
    if role is None or (not known and not caller.admin and bases.ready):
        raise Problem(
            "knowledge-base-not-found",
            f"There is no knowledge base {knowledge_base!r} that this key may write to: make it with "
            "`thalweg access bases`, or use another.",
        )
    if role == "viewer":
        raise Problem("forbidden", f"The key only reads {knowledge_base!r}: it needs the role editor or admin there.")
    if known:
        return
    if not bases.ready:
        raise Problem("unavailable", "The knowledge bases have not been read from Kafka yet.", headers=_AGAIN)
    try:
        await bases.put_async(KnowledgeBase(caller.tenant, knowledge_base).used_entry())
    except NotReadBack:
        return  # written; that it is not read back yet harms nobody, for making it twice changes nothing
    except DeliveryFailed as error:
        raise Problem("unavailable", "Kafka did not take the new knowledge base.", headers=_AGAIN) from error
