"""The counted stack, for this folder only: two whole stacks on one machine would slow each other down."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.local.errors import LocalStackError
from tests.support.counted import CountedStack, counted_stack
from tests.support.product import Product, product_of
from tests.support.quiesce import Receipts
from tests.support.shown import show


@pytest.fixture(scope="package")
def counted(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[CountedStack]:
    """A whole stack which embeds with a stand-in that counts texts and misbehaves on command."""
    try:
        with counted_stack(tmp_path_factory.mktemp("counted")) as started:
            show(request.config, "counted", started.stack)
            yield started
    except LocalStackError as error:
        pytest.fail(f"the counted stack did not start: {error}\nParts missing? make setup", pytrace=False)


@pytest.fixture(scope="package")
def counted_product(counted: CountedStack) -> Iterator[Product]:
    """The running product on the counted stack."""
    with product_of(counted.stack) as made:
        yield made


@pytest.fixture(scope="package")
def counted_receipts(counted_product: Product) -> Iterator[Receipts]:
    """Every receipt written on the counted stack so far."""
    with Receipts(counted_product) as made:
        yield made
