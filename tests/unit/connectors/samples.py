"""Sources, tables and servers that the tests of this folder share."""

from __future__ import annotations

from connectors.database import Address, Column, Server, Slot, SourceTable
from schemas.source import parse_source

YAML = """
name: articles
knowledge_base: shop
table: public.articles
text: "{title}\\n\\n{body}"
title: title
metadata: [category]
filterable: [category]
access: readers
deleted: {column: state, equals: [gone, hidden]}
"""
SPEC = parse_source(YAML)
ADDRESS = Address("db.example", 5433, "shop", "debezium", "s3cret")
SERVER = Server("logical", "debezium", True, 10_240, 5)
TEXT = Column("text", toastable=True)
TABLE = SourceTable(
    columns={
        "id": Column("bigint", "int8"),
        "title": TEXT,
        "body": TEXT,
        "category": Column("character varying(20)", "varchar"),
        "readers": Column("text[]", "text", array=True),
        "state": Column("mood", "mood", enumeration=True),
        "code": Column("text"),
        "vector": Column("vector(3)", "vector"),
        "summary": Column("text", generated=True),
    },
    primary_key=("id",),
    unique_indexes={"articles_pkey": ("id",), "articles_code": ("code",)},
    replica_identity="full",
    identity_index=None,
    readable=True,
)
STREAMING = Slot(True, "reserved", 0, 100)
LOST = Slot(False, "lost", None, None)
