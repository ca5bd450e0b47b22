"""Every topic has examples, every example is a record of its topic, and earlier schemas stay readable."""

from __future__ import annotations

import copy
import io
import json
import struct
import subprocess
from pathlib import Path
from typing import Any

import fastavro
import pytest
from fastavro.validation import validate

from schemas.catalog import RECORD_TYPES, avro_schema, topics
from schemas.codec import Codec
from schemas.compatibility import NothingCompared, against_ref, incompatibility
from tests.support.lookup import LocalLookup

FOLDER = Path("schemas/examples")
EXAMPLES = sorted(FOLDER.glob("*/*.json"))


def test_every_topic_has_examples_and_no_example_is_an_orphan() -> None:
    """A folder for each topic that carries a record, none besides."""
    assert {path.parent.name for path in EXAMPLES} == {t.name for t in topics().values() if t.record}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_an_example_is_a_record_of_its_topic(path: Path) -> None:
    """It validates, becomes the dataclass, and comes back from bytes as that."""
    topic = topics()[path.parent.name]
    assert topic.record is not None
    body = json.loads(path.read_text(encoding="utf-8"))
    if "vector" in body:
        body["vector"] = body["vector"].encode("latin-1")
    schema = fastavro.parse_schema(avro_schema(topic.record))
    defaults = {f["name"]: f["default"] for f in avro_schema(topic.record)["fields"] if "default" in f}
    assert validate({**defaults, **body}, schema, strict=True)
    lookup = LocalLookup()
    framed = io.BytesIO(struct.pack(">bI", 0, lookup.id_of(topic.subject)))
    framed.seek(5)
    fastavro.schemaless_writer(framed, schema, {**defaults, **body})
    codec = Codec(lookup)
    record = codec.decode(framed.getvalue(), RECORD_TYPES[topic.record])
    assert codec.encode(topic.name, record) == framed.getvalue()


def _changed(change: str) -> dict[str, Any]:
    schema = copy.deepcopy(avro_schema("Event"))
    match change:
        case "same":
            pass
        case "new field with a default":
            schema["fields"].append({"name": "extra", "type": "string", "default": ""})
        case "new field without a default":
            schema["fields"].append({"name": "extra", "type": "string"})
        case "renamed":
            schema["fields"][0]["name"] = "customer"
        case "retyped":
            schema["fields"][3]["type"] = "string"
    return schema


@pytest.mark.parametrize(
    ("change", "readable"),
    [
        ("same", True),
        ("new field with a default", True),
        ("new field without a default", False),
        ("renamed", False),
        ("retyped", False),
    ],
)
def test_only_changes_that_can_read_older_records_are_compatible(change: str, *, readable: bool) -> None:
    """By Avro's own rules."""
    why = incompatibility(_changed(change), avro_schema("Event"))

    assert (why is None) == readable


def test_a_git_ref_is_compared_and_nothing_compared_is_an_error(tmp_path: Path) -> None:
    """In a repository of the test's own: a breaking change is named, an unknown ref refused."""

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    folder = tmp_path / "schemas/avro"
    folder.mkdir(parents=True)
    (folder / "event.avsc").write_text(json.dumps(avro_schema("Event")))
    git("init")
    git("add", ".")
    git("commit", "-m", "first")

    assert against_ref("HEAD", tmp_path) == {"schemas/avro/event.avsc": None}
    (folder / "event.avsc").write_text(json.dumps(_changed("renamed")))
    assert against_ref("HEAD", tmp_path)["schemas/avro/event.avsc"] is not None
    with pytest.raises(NothingCompared):
        against_ref("no-such-ref", tmp_path)
