"""`thalweg dlq` as an operator runs it, and what lies in topics. Before this: a running product. After this: tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from deploy.local.apps import code_root
from streams.adapters.letter_log import inbound
from streams.ports import Inbound
from tests.support.product import Product


def dlq(product: Product, *arguments: str, code: int = 0) -> dict[str, Any]:
    """`thalweg dlq ARGUMENTS --json`; what it printed. Fails on another exit code."""
    done = run_dlq(product, *arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run_dlq(product: Product, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as it is."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(code_root()), **product.stack.environment()}
    return subprocess.run(
        [sys.executable, "-m", "thalweg", "dlq", *arguments],
        env=environment, cwd=product.stack.home.run, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def letter_of(product: Product, place: str) -> dict[str, Any]:
    """The one letter of the record at this place, whatever its state. Fails if there is none, or more."""
    found = [
        letter
        for letter in dlq(product, "list", "--all", "--since", "1h")["letters"]
        if f"{letter['topic']}/{letter['partition']}@{letter['offset']}" == place and letter["rejected_at"] is None
    ]
    assert len(found) == 1, f"{len(found)} letters of {place}"
    letter: dict[str, Any] = found[0]
    return letter


def records_of(bootstrap: str, topic: str, partitions: int) -> list[Inbound]:
    """Everything in a topic, to its end."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "tests", "enable.partition.eof": True})
    found: list[Inbound] = []
    try:
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)])
        ended, deadline = 0, time.monotonic() + 60
        while ended < partitions:
            assert time.monotonic() < deadline, f"{topic} was not read to its end"
            message = consumer.poll(1.0)
            if message is None:
                continue
            error = message.error()
            if error is None:
                found.append(inbound(message))
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                ended += 1
    finally:
        consumer.close()
    return found


def write_file(folder: Path, name: str, content: bytes) -> Path:
    """A file with this content."""
    path = folder / name
    path.write_bytes(content)
    return path
