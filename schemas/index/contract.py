"""A generation: one pair of Weaviate collections, Chunks and Manifests, and the alias that names the live one.

Chunk objects are immutable texts with their vector; a manifest lists the chunks of one version of one document, and
the newest manifest wins. Before this: `../records.py`. After this: `manifest.py`, the manifest's contents.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ALIAS = "ThalwegLive"
"""The alias of the live generation's Chunks collection: the one switch of a promotion."""

SCHEMA_VERSION = 2
"""Raise it when a property below changes its meaning: then a new generation is due."""


VECTOR = "default"
"""The name of a chunk's vector."""

FLAT_UP_TO = 5_000
"""So many objects that pass a filter are compared one by one; of more, the graph is searched. Every search of ours has
a filter. At Weaviate's own bound of 40,000 a search over 20,000 chunks took 10 ms instead of 4."""

STAMP = "written"
"""The name of a vector of one number, another one with each write of a whole object, in no index.

Weaviate updates an object's indexes by what differs from the object that it holds. If it is killed in a write, the
object may be held and its index entries not; written again the same, nothing differs, and no filter and no search ever
finds it. With another vector all its entries are made anew.
"""


@dataclass(frozen=True)
class Generation:
    """What a pair of collections was made with; stored in the Chunks collection's description, as JSON.

    model is ModelFingerprint.key(); chunker the chunker's fingerprint; dimension the vectors' length. salt tells two
    generations of the same model and chunker apart. embedding (ModelFingerprint.record()) and chunking (the chunker's
    parameters) say what model and chunker name, so that whoever writes or asks can build the same; empty where a
    generation does not say: then it is what is configured.
    """

    model: str
    dimension: int
    chunker: str
    salt: str = ""
    embedding: Mapping[str, str | int | bool] = field(default_factory=dict, compare=False)
    chunking: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def name(self) -> str:
        """12 hexadecimal characters, a pure function of the fields and SCHEMA_VERSION."""
        text = json.dumps([SCHEMA_VERSION, self.model, self.dimension, self.chunker, self.salt])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def chunks(self) -> str:
        """The name of the collection of chunks."""
        return f"Chunks_{self.name}"

    @property
    def manifests(self) -> str:
        """The name of the collection of manifests."""
        return f"Manifests_{self.name}"

    def describe(self) -> str:
        """The description that the Chunks collection carries."""
        return json.dumps(
            {
                "model": self.model,
                "dimension": self.dimension,
                "chunker": self.chunker,
                "salt": self.salt,
                "embedding": dict(self.embedding),
                "chunking": dict(self.chunking),
            },
            sort_keys=True,
        )

    @staticmethod
    def from_description(text: str) -> Generation:
        """The generation a collection's description names. Raises ValueError if it names none."""
        try:
            raw = json.loads(text)
            return Generation(
                raw["model"],
                int(raw["dimension"]),
                raw["chunker"],
                raw.get("salt", ""),
                raw.get("embedding", {}),
                raw.get("chunking", {}),
            )
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"not the description of a generation: {text[:80]!r}") from error


def _text(name: str, *, filterable: bool = True, searchable: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "dataType": ["text"],
        "tokenization": "word" if searchable else "field",
        "indexFilterable": filterable,
        "indexSearchable": searchable,
    }


CHUNK_PROPERTIES: tuple[dict[str, Any], ...] = (
    _text("text", filterable=False, searchable=True),
    _text("document"),  # the document's key
    _text("knowledge_base"),
    _text("source"),
    _text("text_hash"),  # decides, with the model, whether a vector is reused
    _text("introduced", filterable=False),  # the version that introduced the chunk
    {
        "name": "access",
        "dataType": ["text[]"],
        "tokenization": "field",
        "indexFilterable": True,
        "indexSearchable": False,
    },
    {"name": "public", "dataType": ["boolean"], "indexFilterable": True},  # no access list: the knowledge base decides
    {"name": "retired", "dataType": ["boolean"], "indexFilterable": True},
    {"name": "retired_ms", "dataType": ["number"], "indexFilterable": True, "indexRangeFilters": True},
)
"""Beside these, one typed property for each filterable metadata key: see `metadata_property`."""

MANIFEST_PROPERTIES: tuple[dict[str, Any], ...] = (
    _text("document"),
    _text("knowledge_base"),
    _text("source"),
    _text("upload_id"),
    {"name": "superseded", "dataType": ["boolean"], "indexFilterable": True},
    {"name": "grave", "dataType": ["boolean"], "indexFilterable": True},
    {"name": "retired_ms", "dataType": ["number"], "indexFilterable": True, "indexRangeFilters": True},
    _text("body", filterable=False),  # the manifest itself, as JSON: see manifest.py
)


def collection_definition(
    name: str, properties: tuple[dict[str, Any], ...], description: str, *, vectors: bool
) -> dict[str, Any]:
    """The JSON with which Weaviate makes a collection: multi-tenant, our own vectors, no invented properties."""
    definition: dict[str, Any] = {
        "class": name,
        "description": description,
        "multiTenancyConfig": {"enabled": True, "autoTenantCreation": False, "autoTenantActivation": True},
        "properties": list(properties),
        "invertedIndexConfig": {"indexNullState": False, "bm25": {"b": 0.75, "k1": 1.2}},
    }
    named = {STAMP: {"distance": "l2-squared", "skip": True}}
    if vectors:
        named[VECTOR] = {
            "distance": "cosine",
            "efConstruction": 128,
            "maxConnections": 32,
            "ef": -1,
            "flatSearchCutoff": FLAT_UP_TO,
        }
    definition["vectorConfig"] = {
        name: {"vectorizer": {"none": {}}, "vectorIndexType": "hnsw", "vectorIndexConfig": config}
        for name, config in named.items()
    }
    return definition


METADATA_KEY = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,62}$")
"""A metadata key that can be filtered on."""

_SUFFIX: Mapping[str, str] = {"text": "s", "number": "n", "boolean": "b", "text[]": "l"}


def metadata_type(value: object) -> str | None:
    """The Weaviate data type under which a metadata value can be filtered on; None if it cannot."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "text[]"
    return None


def metadata_property(key: str, data_type: str) -> str:
    """The chunk property for a metadata key of this type (`year` as number is `f_n_year`).

    The type is part of the name, so that one document's `"2024"` and another's `2024` do not clash.
    """
    return f"f_{_SUFFIX[data_type]}_{key}"


def metadata_definition(key: str, data_type: str) -> dict[str, Any]:
    """The property's JSON for Weaviate."""
    definition: dict[str, Any] = {
        "name": metadata_property(key, data_type),
        "dataType": [data_type],
        "indexFilterable": True,
    }
    if data_type.startswith("text"):
        definition["tokenization"] = "field"
        definition["indexSearchable"] = False
    if data_type == "number":
        definition["indexRangeFilters"] = True
    return definition


def metadata_key(property_name: str) -> tuple[str, str] | None:
    """(key, data type) of a metadata property's name, or None for another property."""
    if len(property_name) < 5 or not property_name.startswith("f_") or property_name[3] != "_":
        return None
    for data_type, suffix in _SUFFIX.items():
        if property_name[2] == suffix:
            return property_name[4:], data_type
    return None
