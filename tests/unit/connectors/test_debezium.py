from dataclasses import replace

from connectors.debezium import connector_config, epoch_of, published_tables
from connectors.preflight import CheckedSource
from tests.unit.connectors.samples import ADDRESS, SPEC

CHECKED = CheckedSource(replace(SPEC, key=("id",)))
URL = "http://registry:8081/apis/registry/v2"


def test_the_settings_on_which_correctness_rests() -> None:
    config = connector_config(CHECKED, ADDRESS, epoch=3, registry_url=URL)
    assert {
        "publication.autocreate.mode": "disabled",
        "publication.name": "thalweg_articles",
        "slot.name": "thalweg_articles",
        "slot.drop.on.stop": "false",
        "offset.mismatch.strategy": "trust_offset",
        "skipped.operations": "none",
        "tombstones.on.delete": "true",
        "plugin.name": "pgoutput",
        "topic.prefix": "cdc.articles",
        "table.include.list": r"public\.articles",
        "snapshot.mode": "initial",
        "event.processing.failure.handling.mode": "fail",
        "topic.creation.default.cleanup.policy": "delete",
        "topic.creation.default.max.message.bytes": "41943040",
        "producer.override.max.request.size": "41943040",
    }.items() <= config.items()
    assert epoch_of(config) == 3
    assert all(isinstance(value, str) for value in config.values())


def test_a_source_that_wants_no_snapshot_gets_none() -> None:
    config = connector_config(CheckedSource(replace(SPEC, snapshot=False)), ADDRESS, epoch=1, registry_url=URL)
    assert config["snapshot.mode"] == "no_data"


def test_a_password_reference_takes_the_place_of_the_password() -> None:
    reference = "${file:/run/secrets/db.properties:password}"
    config = connector_config(CHECKED, ADDRESS, epoch=1, registry_url=URL, password_reference=reference)
    assert config["database.password"] == reference
    assert "s3cret" not in str(config)
    assert connector_config(CHECKED, ADDRESS, epoch=1, registry_url=URL)["database.password"] == "s3cret"


def test_a_key_beside_the_primary_key_is_told_to_debezium() -> None:
    by_code = CheckedSource(replace(SPEC, key=("code", "lang")), key_is_primary=False)
    config = connector_config(by_code, ADDRESS, epoch=1, registry_url=URL)
    assert config["message.key.columns"] == r"public\.articles:code,lang"
    assert "message.key.columns" not in connector_config(CHECKED, ADDRESS, epoch=1, registry_url=URL)


def test_keys_and_values_are_avro_in_the_confluent_wire_format() -> None:
    config = connector_config(CHECKED, ADDRESS, epoch=1, registry_url=URL)
    for side in ("key", "value"):
        assert config[f"{side}.converter"].endswith(".AvroConverter")
        assert config[f"{side}.converter.apicurio.registry.url"] == URL
        assert config[f"{side}.converter.apicurio.registry.id-handler"].endswith("Legacy4ByteIdHandler")
        assert config[f"{side}.converter.apicurio.registry.headers.enabled"] == "false"


def test_the_publication_carries_the_table_and_the_heartbeat() -> None:
    assert published_tables(CHECKED) == {"public.articles", "public.thalweg_heartbeat"}


def test_a_foreign_configuration_has_no_epoch() -> None:
    assert epoch_of({}) == 0
