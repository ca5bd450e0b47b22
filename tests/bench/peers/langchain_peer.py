"""LangChain's `index()` with an in-memory record manager and vector store, without and with CacheBackedEmbeddings.

Settings: one call for all documents that changed, `cleanup="scoped_full"` and a batch larger than any call, as its
documentation advises against redundant work; chunks without overlap. Deletions by the record manager's keys.
"""

from __future__ import annotations

from pathlib import Path

from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.stores import InMemoryByteStore
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_text_splitters import MarkdownTextSplitter, RecursiveCharacterTextSplitter
from rules import follow, once, unless_in_the_version_before
from wire import Meter, Operation, Record, Way, answer, steps, tuned

LARGE = 1_000_000


class Counting(Embeddings):
    """The model."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self._meter.embed(texts)

    def embed_query(self, text: str) -> list[float]:
        return self._meter.embed([text])[0]


class CountingStore(InMemoryVectorStore):
    """The sink."""

    def __init__(self, embedding: Embeddings, meter: Meter) -> None:
        super().__init__(embedding)
        self._meter = meter

    def add_documents(self, documents, ids=None, **kwargs):
        self._meter.writes += len(documents)
        return super().add_documents(documents, ids=ids)

    def delete(self, ids=None, **kwargs):
        self._meter.deletes += len(ids or [])
        super().delete(ids)


class Indexed:
    """One index and its record manager."""

    def __init__(self, *, cached: bool) -> None:
        self.meter = Meter()
        model: Embeddings = Counting(self.meter)
        if cached:
            model = CacheBackedEmbeddings.from_bytes_store(
                model, InMemoryByteStore(), namespace="model", key_encoder="sha256"
            )
        self._model = model
        self._renew()

    def _renew(self) -> None:
        self._store = CountingStore(self._model, self.meter)
        self._records = InMemoryRecordManager(namespace="bench")
        self._records.create_schema()

    def rebuild(self) -> None:
        """An empty index; the model and its cache stay."""
        self._renew()

    def put(self, chunks: list[Document]) -> None:
        index(
            chunks, self._records, self._store, cleanup="scoped_full", source_id_key="source",
            batch_size=LARGE, cleanup_batch_size=LARGE, key_encoder="sha256",
        )  # fmt: skip

    def remove(self, sources: list[str]) -> None:
        keys = self._records.list_keys(group_ids=sources) if sources else []
        if keys:
            self._store.delete(keys)
            self._records.delete_keys(keys)


SETTING = "RecursiveCharacterTextSplitter, {size} characters"
WAYS = {"LangChain": False, "LangChain + cache": True}


def table(operations: list[Operation]) -> dict[str, list[dict[str, int]]]:
    found = {}
    for name, cached in WAYS.items():
        indexed, rows, now = Indexed(cached=cached), [], dict[str, list[Document]]()
        for operation in operations:
            if operation.name == "rebuild":
                indexed.rebuild()
                indexed.put([chunk for chunks in now.values() for chunk in chunks])
            elif operation.paragraphs is None:
                indexed.remove([operation.document])
                now.pop(operation.document)
            else:
                about = {"source": operation.document, "title": operation.title, "access": operation.access}
                now[operation.document] = [Document(text, metadata=about) for text in operation.paragraphs]
                indexed.put(now[operation.document])
            rows.append(indexed.meter.taken())
        found[name] = rows
    return found


def split(path: str, text: str, size: int) -> list[str]:
    kind = MarkdownTextSplitter if path.endswith(".md") else RecursiveCharacterTextSplitter
    return kind(chunk_size=size, chunk_overlap=0).split_text(text)


def edits(history: Path, folder: Path, mean: float) -> list[Way]:
    size, found = tuned(history, mean, split, 660)
    rules = dict(zip(WAYS, (unless_in_the_version_before(), once()), strict=True))
    return follow(
        history, folder, rules, lambda path, text: split(path, text, size), (SETTING.format(size=size), found)
    )


def engines(history: Path, folder: Path, mean: float) -> list[Way]:
    size, found = tuned(history, mean, split, 660)
    indexes = {name: Indexed(cached=cached) for name, cached in WAYS.items()}
    records = {name: Record(folder, f"langchain-{at}") for at, name in enumerate(WAYS)}
    for step in steps(history):
        chunks = [
            Document(piece, metadata={"source": path})
            for path, text in step.documents.items()
            if text is not None
            for piece in split(path, text, size)
        ]
        gone = [path for path, text in step.documents.items() if text is None]
        for name, indexed in indexes.items():
            indexed.put(chunks)
            indexed.remove(gone)
            records[name].add(step, indexed.meter.texts)
            indexed.meter.taken()
    return [Way(name, records[name].close(), SETTING.format(size=size), found) for name in WAYS]


if __name__ == "__main__":
    answer(table, edits, engines)
