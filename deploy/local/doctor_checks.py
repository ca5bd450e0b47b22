"""What `thalweg doctor` looks at, one function a thing.

Before: settings, the parts and (usually) a running stack. After: `doctor` runs them all. A check is a function from a
`Situation` to a `Finding`; the list at the end is all of them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

from deploy.local import http_probe, kafka, parts, plan, ports, state, toolchain
from deploy.local.errors import NotReadyError
from deploy.local.places import Home
from runtime.settings import Settings

# Below it Weaviate turns read-only soon and Kafka dies on its next segment.
DISK_BYTES = 3 * 1024**3
WEAVIATE_AT_LEAST = (1, 32)  # the first with collection aliases
MODEL_TIMEOUT_S = 60
UP = "Start the local stack: thalweg up"


@dataclass(frozen=True)
class Situation:
    """What checks look at."""

    settings: Settings
    environ: Mapping[str, str]


@dataclass(frozen=True)
class Finding:
    """What one check found. detail: what is, in one line. fix: what to do if not `ok`."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


Check = Callable[[Situation], Finding]


def disk(situation: Situation) -> Finding:
    """Room where data and parts are kept."""
    room = {}
    for folder in (situation.settings.home, parts.cache_dir(situation.environ)):
        there = next(step for step in (folder, *folder.parents) if step.exists())
        room[str(folder)] = shutil.disk_usage(there).free
    tight = [folder for folder, free in room.items() if free < DISK_BYTES]
    told = ", ".join(f"{free / 1024**3:.1f} GiB free for {folder}" for folder, free in room.items())
    room_for = f"Make room for {' and '.join(tight)}: at least {DISK_BYTES // 1024**3} GiB"
    fix = f"{room_for}, or move it (THALWEG_HOME, THALWEG_CACHE)."
    return Finding("disk", not tight, told, fix if tight else "")


def tools(situation: Situation) -> Finding:
    """The programs that set-up needs; one whose part is made already is not needed any more."""
    env = situation.environ
    missing, found = [], []
    for name, place, made in (
        ("java", toolchain.find_java(env), parts.is_there("java", env)),
        ("postgres", toolchain.find_postgres(env), parts.is_there("postgres", env)),
        ("go", toolchain.find_go(env), parts.is_there("weaviate", env)),
        ("mvn", shutil.which("mvn", path=env.get("PATH")), all(parts.is_there(jars, env) for jars in parts.JARS)),
    ):
        if place is not None or made:
            found.append(f"{name} {place or 'in the cache'}")
        elif name == "mvn":
            missing.append(name)
        else:
            found.append(f"{name} (set-up will fetch a packaged one)")
    fix = "As root, on Debian or Ubuntu: apt-get install --no-install-recommends maven"
    return Finding("tools", not missing, ", ".join(found), fix if missing else "")


def parts_made(situation: Situation) -> Finding:
    """Whether set-up has run."""
    cached = [name for name in parts.ALL if name not in {"java", "postgres", "embedder"}]
    missing = [name for name in cached if not parts.is_there(name, situation.environ)]
    where = parts.cache_dir(situation.environ)
    if missing:
        return Finding("parts", False, f"not in {where}: {', '.join(missing)}", "thalweg setup")
    return Finding("parts", True, f"all in {where}")


def usual_ports(situation: Situation) -> Finding:
    """Taken ports are no fault, but they explain why an address is not the usual one."""
    if state.supervisor_pid(Home(situation.settings.home)) is not None:
        return Finding("ports", True, "in use by the running stack")
    taken = [f"{name} {port}" for name, port in ports.DEFAULTS.items() if not ports.is_free(port)]
    detail = f"taken, free ones will be used instead: {', '.join(taken)}" if taken else "the usual ones are free"
    return Finding("ports", True, detail)


def broker(situation: Situation) -> Finding:
    """Kafka answers."""
    bootstrap = situation.settings.kafka.bootstrap
    try:
        kafka.probe(bootstrap)
    except NotReadyError as error:
        return Finding("kafka", False, str(error), f"{UP}; or name a running one: {plan.EXTERNAL['kafka']}")
    return Finding("kafka", True, bootstrap)


def topics(situation: Situation) -> Finding:
    """Every topic of the catalog exists."""
    from runtime.topics import BrokerUnavailable, Topics
    from schemas.catalog import topics as wanted

    try:
        there = Topics(situation.settings.kafka.bootstrap, timeout_s=kafka.PROBE_TIMEOUT_S).partitions()
    except BrokerUnavailable as error:
        return Finding("topics", False, f"cannot be asked: {error}", UP)
    missing = sorted(set(wanted()) - set(there))
    if missing:
        return Finding("topics", False, f"missing: {', '.join(missing)}", "thalweg topics apply")
    return Finding("topics", True, f"all {len(wanted())} there")


def dead_letters(situation: Situation) -> Finding:
    """No stage stands still because it parked more than it may; letters of the last hour are told."""
    from collections import Counter

    from runtime.clock import now_ms
    from runtime.topics import BrokerUnavailable
    from streams.adapters.letter_log import LetterLog
    from streams.core.budget import HOUR_S, LetterBudget

    limits, now = situation.settings.stage, now_ms()
    try:
        with LetterLog(situation.settings.kafka.bootstrap, timeout_s=kafka.PROBE_TIMEOUT_S) as log:
            letters = log.read(since_ms=now - int(HOUR_S * 1000))
    except BrokerUnavailable as error:
        return Finding("dead letters", False, f"cannot be asked: {error}", UP)
    if not letters:
        return Finding("dead letters", True, "none in the last hour")
    counted = sorted(Counter(letter.stage for letter in letters).items())
    told = f"in the last hour: {', '.join(f'{stage} {number}' for stage, number in counted)}; see thalweg dlq list"
    for stage, _ in counted:
        written = (letter.at_ms for letter in letters if letter.stage == stage)
        budget = LetterBudget.after(
            written, limits.dead_letters_per_minute, limits.dead_letters_per_hour, now_ms=now, now=0.0
        )
        if not budget.left(0.0):
            fix = "See why (thalweg dlq list), mend that, start the stage's workers anew: until then they park no more."
            return Finding("dead letters", False, f"{stage} may park no more ({budget.spent()}); {told}", fix)
    return Finding("dead letters", True, told)


def schema_registry(situation: Situation) -> Finding:
    """The registry answers in Confluent's dialect."""
    url = situation.settings.registry.url.rstrip("/")
    try:
        subjects = json.loads(http_probe.get(f"{url}/subjects"))
    except (NotReadyError, ValueError) as error:
        return Finding("registry", False, str(error), f"{UP}; or name a running one: {plan.EXTERNAL['registry']}")
    return Finding("registry", True, f"{url}, {len(subjects)} subjects")


def connect_plugin(situation: Situation) -> Finding:
    """Connect answers and knows Debezium's connector for PostgreSQL."""
    url = situation.settings.connect.url.rstrip("/")
    try:
        plugins = [plugin["class"] for plugin in json.loads(http_probe.get(f"{url}/connector-plugins"))]
    except (NotReadyError, ValueError, KeyError, TypeError) as error:
        return Finding("connect", False, str(error), f"{UP}; or name a running one: {plan.EXTERNAL['connect']}")
    wanted = "io.debezium.connector.postgresql.PostgresConnector"
    if wanted not in plugins:
        fix = "Put Debezium's PostgreSQL connector on that worker's plugin.path and restart it."
        return Finding("connect", False, f"{url} does not list {wanted}", fix)
    return Finding("connect", True, f"{url}, Debezium for PostgreSQL there")


def source_database(situation: Situation) -> Finding:
    """The database can be read by logical replication and keeps a bound on what a slot may retain."""
    secret = situation.settings.postgres.dsn
    if secret is None:
        return Finding("database", True, "none named; each source names its own")
    try:
        with psycopg.connect(secret.get_secret_value(), connect_timeout=3) as session:
            row = session.execute(
                "SELECT current_setting('wal_level'), current_setting('max_slot_wal_keep_size')"
            ).fetchone()
    except psycopg.Error as error:
        return Finding(
            "database", False, str(error).strip(), f"{UP}; or name a running one: {plan.EXTERNAL['postgres']}"
        )
    level, keep = row if row is not None else ("?", "?")
    if level != "logical":
        fix = "ALTER SYSTEM SET wal_level = 'logical'; then restart PostgreSQL."
        return Finding("database", False, f"wal_level is {level}, Debezium needs logical", fix)
    if keep == "-1":
        fix = "ALTER SYSTEM SET max_slot_wal_keep_size = '2GB'; SELECT pg_reload_conf();"
        return Finding("database", False, "max_slot_wal_keep_size is -1: a forgotten slot fills the disk", fix)
    return Finding("database", True, f"wal_level logical, max_slot_wal_keep_size {keep}")


def vector_store(situation: Situation) -> Finding:
    """Weaviate takes our key and is new enough."""
    there = situation.settings.weaviate
    url = there.url.rstrip("/")
    headers = {"Authorization": f"Bearer {there.api_key.get_secret_value()}"} if there.api_key else {}
    try:
        version = str(json.loads(http_probe.get(f"{url}/v1/meta", headers))["version"])
        number = tuple(int(part) for part in version.split(".")[:2])
    except NotReadyError as error:
        key = " answers 401" in str(error)
        fix = (
            "Its key: THALWEG_WEAVIATE__API_KEY or ..._FILE"
            if key
            else f"{UP}; or name a running one: {plan.EXTERNAL['weaviate']}"
        )
        return Finding("weaviate", False, str(error), fix)
    except (ValueError, KeyError, TypeError) as error:
        return Finding("weaviate", False, f"{url} is no Weaviate ({error!r})", f"Check {plan.EXTERNAL['weaviate']}.")
    if number < WEAVIATE_AT_LEAST:
        return Finding("weaviate", False, f"version {version} has no aliases", "Use Weaviate 1.32 or newer.")
    return Finding("weaviate", True, f"{url}, version {version}")


def embedder(situation: Situation) -> Finding:
    """The local model is whole and gives a vector; a model elsewhere is only named, since asking it costs money."""
    chosen = situation.settings.embedding
    if chosen.provider != "local":
        ok = chosen.api_key is not None or chosen.url is not None
        fix = "" if ok else "Set THALWEG_EMBEDDING__API_KEY (or ..._FILE)."
        return Finding("embedder", ok, f"{chosen.provider} {chosen.model or 'default model'}", fix)
    from runtime.embedding.contract import EmbeddingError
    from runtime.embedding.local_files import locate, verify
    from runtime.embedding.local_model import LocalEmbedder

    try:
        folder = locate(chosen.path, situation.environ)
        verify(folder)
        LocalEmbedder(folder).embed_query("one sentence")
    except (EmbeddingError, OSError) as error:
        return Finding("embedder", False, str(error), "thalweg setup")
    return Finding("embedder", True, f"loads without the network from {folder}")


def sentence_model(situation: Situation) -> Finding:
    """spaCy finds `en_core_web_sm` by name, as the parsers ask for it: else they would download it at run time."""
    code = "import pathlib; from streams.parsing.sentences import load_models; load_models(pathlib.Path.cwd())"
    fix = "Install the parsers with their model: pip install 'thalweg[parse]'"
    with tempfile.TemporaryDirectory() as folder:
        env = {**situation.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        try:
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True,
                timeout=MODEL_TIMEOUT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Finding("sentence model", False, f"not loaded after {MODEL_TIMEOUT_S} s", fix)
    if done.returncode != 0:
        return Finding("sentence model", False, (done.stderr.strip().splitlines() or ["it does not load"])[-1], fix)
    return Finding("sentence model", True, "en_core_web_sm loads by name, without the network")


CHECKS: tuple[Check, ...] = (
    disk, tools, parts_made, usual_ports, broker, topics, schema_registry, connect_plugin, source_database,
    vector_store, embedder, sentence_model, dead_letters,
)  # fmt: skip
