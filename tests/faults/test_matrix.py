"""The fault matrix's first tier on real processes: under load and under the eyes of a reader, nothing is lost or wrong.

`THALWEG_TEST_SEED` repeats a run; the seed is printed when a test fails. `make faults` runs all the others too.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from tests.faults.driver import run
from tests.faults.fault import HEADER, Fault
from tests.faults.matrix import TIER_1
from tests.faults.world import Worlds
from tests.support.counted import CountedStack
from tests.support.product import Product
from tests.support.quiesce import Receipts

pytestmark = [pytest.mark.real, pytest.mark.timeout(300, func_only=True)]

SEED = int(os.environ.get("THALWEG_TEST_SEED", "0")) or random.randrange(1, 2**31)


@pytest.fixture(scope="module")
def worlds(counted: CountedStack, counted_product: Product, counted_receipts: Receipts) -> Iterator[Worlds]:
    with Worlds(counted, counted_product, counted_receipts, SEED) as made:
        yield made


@pytest.mark.parametrize("fault", TIER_1, ids=lambda fault: f"{fault.number}: {fault.name}")
def test_a_fault_bites_and_leaves_the_index_exact(fault: Fault, worlds: Worlds) -> None:
    row = run(fault, worlds.now(), SEED)

    print(f"seed: THALWEG_TEST_SEED={SEED}\n{HEADER}\n{row.line()} {row.how}\n{row.story()}")
    if row.findings:
        worlds.drop()
    assert not row.findings, "\n".join(row.findings)
