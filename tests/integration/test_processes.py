"""What the query API loads: neither Faust nor its transport nor the parsers, in theory and as it runs."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from deploy.local.apps import code_root
from tests.support.client import eventually
from tests.support.product import Product

pytestmark = [pytest.mark.real, pytest.mark.timeout(180, func_only=True)]

UNWANTED = {"faust", "mode", "aiokafka", "unstructured", "spacy", "pypdfium2", "streams", "connectors"}
READY_S = 120.0


def test_a_query_api_that_serves_has_loaded_neither_faust_nor_parsers(product: Product, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(code_root()),
        "PYTHONUNBUFFERED": "1",
        "THALWEG_QUERY__PORT": str(port),
        **product.stack.environment(),
    }
    log = tmp_path / "imports"
    with log.open("wb") as output:
        served = subprocess.Popen(
            [sys.executable, "-X", "importtime", "-m", "thalweg", "serve", "query"],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=output,
        )
    try:

        def serves() -> None:
            assert served.poll() is None, log.read_text()[-2000:]
            try:
                assert httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5, trust_env=False).status_code == 200
            except httpx.HTTPError as error:
                raise AssertionError(repr(error)) from error

        eventually(serves, READY_S)
        key = {"Authorization": f"Bearer {product.client.key}"}
        answered = httpx.post(
            f"http://127.0.0.1:{port}/v1/query", json={"query": "river"}, headers=key, timeout=30, trust_env=False
        )
        assert answered.status_code == 200, answered.text
    finally:
        served.send_signal(signal.SIGTERM)
        served.wait(30)

    loaded = {name.partition(".")[0] for name in re.findall(r"import time:[ \d|]+ ([\w.]+)$", log.read_text(), re.M)}
    assert {"query_api", "fastapi", "weaviate", "confluent_kafka"} <= loaded, "the list of imports was not read"
    assert not loaded & UNWANTED


def test_the_running_query_api_has_none_of_their_libraries_mapped(product: Product) -> None:
    def mapped(process: str) -> set[str]:
        maps = Path(f"/proc/{product.process(process)['pid']}/maps").read_text()
        return set(re.findall(r"/site-packages/([\w.-]+?)[/.]", maps))

    assert "aiokafka" in mapped("capture"), "a worker's own libraries are not seen: the check is blind"
    assert "confluent_kafka" in mapped("query")
    assert not mapped("query") & (UNWANTED | {"rocksdict", "lxml", "pandas"})
