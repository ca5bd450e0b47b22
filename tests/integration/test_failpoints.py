"""Death between any two steps of the commit, on a real Weaviate: readers see the old version or the new one, whole;
and the batch, handed in again, leaves the index exactly as if nothing had happened.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.apps import code_root
from schemas.records import document_key
from streams import generations
from streams.failpoints import failpoint
from tests.integration.one_commit import BASE, TENANT, commit, generation
from tests.support.oracle import Scan, differences, scan_weaviate
from tests.support.product import Product

pytestmark = [pytest.mark.real, pytest.mark.timeout(120, func_only=True)]

DIED = 137
POINTS = (
    "before_chunks",
    "after_vectors",
    "between_slices",
    "after_chunks",
    "after_manifests",
    "after_retire",
    "after_receipts",
)
OLD = {
    "edited": "The first sentence of it stays. The second sentence is dropped.\n\nA third one stands alone here.",
    "deleted": "This one is deleted in the second batch, with all it says.",
    "untouched": "Nobody ever changes what is written here.",
}
NEW = {
    "edited": "The first sentence of it stays. A new sentence came instead.\n\nA third one stands alone here.",
    "untouched": OLD["untouched"],
    "added": "This one comes with the second batch and was never there.",
}
Batch = list[tuple[str, int, str | None]]
FIRST: Batch = [(document, number, text) for number, (document, text) in enumerate(OLD.items(), start=1)]
SECOND: Batch = [("edited", 10, NEW["edited"]), ("deleted", 11, None), ("added", 12, NEW["added"])]


class Commits:
    """Commits batches to a generation of the test's own."""

    def __init__(self, product: Product, salt: str) -> None:
        self._product = product
        self._salt = salt

    def commit(self, batch: Batch) -> None:
        """Commit it, whole."""
        commit(self._product.weaviate, self._salt, batch)

    def die(self, batch: Batch, point: str) -> None:
        """Let a process of its own commit the batch and die at this failpoint."""
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(code_root()),
            "THALWEG_TEST_FAILPOINT": point,
            **self._product.stack.environment(),
        }
        command = [sys.executable, "-m", "tests.integration.one_commit", self._salt, json.dumps(batch)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
        assert ended.returncode == DIED, f"it did not die at {point}: {ended.returncode}\n{ended.stderr}"

    def scan(self) -> Scan:
        """All that the generation holds."""
        made = generation(self._salt)
        return scan_weaviate(self._product.weaviate, made.chunks, made.manifests, TENANT)


@pytest.fixture
def commits(product: Product) -> Iterator[Commits]:
    salt = uuid.uuid4().hex
    made = generation(salt)
    generations.create(product.weaviate, made)
    yield Commits(product, salt)
    product.weaviate.collections.delete([made.chunks, made.manifests])


def keys(texts: dict[str, str]) -> dict[str, str]:
    return {document_key(TENANT, BASE, document): text for document, text in texts.items()}


def read(scan: Scan) -> dict[str, str]:
    """What a reader gets: of each live document the chunks that its newest manifest lists, in order."""
    texts = {chunk.id: chunk.text for chunk in scan.chunks}
    return {
        document: " ".join(" ".join(texts[span.chunk_id] for span in manifest.spans).split())
        for document, manifest in scan.live_documents().items()
    }


def words(texts: dict[str, str]) -> dict[str, str]:
    return {document: " ".join(text.split()) for document, text in keys(texts).items()}


@pytest.mark.parametrize("point", POINTS)
def test_a_death_at_any_step_shows_one_whole_version_and_is_healed_by_the_retry(commits: Commits, point: str) -> None:
    commits.commit(FIRST)
    assert differences(commits.scan(), keys(OLD)) == []

    commits.die(SECOND, point)

    assert read(commits.scan()) == words(OLD if POINTS.index(point) <= POINTS.index("after_chunks") else NEW)
    for _ in range(2):
        commits.commit(SECOND)
        assert differences(commits.scan(), keys(NEW)) == []


def test_every_failpoint_of_the_commit_is_tried() -> None:
    source = (Path(str(failpoint.__code__.co_filename)).parent / "steps" / "commit.py").read_text()

    assert tuple(re.findall(r'failpoint\("(\w+)"\)', source)) == POINTS
