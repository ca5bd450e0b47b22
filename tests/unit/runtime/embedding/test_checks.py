"""Nothing a model answers is stored unjudged."""

import numpy as np
import pytest

from runtime.embedding.checks import checked_vectors
from runtime.embedding.contract import EmbeddingMisconfigured, EmbeddingReplyInvalid


def test_good_rows_come_back_at_unit_length() -> None:
    rows = checked_vectors([[3, 4], [0, -2.0]], count=2, dimension=2, source="m")
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, np.array([[0.6, 0.8], [0.0, -1.0]]), atol=1e-7)


def test_no_rows_for_no_texts() -> None:
    assert checked_vectors([], count=0, dimension=7, source="m").shape == (0, 7)


@pytest.mark.parametrize(
    "rows",
    [
        None,
        "abc",
        3,
        {},
        [],
        [[1.0, 0.0]],
        [[1.0, 0.0]] * 3,
        [[1.0, 0.0], [1.0]],
        [[1.0, 0.0], None],
        [[1.0, 0.0], [None, 1.0]],
        [[1.0, 0.0], ["x", 1.0]],
        [[1.0, 0.0], [float("nan"), 1.0]],
        [[1.0, 0.0], [float("inf"), 1.0]],
        [[1.0, 0.0], [1e-9, 0.0]],
        [[1.0, 0.0], [1e300, 1e300]],
        [1.0, 2.0],
        "ab",
    ],
)
def test_bad_rows_are_refused(rows: object) -> None:
    with pytest.raises(EmbeddingReplyInvalid, match="the model"):
        checked_vectors(rows, count=2, dimension=2, source="the model")


def test_other_dimension_is_a_matter_of_settings_and_says_which() -> None:
    with pytest.raises(EmbeddingMisconfigured, match=r"embedding\.dimension = 3"):
        checked_vectors([[1.0, 0.0, 0.0]], count=1, dimension=2, source="m")
