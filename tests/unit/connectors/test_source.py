from pathlib import Path

import pytest

from connectors.source import find_dsn, load_source, to_yaml
from schemas.source import SourceError, parse_source
from tests.unit.connectors.samples import SPEC


@pytest.mark.parametrize(
    "text",
    [
        "{name: a, knowledge_base: k, table: t, text: body, key: id}",
        "{name: a, knowledge_base: k, table: s.t, text: [title, body], key: [a, b], metadata: {x: y}, deleted: gone}",
        '{name: a, knowledge_base: k, table: s.t, text: "{a}: {b}", snapshot: false, dsn_env: DB}',
        "{name: a, knowledge_base: k, table: t, text: b, filterable: [x], metadata: [x], content_type: text/markdown}",
        "{name: a, knowledge_base: k, table: t, text: b, deleted: {column: state, equals: [1, x]}}",
    ],
)
def test_a_written_back_source_reads_as_the_same(text: str) -> None:
    spec = parse_source(text)
    assert parse_source(to_yaml(spec)) == spec
    assert to_yaml(parse_source(to_yaml(spec))) == to_yaml(spec)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.yaml: cannot be read"):
        load_source(tmp_path / "none.yaml")


def test_the_dsn_comes_from_the_variable_then_its_file_then_the_stack(tmp_path: Path) -> None:
    named = parse_source("{name: a, knowledge_base: k, table: t, text: body, dsn_env: SHOP_DSN}")
    secret = tmp_path / "dsn"
    secret.write_text("postgresql://file\n")
    assert find_dsn(named, "own", {"SHOP_DSN": "postgresql://variable"}) == "postgresql://variable"
    assert find_dsn(named, "own", {"SHOP_DSN_FILE": str(secret)}) == "postgresql://file"
    assert find_dsn(SPEC, "own", {}) == "own"


def test_a_source_without_a_dsn_says_which_variable_to_set() -> None:
    named = parse_source("{name: a, knowledge_base: k, table: t, text: body, dsn_env: SHOP_DSN}")
    with pytest.raises(SourceError, match="SHOP_DSN nor SHOP_DSN_FILE"):
        find_dsn(named, "own", {})
    with pytest.raises(SourceError, match="no local database runs"):
        find_dsn(SPEC, None, {})
