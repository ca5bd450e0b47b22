"""The mutants fit the code as it is, and trying one tells a mutant that dies from a change that harms nobody."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from tests.mutation.kill import ROOT, Mutant, Unfit, attempt, copied, fits, mutants, notice

HARMLESS = Mutant(
    "harmless",
    "schemas/index/manifest.py",
    '"""For each document the manifest that no other one beats."""',
    '"""For each document, the manifest that no other one beats."""',
    "none",
)


def test_every_mutant_fits_the_code_as_it_is() -> None:
    """A mutant whose old text is gone would be tried on nothing: change it with the code."""
    found = mutants()

    assert [said for mutant in found if (said := fits(mutant))] == []
    assert [name for name, count in Counter(mutant.name for mutant in found).items() if count > 1] == []
    assert all(mutant.old != mutant.new and mutant.harm for mutant in found)
    assert len(found) >= 40


def test_the_tests_that_are_to_notice_are_there() -> None:
    """By their files' names."""
    named = {test for mutant in mutants() for test in mutant.tests}

    assert named
    assert [test for test in named if not (ROOT / test).is_file()] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["phase-ignored", "nothing-is-retired", "unsettled-is-let-go"])
def test_a_mutant_is_noticed_by_the_simulation(name: str) -> None:
    """Three of them here; `python -m tests.mutation` tries all."""
    (mutant,) = [mutant for mutant in mutants() if mutant.name == name]
    before = (ROOT / mutant.file).read_bytes()

    with copied() as tree:
        tried = attempt(mutant, tree)
        assert fits(mutant, tree) == "", "the mutant was not taken back"

    assert tried.by == "simulation"
    assert (ROOT / mutant.file).read_bytes() == before


@pytest.mark.slow
def test_what_harms_nobody_is_noticed_by_nothing() -> None:
    """Else the table would say nothing. One that does not fit, or tests that cannot run, are no verdict."""
    with copied() as tree:
        tried = attempt(replace(HARMLESS, tests=("tests/unit/streams/test_loop.py",)), tree)
        with pytest.raises(Unfit, match="0 times"):
            attempt(replace(HARMLESS, old="no such text"), tree)
        with pytest.raises(Unfit, match="did not run"):
            notice(tree, ("tests/unit/no_such_test.py",))

    assert (tried.by, tried.detail) == ("", "")
