"""`thalweg publish` and `thalweg upload` on the whole product: what they say, and what the index then holds."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from connectors import commands
from tests.fixtures.make_files import MAKERS, make_encrypted_pdf
from tests.support.product import Product

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

Run = Callable[..., Result]


@pytest.fixture
def base() -> str:
    return f"b{uuid.uuid4().hex[:8]}"


@pytest.fixture
def run(product: Product, base: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name, value in product.stack.environment().items():
        monkeypatch.setenv(name, value)

    def invoke(*arguments: str, lines: str | None = None) -> Result:
        return CliRunner().invoke(commands.app, [*arguments, "-k", base], input=lines)

    return invoke


def found(product: Product, base: str, query: str) -> list[str]:
    body = {"query": query, "knowledge_bases": [base], "limit": 10}
    answer = product.client.query.post("/v1/search", json=body)
    answer.raise_for_status()
    return [hit["document_id"] for hit in answer.json()["hits"]]


def test_a_published_file_is_searchable_when_the_command_returns(product: Product, base: str, run: Run) -> None:
    lines = [
        {"id": "otter", "text": "Otters hold hands while they sleep.", "metadata": {"year": 2026}},
        {"id": "heron", "text": "A heron waits in the reeds."},
    ]
    result = run("publish", "-", "--json", lines="\n".join(map(json.dumps, lines)))
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["published"], told["failed"], told["waiting"]) == (2, 0, 0)
    assert [item["document_id"] for item in told["documents"]] == ["otter", "heron"]
    assert found(product, base, "otters asleep")[0] == "otter"

    gone = run("publish", "-", lines='{"id": "otter", "delete": true}')
    assert gone.exit_code == 0, gone.output
    assert "1 published, 0 failed" in gone.stdout
    assert "otter" not in found(product, base, "otters asleep")


def test_a_file_with_a_wrong_line_publishes_nothing(product: Product, base: str, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text('{"id": "1", "text": "fine"}\n{"id": "2"}\n')
    result = run("publish", str(file))
    assert result.exit_code == 1
    assert "nothing was published" in result.output
    assert "line 2: document text is missing" in result.output


def test_a_folder_is_uploaded_and_what_failed_is_told_with_its_reason(
    product: Product, base: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "report.md").write_bytes(MAKERS["md"]())
    (tmp_path / "report.docx").write_bytes(MAKERS["docx"]())
    (tmp_path / ".hidden.txt").write_text("never sent")
    good = run("upload", str(tmp_path), "--json")
    assert good.exit_code == 0, good.output
    assert {item["state"] for item in json.loads(good.stdout)["uploads"]} == {"searchable"}
    assert set(found(product, base, "fine gravel toward the delta")) == {"report.md", "report.docx"}

    (tmp_path / "locked.pdf").write_bytes(make_encrypted_pdf())
    (tmp_path / "setup.exe").write_bytes(b"MZ\x90\x00" + bytes(range(256)) * 10)
    bad = run("upload", str(tmp_path / "locked.pdf"), str(tmp_path / "setup.exe"), "--json")
    assert bad.exit_code == 1
    told = {Path(item["path"]).name: item for item in json.loads(bad.stdout)["uploads"]}
    assert (told["locked.pdf"]["state"], told["setup.exe"]["state"]) == ("failed", "refused")
    assert "encrypted" in told["locked.pdf"]["reason"]
    assert "HTTP 415" in told["setup.exe"]["reason"]


def test_a_path_that_is_not_there_is_told(run: Run, tmp_path: Path) -> None:
    result = run("upload", str(tmp_path / "none.pdf"))
    assert result.exit_code == 1
    assert "there is no such file or folder" in result.output


def test_documents_that_were_waited_for_are_found_at_once(product: Product, base: str) -> None:
    """Neither a look again nor a position: what is told as searchable is."""
    texts = {f"bird-{at}": f"Bird number {at} nests in willow {at}." for at in range(150)}  # enough for the bulk lane
    documents = [{"id": name, "text": text, "knowledge_base": base} for name, text in texts.items()]

    answer = product.client.ingest.post("/v1/documents?wait=searchable&timeout=120", json={"documents": documents})

    assert answer.status_code == 202, answer.text
    assert {document["state"] for document in answer.json()["documents"]} == {"searchable"}
    assert found(product, base, texts["bird-17"])[0] == "bird-17"

    one = product.client.ingest.put(
        "/v1/documents/bird-17?wait=searchable", json={"text": "A shrike impales its prey.", "knowledge_base": base}
    )
    assert one.json()["state"] == "searchable", one.text
    assert found(product, base, "shrike prey")[0] == "bird-17"
