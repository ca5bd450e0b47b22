"""LlamaIndex's IngestionPipeline with a docstore (UPSERTS), its cache and a vector store.

Settings: a run for each changed document, so that the cache (keyed by the whole list of nodes) can hit; metadata is
kept out of the embedded text; SentenceSplitter without overlap.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.node_parser.text.utils import split_by_sentence_tokenizer
from llama_index.core.schema import Document
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.utils import get_tokenizer
from llama_index.core.vector_stores import SimpleVectorStore
from pydantic import PrivateAttr
from rules import follow, whole_unless_the_same_list
from wire import Meter, Operation, Record, Way, answer, steps, tuned

NAME = "LlamaIndex"
SETTING = "SentenceSplitter, {size} tokens"


class Counting(BaseEmbedding):
    """The model."""

    _meter: Meter = PrivateAttr()

    def __init__(self, meter: Meter) -> None:
        super().__init__(model_name="bench", embed_batch_size=2048)
        self._meter = meter

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._meter.embed([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._meter.embed(texts)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


class CountingStore(SimpleVectorStore):
    """The sink."""

    _meter: Meter = PrivateAttr()

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._meter = meter

    def add(self, nodes, **kwargs):
        self._meter.writes += len(nodes)
        return super().add(nodes, **kwargs)

    def delete(self, ref_doc_id, **kwargs):
        owned = [name for name, owner in self.data.text_id_to_ref_doc_id.items() if owner == ref_doc_id]
        self._meter.deletes += len(owned)
        super().delete(ref_doc_id, **kwargs)


class Pipeline:
    """One pipeline and what it writes to."""

    def __init__(self, splitter: SentenceSplitter) -> None:
        self.meter = Meter()
        self._splitter = splitter
        self._cache = None
        self.rebuild()

    def rebuild(self) -> None:
        """An empty index and docstore; the cache stays."""
        parts = [self._splitter, Counting(self.meter)]
        kept = {} if self._cache is None else {"cache": self._cache}
        self._pipeline = IngestionPipeline(
            transformations=parts, docstore=SimpleDocumentStore(), vector_store=CountingStore(self.meter),
            docstore_strategy=DocstoreStrategy.UPSERTS, **kept,
        )  # fmt: skip
        self._cache = self._pipeline.cache

    def put(self, identity: str, text: str, about: dict[str, str] | None = None) -> None:
        names = list(about or {})
        self._pipeline.run(
            documents=[
                Document(
                    text=text, id_=identity, metadata=about or {}, excluded_embed_metadata_keys=names,
                    excluded_llm_metadata_keys=names,
                )
            ]
        )  # fmt: skip

    def remove(self, identity: str) -> None:
        self._pipeline.docstore.delete_document(identity, raise_error=False)
        self._pipeline.vector_store.delete(identity)


def table(operations: list[Operation]) -> dict[str, list[dict[str, int]]]:
    # So small that two paragraphs never share a chunk, and so large that each fits.
    pipeline, rows = Pipeline(SentenceSplitter(chunk_size=170, chunk_overlap=0, include_metadata=False)), []
    now: dict[str, tuple[str, dict[str, str]]] = {}
    for operation in operations:
        if operation.name == "rebuild":
            pipeline.rebuild()
            for identity, (text, about) in now.items():
                pipeline.put(identity, text, about)
        elif operation.paragraphs is None:
            pipeline.remove(operation.document)
            now.pop(operation.document)
        else:
            about = {"title": operation.title, "access": ",".join(operation.access)}
            now[operation.document] = (operation.text, about)
            pipeline.put(operation.document, operation.text, about)
        rows.append(pipeline.meter.taken())
    return {NAME: rows}


@lru_cache(maxsize=2)
def splitter(size: int) -> SentenceSplitter:
    # The same answers, sooner: most of a text was tokenized for the release before.
    return SentenceSplitter(
        chunk_size=size, chunk_overlap=0, tokenizer=remembered_tokens(), chunking_tokenizer_fn=remembered_sentences()
    )


@lru_cache(maxsize=1)
def remembered_tokens():
    return lru_cache(maxsize=2_000_000)(get_tokenizer())


@lru_cache(maxsize=1)
def remembered_sentences():
    return lru_cache(maxsize=500_000)(split_by_sentence_tokenizer())


def edits(history: Path, folder: Path, mean: float) -> list[Way]:
    size, found = tuned(history, mean, lambda _, text, at: splitter(at).split_text(text), 146)
    cut = splitter(size).split_text
    rules = {NAME: whole_unless_the_same_list()}
    return follow(history, folder, rules, lambda _, text: cut(text), (SETTING.format(size=size), found))


def engines(history: Path, folder: Path, mean: float) -> list[Way]:
    size, found = tuned(history, mean, lambda _, text, at: splitter(at).split_text(text), 146)
    pipeline, record = Pipeline(splitter(size)), Record(folder, "llamaindex")
    for step in steps(history):
        for path, text in step.documents.items():
            if text is None:
                pipeline.remove(path)
            else:
                pipeline.put(path, text)
        record.add(step, pipeline.meter.texts)
        pipeline.meter.taken()
    return [Way(NAME, record.close(), SETTING.format(size=size), found)]


if __name__ == "__main__":
    answer(table, edits, engines)
