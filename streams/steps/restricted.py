"""Restricted documents and a model that is not ours: such a version is kept out of the generation, and parked.

Its text is not given to the model. What the generation had of the document before goes, too: a version that came when
the label was another one must not be found in its place. The log keeps the text: a generation with a local model has
it. Before this: `protection.py` has put the label on. After this: `index.py` plans such a version without its text.
"""

from __future__ import annotations

from dataclasses import replace

from runtime.privacy.policy import LABEL, RESTRICTED
from schemas.records import DocumentChange, Operation
from streams.core.outcomes import Rejected

REFUSED = Rejected(
    "restricted",
    "the document is restricted, and this generation's embedding model is not ours: make one with a local model "
    "(`thalweg rebuild start`); or set embedding.trusted, if it runs on machines of yours, and send the document again",
)


def restricted(change: DocumentChange) -> bool:
    """True if the document's text must not be sent out."""
    return change.operation is Operation.UPSERT and change.metadata.get(LABEL) == RESTRICTED


def without_text(change: DocumentChange) -> DocumentChange:
    """The version as it may be planned: it is the document's newest, and there is nothing to be found of it."""
    return replace(change, text=None, blocks=None)
