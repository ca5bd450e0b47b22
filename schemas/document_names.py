"""What tenants, knowledge bases and documents may be called, so that a document's key names one document only.

A key is `tenant/knowledge base/document`, and whoever wrote a record chose all three: a slash in the first two would
make it another tenant's. After this: the capture and parse stages refuse what is no name; the APIs say why sooner.
"""

from __future__ import annotations

import re

RESERVED = "source:"
"""Ends of whole sources (barriers) lie under such ids in `documents`: a document there would replace one."""

LONGEST_ID = 2000
_TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KNOWLEDGE_BASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def wrong_name(tenant: str, knowledge_base: str, document_id: str) -> str | None:
    """Which of the three is no name and why, without quoting it; None if all are."""
    if not _TENANT.fullmatch(tenant):
        return "its tenant is not 1-64 letters, digits, _ -"
    if not _KNOWLEDGE_BASE.fullmatch(knowledge_base):
        return "its knowledge base is not 1-100 letters, digits, _ . -"
    if not 0 < len(document_id) <= LONGEST_ID or _CONTROL.search(document_id):
        return f"its id is not 1-{LONGEST_ID} characters without control characters"
    if document_id.startswith(RESERVED):
        return f"its id begins with {RESERVED!r}, under which ends of sources lie"
    return None
