"""What the vendors publish of their embedding models; read by `select`, so that settings can stay short.

A model that is not listed works, too: its dimension is then a setting.
"""

from dataclasses import dataclass

from runtime.embedding.local_files import MODEL


@dataclass(frozen=True)
class Prefixes:
    """Put before each text for models that tell questions from documents by a word in front."""

    document: str = ""
    query: str = ""


@dataclass(frozen=True)
class KnownModel:
    """What a vendor publishes of a model: `dimensions`, the default first; those that follow can be asked for."""

    dimensions: tuple[int, ...]
    max_tokens: int


COHERE_MODELS = {
    "embed-v4.0": KnownModel((1536, 1024, 512, 256), 128_000),
    "embed-english-v3.0": KnownModel((1024,), 512),
    "embed-multilingual-v3.0": KnownModel((1024,), 512),
    "embed-english-light-v3.0": KnownModel((384,), 512),
    "embed-multilingual-light-v3.0": KnownModel((384,), 512),
}
OPENAI_MODELS = {
    "text-embedding-3-small": KnownModel((1536, 1024, 768, 512, 256), 8191),
    "text-embedding-3-large": KnownModel((3072, 2048, 1536, 1024, 768, 512, 256), 8191),
    "text-embedding-ada-002": KnownModel((1536,), 8191),
}
DEFAULT_MODEL = {"local": MODEL, "cohere": "embed-v4.0", "openai": "text-embedding-3-small"}
# What the shortest-sighted of the usual open models read; only says where a text is surely cut.
UNKNOWN_MAX_TOKENS = 512

# By a part of the name, as the models' cards prescribe.
_PREFIXES = {
    "e5-": Prefixes(document="passage: ", query="query: "),
    "nomic-embed": Prefixes(document="search_document: ", query="search_query: "),
    "bge-small-en": Prefixes(query="Represent this sentence for searching relevant passages: "),
    "bge-base-en": Prefixes(query="Represent this sentence for searching relevant passages: "),
    "bge-large-en": Prefixes(query="Represent this sentence for searching relevant passages: "),
    "arctic-embed": Prefixes(query="Represent this sentence for searching relevant passages: "),
}


def prefixes_of(model: str) -> Prefixes:
    """What to put before the texts of an open model on a server of its own; nothing for most."""
    name = model.rsplit("/", 1)[-1].lower()
    return next((found for part, found in _PREFIXES.items() if part in name), Prefixes())
