from dataclasses import replace

import pytest

from connectors.database import Server, SourceTable, address_of
from connectors.preflight import CheckedSource, SourceRefused, check_source
from schemas.source import SourceSpec, parse_source
from tests.unit.connectors.samples import SERVER, SPEC, TABLE


def check(spec: SourceSpec = SPEC, server: Server = SERVER, table: SourceTable | None = TABLE) -> CheckedSource:
    return check_source(spec, server, table, slot_exists=False)


def refusals(spec: SourceSpec = SPEC, server: Server = SERVER, table: SourceTable | None = TABLE) -> str:
    with pytest.raises(SourceRefused) as refused:
        check(spec, server, table)
    return str(refused.value)


def test_the_primary_key_fills_an_absent_key() -> None:
    checked = check()
    assert checked.spec.key == ("id",)
    assert checked.key_is_primary
    assert checked.advice == ()


def test_a_table_without_a_key_is_refused_with_the_sql_that_gives_it_one() -> None:
    keyless = replace(TABLE, primary_key=(), unique_indexes={})
    assert 'ALTER TABLE "public"."articles" ADD PRIMARY KEY (id);' in refusals(table=keyless)
    columns = {name: kind for name, kind in TABLE.columns.items() if name != "id"}
    assert "ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY" in refusals(
        table=replace(keyless, columns=columns)
    )


def test_a_deferrable_key_is_refused_with_the_sql_that_makes_it_strict() -> None:
    told = refusals(table=replace(TABLE, deferrable_key="articles_pkey"))
    assert 'ALTER TABLE "public"."articles" DROP CONSTRAINT "articles_pkey", ADD PRIMARY KEY ("id");' in told


def test_another_unique_key_counts_where_deletes_carry_it() -> None:
    by_code = replace(SPEC, key=("code",))
    assert not check(by_code).key_is_primary
    assert not check(
        by_code, table=replace(TABLE, replica_identity="index", identity_index="articles_code")
    ).key_is_primary
    assert 'REPLICA IDENTITY USING INDEX "articles_code"' in refusals(
        by_code, table=replace(TABLE, replica_identity="default")
    )
    assert "neither its primary key ['id'] nor a unique index" in refusals(replace(SPEC, key=("title",)))


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (replace(SERVER, wal_level="replica"), "ALTER SYSTEM SET wal_level = 'logical'"),
        (replace(SERVER, may_replicate=False), 'ALTER ROLE "debezium" REPLICATION;'),
        (replace(SERVER, free_slots=0), "max_replication_slots"),
    ],
)
def test_a_server_that_cannot_replicate_is_refused_with_the_fix(server: Server, said: str) -> None:
    assert said in refusals(server=server)


def test_a_full_server_still_takes_a_source_whose_slot_is_there() -> None:
    full = replace(SERVER, free_slots=0)
    assert check_source(SPEC, full, TABLE, slot_exists=True).spec.key == ("id",)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("text: nothing", "no column 'nothing'"),
        ("text: vector", "of type vector(3), which does not read as text"),
        ("text: summary", "'summary' is generated"),
        ("access: id", "access column 'id' is of type bigint"),
        ("filterable: [other]", "`filterable` names ['other']"),
        ("title: readers", "'readers' is an array"),
        ("text: 'plain'\nkey: id", "no column 'plain'"),
    ],
)
def test_a_column_that_cannot_be_used_is_named_with_its_type(changed: str, said: str) -> None:
    base = {"name": "articles", "knowledge_base": "shop", "table": "articles", "text": "body"}
    lines = "\n".join(f"{key}: {value}" for key, value in base.items() if not changed.startswith(key))
    assert said in refusals(parse_source(f"{lines}\n{changed}"))


def test_all_refusals_are_told_at_once() -> None:
    told = refusals(replace(SPEC, title="nope"), replace(SERVER, wal_level="minimal"))
    assert "no column 'nope'" in told
    assert "wal_level is minimal" in told


def test_a_missing_table_and_an_unreadable_one_are_refused() -> None:
    assert "There is no table public.articles" in refusals(table=None)
    assert 'GRANT SELECT ON "public"."articles" TO "debezium";' in refusals(table=replace(TABLE, readable=False))


def test_replica_identity_default_is_advised_against_where_text_may_be_long() -> None:
    (finding,) = check(table=replace(TABLE, replica_identity="default")).advice
    assert "title or body" in finding.text
    assert finding.fix == 'ALTER TABLE "public"."articles" REPLICA IDENTITY FULL;'


def test_replica_identity_nothing_is_refused() -> None:
    assert "REPLICA IDENTITY NOTHING" in refusals(table=replace(TABLE, replica_identity="nothing"))


def test_unlimited_retained_log_is_advised_against() -> None:
    (finding,) = check(server=replace(SERVER, max_slot_wal_keep_mb=-1)).advice
    assert "max_slot_wal_keep_size" in finding.fix


def test_an_address_never_shows_its_password() -> None:
    address = address_of("postgresql://user:s3cret@host:5433/shop?sslmode=require")
    assert (address.host, address.port, address.name, address.user, address.sslmode) == (
        *("host", 5433, "shop", "user", "require"),
    )
    assert address.password == "s3cret"
    assert "s3cret" not in repr(address) + str(address)
