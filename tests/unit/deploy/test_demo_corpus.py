"""The demo's corpus: the same at each run, many kinds, nothing empty; and its small arithmetic."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.demo import corpus, files, table
from deploy.demo.client import percentile
from deploy.local.apps import code_root
from runtime.filetypes import HEAD_BYTES, detect
from schemas.source import parse_source
from streams.parsing.pdf import partition_pdf

_DIGESTS = """
import json
from deploy.demo import corpus
print(json.dumps({**{r.id: r.digest for r in corpus.rows()}, **{f.name: f.digest for f in corpus.file_documents()}}))
"""


@pytest.fixture(scope="module")
def rows() -> list[corpus.Row]:
    """All rows."""
    return corpus.rows()


@pytest.fixture(scope="module")
def uploads() -> list[corpus.File]:
    """All files."""
    return corpus.file_documents()


def test_there_are_a_hundred_documents_of_six_kinds_at_least_each_with_a_name_of_its_own(
    rows: list[corpus.Row], uploads: list[corpus.File]
) -> None:
    assert 80 <= len(rows) <= 110
    assert len(uploads) >= 25
    assert len({row.id for row in rows} | {upload.name for upload in uploads}) == len(rows) + len(uploads)
    assert {upload.kind for upload in uploads} == {"txt", "md", "html", "csv", "pdf", "docx", "eml", "xlsx", "pptx"}


def test_no_row_is_empty_or_too_long(rows: list[corpus.Row]) -> None:
    for row in rows:
        assert row.title.strip(), row.id
        assert 50 < len(row.body) <= corpus.LONGEST, row.id


def test_every_file_is_what_its_name_says_and_not_empty(uploads: list[corpus.File]) -> None:
    for upload in uploads:
        content = upload.make()
        assert len(content) > 300, upload.name
        assert detect(upload.name, content[:HEAD_BYTES]) == upload.kind, upload.name


def test_another_process_with_another_hash_seed_makes_the_same_corpus(
    rows: list[corpus.Row], uploads: list[corpus.File]
) -> None:
    own = {row.id: row.digest for row in rows} | {upload.name: upload.digest for upload in uploads}

    told = subprocess.run(
        [sys.executable, "-c", _DIGESTS],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(code_root())},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(told.stdout) == own


def test_the_whole_corpus_loads_in_about_a_minute(rows: list[corpus.Row], uploads: list[corpus.File]) -> None:
    """A chunk has 500 characters on average, and one thread embeds about 27 a second when they are full."""
    characters = sum(len(row.body) for row in rows)
    characters += sum(min(len(upload.make()), corpus.FILE_LONGEST) for upload in uploads)

    assert 150_000 < characters < 500_000


def test_the_rows_that_the_demo_changes_are_in_it_and_share_no_sentence(rows: list[corpus.Row]) -> None:
    assert corpus.GAUGE in rows
    assert corpus.BRIDGE in rows
    assert corpus.GAUGE_UPDATED not in rows
    assert corpus.GAUGE_UPDATED.id == corpus.GAUGE.id
    assert corpus.GAUGE.body not in corpus.GAUGE_UPDATED.body
    assert corpus.GAUGE.digest != corpus.GAUGE_UPDATED.digest


def test_the_source_file_is_one_that_sources_apply_takes() -> None:
    spec = parse_source(table.SOURCE_FILE)

    assert spec.table == "articles"
    assert spec.knowledge_base == table.BASE
    assert {"title", "body", "kind", "digest"} <= set(spec.columns)


@pytest.mark.parametrize("lines", [1, 60, 130])
def test_a_pdf_says_every_line_of_its_text(lines: int, tmp_path: Path) -> None:
    text = "\n".join(f"Line {number} of (many) words with a \\ in it" for number in range(lines))
    file = tmp_path / "lines.pdf"
    file.write_bytes(files.pdf(text))

    read = " ".join(str(element) for element in partition_pdf(file)[0])

    assert all(f"Line {number} of (many)" in read for number in range(lines))


def test_percentiles_are_values_that_were_seen() -> None:
    seconds = [float(number) for number in range(1, 201)]

    assert percentile(seconds, 0.5) == 100.0
    assert percentile(seconds, 0.95) == 190.0
    assert percentile(seconds, 1.0) == 200.0
    assert percentile([3.0], 0.95) == 3.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
