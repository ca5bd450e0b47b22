"""The bench of retrieval: what counts as found, and that its searches score as the store's do."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from tests.bench.quality import Question, Text
from tests.bench.ranking import BUDGET, Chunks, best, fused, labelled, line, ndcg, spread

BODY = """Opening words that stand here for nobody to ask.

# Parental leave

Leave lasts forty weeks for everyone who asks in time.

# The canteen hours

The canteen opens at noon on every working day."""
TEXT = Text("handbook", BODY, "text/markdown", "")


def scores(*values: float) -> npt.NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


def test_what_is_asked_is_taken_out_of_the_text_and_the_answer_is_left() -> None:
    (text,), asked = labelled([TEXT])

    assert {one.words for one in asked} == {
        *("Parental leave", "The canteen hours", "Opening words that stand here for nobody to ask."),
    }
    for one in asked:
        assert one.words not in text.body
    gold = {one.words: text.body[slice(*one.gold)] for one in asked}
    assert gold["Parental leave"].startswith("Leave lasts forty weeks")
    assert "canteen" not in gold["Parental leave"]
    assert gold["The canteen hours"].startswith("The canteen opens")


def test_a_title_that_two_documents_have_asks_for_neither() -> None:
    _, asked = labelled([TEXT, Text("other", BODY.replace("Opening", "Other"), "text/markdown", "")])

    assert {one.kind for one in asked} == {"first sentence"}


@pytest.mark.parametrize(("rank", "gain"), [(0, 1.0), (1, 1 / math.log2(3)), (9, 1 / math.log2(11)), (10, 0.0)])
def test_ndcg_counts_the_first_right_chunk_of_ten(rank: int, gain: float) -> None:
    assert ndcg([*range(100, 100 + rank), 7, 8], frozenset({7, 8})) == pytest.approx(gain)


def test_fusion_weighs_the_legs_by_their_range() -> None:
    keyword, vector = scores(0, 8, 4, 0), scores(0.9, 0.1, 0.5, 0.3)

    assert fused(keyword, vector, 0.0)[0] == 1
    assert fused(keyword, vector, 1.0) == [0, 2, 3, 1]
    # 1: 0.5 * 1 + 0.5 * 0; 0: 0.5 * 1; 2: 0.5 * 0 + 0.5 * 0.5; 3: 0.5 * 0.25
    assert fused(keyword, vector, 0.5) == [0, 1, 2, 3]


def test_keywords_score_by_bm25_and_only_what_matches() -> None:
    texts = [Text("a", "apple apple pear", "text/plain", ""), Text("b", "apple", "text/plain", ""),
             Text("c", "plum and the plum", "text/plain", "")]  # fmt: skip

    def embed(given: list[str]) -> npt.NDArray[np.float32]:
        return np.ones((len(given), 1), dtype=np.float32)

    chunks = Chunks(texts, lambda text: [(0, len(text.body))], embed)
    found = chunks.keyword("the apple")

    # n = 2 of 3 documents; lengths 3, 1, 2 around a mean of 2.
    weight = math.log(1 + 1.5 / 2.5)
    assert found[0] == pytest.approx(weight * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 3 / 2)))
    assert found[1] == pytest.approx(weight * 1 * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 1 / 2)))
    assert best(found) == [1, 0]


def test_a_cap_leaves_the_best_of_each_document() -> None:
    spans = [(0, 0, 1), (0, 1, 2), (1, 0, 1), (0, 2, 3)]

    assert spread([3, 0, 2, 1], spans, 1) == [3, 2]
    assert spread([3, 0, 2, 1], spans, 0) == [3, 0, 2, 1]


def test_a_line_is_the_mean_of_its_questions_by_kind() -> None:
    def embed(given: list[str]) -> npt.NDArray[np.float32]:
        return np.ones((len(given), 1), dtype=np.float32)

    chunks = Chunks([Text("a", "x" * 100, "text/plain", "")], lambda _: [(0, 50), (50, 100)], embed)
    asked = [Question("title", "q", 0, (0, 50)), Question("first sentence", "q", 0, (50, 100))]

    found = line("way", chunks, asked, [[0, 1], [0]])

    assert found.ndcg == {"title": 1.0, "all": 0.5, "first sentence": 0.0}
    assert found.recall == {"title": 1.0, "all": 0.5, "first sentence": 0.0}
    assert found.read == {"title": 1.0, "all": 0.5, "first sentence": 0.0}
    with_neighbours = line("way", chunks, asked, [[0, 1], [0]], beside=1)
    assert with_neighbours.read == with_neighbours.recall == {"title": 1.0, "all": 1.0, "first sentence": 1.0}


def test_what_lies_beyond_the_budget_is_not_read() -> None:
    def embed(given: list[str]) -> npt.NDArray[np.float32]:
        return np.ones((len(given), 1), dtype=np.float32)

    texts = [Text("a", "x" * BUDGET, "text/plain", ""), Text("b", "y" * 100, "text/plain", "")]
    chunks = Chunks(texts, lambda text: [(0, len(text.body))], embed)
    asked = Question("title", "q", 1, (0, 100))

    assert chunks.answers(asked, [[1], [0]])
    assert not chunks.answers(asked, [[0], [1]])
