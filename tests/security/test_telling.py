"""What is told to whom: a planted secret comes out nowhere, a name makes no second line, a filter is but a filter."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from query_api.retrieval.filters import FilterRefused, Known, parse
from query_api.retrieval.ports import Criteria, IndexUnavailable
from query_api.retrieval.rights import Rights
from query_api.retrieval.weaviate_filters import where
from runtime.config_commands import config
from runtime.settings import SettingsError, load_settings
from tests.unit.connectors.upload_api.world import ADMIN, upload_world
from tests.unit.query_api.fake_index import FakeEmbedder, FakeIndex
from tests.unit.query_api.fakes import app_around

SECRET = "s3cret-planted-51c7"
HOSTILE = "a\nb\r\x1b[31mred\x9b2J\u2028line\u202eabc\x07\x00end"


def settings_with_secrets(folder: Path) -> dict[str, str]:
    return {
        "THALWEG_HOME": str(folder),
        "THALWEG_WEAVIATE__API_KEY": SECRET,
        "THALWEG_EMBEDDING__API_KEY": SECRET,
        "THALWEG_ANSWER__API_KEY": SECRET,
        "THALWEG_RERANK__API_KEY": SECRET,
        "THALWEG_POSTGRES__DSN": f"postgresql://u:{SECRET}@db/x",
    }


def test_settings_show_no_secret_however_they_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = settings_with_secrets(tmp_path)
    settings = load_settings(environment, folder=tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    shown = [CliRunner().invoke(config, ["show", *more]).output for more in ([], ["--json"], ["--origin"])]

    assert "weaviate.api_key" in shown[0]
    assert SECRET not in "".join([repr(settings), str(settings), settings.model_dump_json(), *shown])
    with pytest.raises(SettingsError) as wrong:
        load_settings({**environment, "THALWEG_UPLOAD__PORT": "x"}, folder=tmp_path)
    assert SECRET not in str(wrong.value)


@pytest.mark.parametrize("path", ["/v1/search", "/v1/query", "/v1/stats", "/v1/documents/a"])
async def test_an_error_tells_neither_the_caller_nor_the_log_what_it_held(log: StringIO, path: str) -> None:
    """The text of a library's error may quote a key, a question, a document."""
    parts = app_around(FakeIndex(fails=RuntimeError(f"401 for key {SECRET}")), FakeEmbedder())

    method = "POST" if path in ("/v1/search", "/v1/query") else "GET"
    answered = await parts.client.request(method, path, json={"query": SECRET} if method == "POST" else None)

    assert answered.status_code == 500
    assert answered.json()["type"] == "/problems/internal"
    assert "Traceback" not in answered.text
    assert SECRET not in answered.text
    assert SECRET not in log.getvalue()
    assert SECRET not in str(parts.audit.entries)
    assert "tw_admin" not in "".join(
        line for line in log.getvalue().splitlines() if json.loads(line)["event"] != "request"
    ), "the key itself; in a request's line it is the subject's name, as tests call it"


async def test_a_store_that_is_away_is_told_without_its_address(log: StringIO) -> None:
    parts = app_around(FakeIndex(fails=IndexUnavailable("the index does not answer")), FakeEmbedder())

    answered = await parts.client.post("/v1/search", json={"query": "x"})

    assert answered.status_code == 503
    assert "http" not in answered.json()["detail"]
    assert log.getvalue()


async def test_a_name_makes_no_second_line_of_log_and_steers_no_terminal(tmp_path: Path, log: StringIO) -> None:
    async with upload_world(tmp_path) as world:
        await world.upload(name=HOSTILE + ".txt")
        await world.client.get(f"/v1/uploads/{'%0a%1b%5b31m%c2%9b2J%e2%80%a8%e2%80%ae'}", headers={"X-API-Key": ADMIN})
        await world.client.put("/v1/documents/%1b%5b31m%0afake", json={}, headers={"X-API-Key": ADMIN})
        await world.client.get("/v1/nothing", headers=[(b"X-Request-ID", b"a\x1b[31m"), (b"X-API-Key", b"\x1b[2J")])

    lines = log.getvalue().split("\n")
    assert len(lines) > 4
    for line in lines[:-1]:
        assert isinstance(json.loads(line), dict)
        assert not [char for char in line if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp")]
        assert line.splitlines() == [line]


KNOWN = Known({"year": {"number": "f_n_year"}, "team": {"text": "f_s_team"}}, lambda name: (f"acme/handbook/{name}",))
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
WORDS = st.sampled_from(["and", "or", "eq", "ne", "gt", "in", "nin", "year", "team", "source", "document_id", "tenant"])
TREES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
RIGHTS = Rights("acme", {"handbook": True}, frozenset({"ann"}))


@given(st.dictionaries(WORDS | st.text(max_size=8), TREES, max_size=4))
def test_any_filter_is_either_bound_within_the_rights_or_refused(raw: dict[str, Any]) -> None:
    """Nothing but FilterRefused comes of any JSON, and what is taken only narrows what the rights allow."""
    try:
        wanted = parse(raw, KNOWN)
    except FilterRefused:
        return
    built, without = _plain(where(Criteria(RIGHTS, wanted))), _plain(where(Criteria(RIGHTS)))
    assert built[0] == without[0] == "_FilterAnd"
    assert {leaf.target for leaf in _leaves(where(Criteria(RIGHTS)))} == {
        "retired",
        "knowledge_base",
        "access",
        "public",
    }
    assert built[1][: len(without[1])] == without[1]


@pytest.mark.parametrize(
    "hostile",
    [
        '" or 1=1 --',
        "'} } ) { _additional { id vector } }",
        '{"operator":"Or","operands":[]}',
        "*",
        "?",
        "\\",
        "f_s_team",
        "../globex",
        "globex",
        "%00",
        "\uff07 OR \uff07",
    ],
)
def test_a_hostile_value_stays_a_value(hostile: str) -> None:
    wanted = parse({"team": hostile, "source": {"in": [hostile]}}, KNOWN)

    built = where(Criteria(RIGHTS, wanted))

    leaves = list(_leaves(built))
    assert hostile in [leaf.value for leaf in leaves]
    assert {leaf.target for leaf in leaves} <= {"retired", "knowledge_base", "access", "public", "f_s_team", "source"}
    for key in ("retired", "knowledge_base", "access", "tenant", "document", "f_s_team", hostile):
        with pytest.raises(FilterRefused):
            parse({key: "x"}, KNOWN)


def _plain(node: Any) -> tuple[Any, ...]:
    inner = getattr(node, "filters", None)
    if inner is None:
        return (node.target, node.operator, node.value)
    return (type(node).__name__, [_plain(part) for part in inner])


def _leaves(node: Any) -> Iterator[Any]:
    inner = getattr(node, "filters", None)
    if inner is None:
        yield node
    else:
        for part in inner:
            yield from _leaves(part)
