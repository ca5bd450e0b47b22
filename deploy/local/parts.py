"""What the servers are made of: fetched, verified and kept in a cache outside the checkout.

Before: `recipes`. After: `kafka`, `connect`, `registry`, `weaviate` and `postgres` run what lies here. A second
checkout on the same machine finds everything; an interrupted set-up goes on where it stopped.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from deploy.local.fetch import Clients
from deploy.local.install import is_installed
from deploy.local.progress import Reporter, Silent
from deploy.local.recipes import MAKERS, Workshop, locked

# Which parts each server (and `apps`, our own processes) runs on.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "kafka": ("java", "kafka"),
    "connect": ("java", "kafka", "debezium", "avro-converter"),
    "registry": ("java", "registry"),
    "weaviate": ("weaviate",),
    "postgres": ("postgres",),
    "apps": ("embedder",),
}
JARS = ("kafka", "debezium", "avro-converter", "registry")
ALL = ("weaviate", "java", "kafka", "debezium", "avro-converter", "registry", "postgres", "embedder")
# One client at a time in each lane, the lanes side by side; the long build is in a lane of its own.
LANES = (("weaviate",), JARS, ("java", "postgres", "embedder"))


def cache_dir(environ: Mapping[str, str] | None = None) -> Path:
    """The folder of everything downloaded or built: $THALWEG_CACHE, $XDG_CACHE_HOME/thalweg, ~/.cache/thalweg."""
    env = os.environ if environ is None else environ
    if chosen := env.get("THALWEG_CACHE"):
        return Path(chosen).expanduser().resolve()
    if base := env.get("XDG_CACHE_HOME"):
        return Path(base) / "thalweg"
    return Path.home() / ".cache" / "thalweg"


def parts_of(names: Iterable[str]) -> list[str]:
    """The parts that these servers (or `apps`) need, each once, in the order in which they are best made."""
    wanted = {part for name in names for part in NEEDS[name]}
    return [part for part in ALL if part in wanted]


def prepare(
    names: Iterable[str] = ALL, reporter: Reporter | None = None, environ: Mapping[str, str] | None = None
) -> dict[str, Path]:
    """Make every part in `names` that is not there yet and return where each lies.

    `java` is a program, `weaviate` a program, `postgres` a folder of programs, `kafka` a folder of jars,
    `debezium` and `avro-converter` folders for Connect's plugin.path, `registry` an unpacked application,
    `embedder` the folder of the local model. Raises `SetupError`; nothing half-made is ever left or used.
    """
    wanted = list(names)
    env = dict(os.environ if environ is None else environ)
    shop = Workshop(cache_dir(env), locked(), Clients(env, threading.Event()), reporter or Silent())
    shop.cache.mkdir(parents=True, exist_ok=True)
    places: dict[str, Path] = {}

    def work(lane: tuple[str, ...]) -> None:
        for name in lane:
            if name in wanted and not shop.clients.cancel.is_set():
                places[name] = _make(name, shop)

    with ThreadPoolExecutor(len(LANES), thread_name_prefix="set-up") as pool:
        lanes = [pool.submit(work, lane) for lane in LANES]
        try:
            done, _ = wait(lanes, return_when=FIRST_EXCEPTION)
            failed = [lane.exception() for lane in done if lane.exception() is not None]
        finally:
            # Without this an error or Ctrl-C would be shown only after the longest build is through.
            if not all(lane.done() for lane in lanes):
                shop.clients.cancel.set()
    if failed and failed[0] is not None:
        raise failed[0]
    return places


def _make(name: str, shop: Workshop) -> Path:
    shop.reporter.begin(name, "looking")
    place, how = MAKERS[name](shop)
    shop.reporter.end(name, how)
    return place


def is_there(name: str, environ: Mapping[str, str] | None = None) -> bool:
    """Whether a cached part is finished. (Java and PostgreSQL may come from the system instead.)"""
    env = os.environ if environ is None else environ
    return is_installed(Workshop(cache_dir(env), locked(), Clients(env, threading.Event()), Silent()).folder(name))
