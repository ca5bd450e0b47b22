"""Every setting: its default, its unit, and why. Grouped by concern; unknown names are refused.

Where a value comes from, the first that gives it: environment `THALWEG_<SECTION>__<NAME>` (or `..._FILE`, a file that
holds it), `thalweg.toml` in the working folder (or THALWEG_CONFIG), the running local stack's state file, the default.
Nothing is read at import: `load_settings()` reads.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError

from runtime.settings_answer_cache import AnswerCache
from runtime.settings_answering import Answer, Prices
from runtime.settings_identity import Login, OAuth
from runtime.settings_privacy import Privacy
from runtime.settings_section import Section as _Section


class SettingsError(ValueError):
    """A setting that is unknown or wrong; the text names it, where it came from, and what is allowed."""


class Kafka(_Section):
    """The broker."""

    bootstrap: str = "127.0.0.1:9092"
    message_max_bytes: int = Field(
        41_943_040, description="Largest record (40 MiB): a 25 MB text file as one document."
    )
    request_timeout_s: float = Field(30, description="Longest wait for one delivery or admin call.")


class Registry(_Section):
    """The schema registry (any that speaks the Confluent API)."""

    url: str = "http://127.0.0.1:8081/apis/ccompat/v7"


class Connect(_Section):
    """Kafka Connect's REST API. registry_url is Apicurio's own API, which the Avro converter in Connect speaks."""

    url: str = "http://127.0.0.1:8083"
    registry_url: str = "http://127.0.0.1:8081/apis/registry/v2"


class Weaviate(_Section):
    """The vector store."""

    url: str = "http://127.0.0.1:8080"
    grpc: str = Field("127.0.0.1:50051", description="host:port; searches and batches go this way.")
    api_key: SecretStr | None = None
    timeout_s: float = Field(30, description="Longest wait for one call; a batch of 100 chunks takes well under 1 s.")


class Postgres(_Section):
    """The local stack's database: the demo's source, and the scenarios'. Your sources name their own."""

    dsn: SecretStr | None = None


class Blobs(_Section):
    """Where uploaded files lie. A URL that fsspec understands: a folder, or `s3://bucket/prefix`."""

    url: str = Field("", description="Empty: `<home>/blobs`.")


class Embedding(_Section):
    """The model that turns text into vectors, for indexing and asking alike."""

    provider: Literal["local", "cohere", "openai"] = "local"
    url: str | None = Field(None, description="Another address than the vendor's own.")
    model: str | None = Field(None, description="None: the provider's default.")
    api_key: SecretStr | None = None
    dimension: int | None = Field(None, description="None: what the model gives.")
    batch_size: int = Field(32, ge=1, le=96, description="Texts in one call; 96 is Cohere's limit.")
    threads: int = Field(1, ge=1, description="Of the local model; 2 threads give 1.75 times the speed of 1.")
    timeout_s: float = Field(30, description="Longest wait for one call.")
    path: Path | None = Field(None, description="The built local model; None: in the cache.")
    trusted: bool = Field(False, description="It runs on machines of yours: restricted documents may be sent to it.")


class Rerank(_Section):
    """The model that orders hits anew. openai: a server with `POST /rerank`, as vLLM, Infinity, llama.cpp, Jina."""

    provider: Literal["none", "cohere", "openai"] = "none"
    url: str | None = Field(None, description="Another address than Cohere's own; openai has none of its own.")
    model: str | None = Field(None, description="None: the provider's default; openai has none.")
    api_key: SecretStr | None = None
    timeout_s: float = Field(
        3, gt=0, description="Longest wait: it is part of a search, which then keeps its own order."
    )
    candidates: int = Field(50, ge=1, le=100, description="Hits the model chooses among; more cost time and money.")
    trusted: bool = Field(False, description="It runs on machines of yours: restricted documents may be sent to it.")


class UploadApi(_Section):
    """The upload API."""

    host: str = "127.0.0.1"
    port: int = 8001
    max_bytes: int = Field(26_214_400, description="Largest file (25 MiB).")
    require_idempotency_key: bool = Field(False, description="Whether an upload without Idempotency-Key is refused.")
    spool: Path | None = Field(None, description="Where files wait while they are received; None: `<home>/spool`.")


class QueryApi(_Section):
    """The query API."""

    host: str = "127.0.0.1"
    port: int = 8000
    max_query_length: int = Field(1000, description="Characters.")
    max_limit: int = Field(100, description="Most hits one search may ask for.")
    per_document: int = Field(5, ge=0, description="Most hits of one document unless asked otherwise; 0: any number.")
    per_source: int = Field(0, ge=0, description="Most hits of one source unless asked otherwise; 0: any number.")
    slow_query_ms: int = Field(3000, description="Above this a query is logged as slow.")
    at_once: int | None = Field(
        None,
        ge=1,
        description="Searches side by side; beyond them the tenants take turns. Absent: 8; with the local model one "
        "for each processor, from 2 to 8.",
    )
    waiting_per_tenant: int = Field(100, ge=1, description="Searches of a tenant that wait for a turn; more get 429.")
    longest_turn_s: float = Field(5, gt=0, description="Longest wait for a turn; then 429.")


def _listed(given: object) -> object:
    """The environment has no lists: commas stand between."""
    return [part.strip() for part in given.split(",") if part.strip()] if isinstance(given, str) else given


def _origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?", origin):
            raise ValueError(f"{origin!r} is no origin such as https://app.example.com; `*` is not allowed")
    return origins


class Web(_Section):
    """What both APIs allow browsers."""

    cors_origins: Annotated[tuple[str, ...], BeforeValidator(_listed), AfterValidator(_origins)] = Field(
        (), description="Origins of web pages that may call the APIs, with commas between; by default none."
    )
    docs: bool = Field(True, description="Serve /docs and /openapi.json, to anyone.")


class Parse(_Section):
    """Files are parsed in child processes with these limits."""

    timeout_s: float = Field(60, description="One file's deadline; then its process is killed.")
    memory_bytes: int = Field(2_147_483_648, description="Address space of a child (2 GiB): spaCy alone maps 1 GiB.")
    max_text_bytes: int = Field(33_554_432, description="Longest text of one document (32 MiB): fits into one record.")
    processes: int = Field(1, ge=1, description="Children at work side by side.")


class Index(_Section):
    """The index stage."""

    batch_documents: int = Field(100, ge=1, description="Changes taken at once; more wait in Kafka.")
    batch_within_s: float = Field(
        0.05, description="How long a first change waits for company: it is part of freshness."
    )


class Lanes(_Section):
    """What goes to the bulk lane of the index stage, so that nobody's single edit waits for it."""

    large_text: int = Field(250_000, ge=1, description="Characters above which a document is bulk: about 300 chunks.")
    burst: int = Field(200, ge=1, description="Changes of one source at once that are still live.")
    per_second: float = Field(20, gt=0, description="Changes of one source a second that stay live.")
    load_per_second: float = Field(
        500, gt=0, description="Records of one topic that a capture worker reads in a second; more of a load waits."
    )
    bulk_nice: int = Field(10, ge=0, le=19, description="By how much a bulk worker gives way to other processes.")


class Stage(_Section):
    """What all stages share."""

    attempts: int = Field(5, ge=1, description="Tries of one change before it is parked, where the error may pass.")
    retry_max_s: float = Field(
        10, description="Longest wait between two tries: so late at most is a part that came back noticed."
    )
    dead_letters_per_minute: int = Field(
        600, ge=1, description="With so many the stage stops: a bad deploy must not park all."
    )
    dead_letters_per_hour: int = Field(
        3000, ge=1, description="Likewise; the letters before a restart count, so that restarts do not add to it."
    )
    watchdog_s: float = Field(600, description="A worker that makes no progress for so long, though it could, ends.")
    session_timeout_s: float = Field(45, description="Consumer group session; a killed worker's share moves after it.")


class Metrics(_Section):
    """Health and metrics of a worker, on a port of its own."""

    host: str = "127.0.0.1"
    port: int = Field(0, description="0: a free one, printed at start.")


class LagExporter(_Section):
    """The exporter of queue depth: alive when workers are dead."""

    host: str = "127.0.0.1"
    port: int = 9308
    interval_s: float = 2


class Access(_Section):
    """Who may do what. demo_key_file holds the API key of the local stack's administrator, where there is one."""

    demo_key_file: Path | None = None
    longest_key_days: int = Field(365, ge=1, description="Longest life of a key whose maker is no admin.")


class Limits(_Section):
    """Requests a minute to each API; 0: no limit. Beyond them callers get 429 with `Retry-After`."""

    per_user: int = Field(60, ge=0, description="Of one user's tokens.")
    per_key: int = Field(100, ge=0, description="Of one API key.")
    per_tenant: int = Field(1000, ge=0, description="Of all users and keys of a tenant together.")
    per_administrator: int = Field(
        0, ge=0, description="Of one administrator's key or tokens, which count for no tenant: operators load in bulk."
    )
    burst: int = Field(10, ge=0, description="So many more are let through in a minute before any is refused.")
    url: SecretStr | None = Field(
        None, description="`redis://` or `valkey://` where replicas count together; None: each counts for itself."
    )


class Settings(_Section):
    """The root. home holds the local stack's data; tenant is who local commands act for."""

    home: Path
    tenant: str = "default"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    kafka: Kafka = Kafka()
    registry: Registry = Registry()
    connect: Connect = Connect()
    weaviate: Weaviate = Weaviate()
    postgres: Postgres = Postgres()
    blobs: Blobs = Blobs()
    embedding: Embedding = Embedding()
    rerank: Rerank = Rerank()
    answer: Answer = Answer()
    prices: Prices = Prices()
    answer_cache: AnswerCache = AnswerCache()
    upload: UploadApi = UploadApi()
    query: QueryApi = QueryApi()
    web: Web = Web()
    parse: Parse = Parse()
    index: Index = Index()
    lanes: Lanes = Lanes()
    stage: Stage = Stage()
    metrics: Metrics = Metrics()
    lag_exporter: LagExporter = LagExporter()
    access: Access = Access()
    privacy: Privacy = Privacy()
    limits: Limits = Limits()
    oauth: OAuth = OAuth()
    login: Login = Login()

    @property
    def blobs_url(self) -> str:
        """Where blobs lie, the default resolved."""
        return self.blobs.url or str(self.home / "blobs")

    @property
    def spool(self) -> Path:
        """Where uploads are received, the default resolved."""
        return self.upload.spool or self.home / "spool"


_PREFIX = "THALWEG_"
_OWN = {"API", "CACHE", "CONFIG", "TEST", "DEMO"}
"""First words of variables that are ours but no settings: a caller's API key, the cache, the settings file, tests."""


def default_home(environment: Mapping[str, str]) -> Path:
    """`THALWEG_HOME`, else `$XDG_DATA_HOME/thalweg`, else `~/.local/share/thalweg`."""
    if given := environment.get("THALWEG_HOME"):
        return Path(given).expanduser().resolve()
    data = environment.get("XDG_DATA_HOME") or str(Path(environment.get("HOME", "~")).expanduser() / ".local/share")
    return Path(data) / "thalweg"


def stack_state_file(home: Path) -> Path:
    """Where the local stack's supervisor writes the addresses of what runs."""
    return home / "run" / "stack.json"


def load_settings(environment: Mapping[str, str] | None = None, *, folder: Path | None = None) -> Settings:
    """The settings of this process. Raises SettingsError. environment and folder default to the process's own."""
    return load_with_origin(environment, folder=folder)[0]


def load_with_origin(
    environment: Mapping[str, str] | None = None, *, folder: Path | None = None
) -> tuple[Settings, dict[str, str]]:
    """The settings, and for each `section.name` that is not a default, where its value came from."""
    environment = os.environ if environment is None else environment
    home = default_home(environment)
    layers = [
        (f"local stack ({stack_state_file(home)})", _from_stack(home)),
        _from_file(environment, folder or Path.cwd()),
        ("environment", _from_environment(environment)),
    ]
    merged: dict[str, Any] = {"home": home}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        for section, values in layer.items():
            if not isinstance(values, dict):
                merged[section], origins[section] = values, origin
                continue
            for name, value in values.items():
                merged.setdefault(section, {})[name] = value
                origins[f"{section}.{name}"] = origin
    try:
        return Settings.model_validate(merged), origins
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False, include_input=False):
            name = ".".join(str(part) for part in problem["loc"])
            lines.append(f"{name} (from {origins.get(name, 'the defaults')}): {problem['msg']}")
        raise SettingsError("; ".join(lines)) from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable, raw in environment.items():
        if not variable.startswith(_PREFIX) or variable == "THALWEG_HOME":
            continue
        path = variable.removeprefix(_PREFIX).lower().split("__")
        if path[0].split("_")[0].upper() in _OWN:
            continue
        value = raw
        if path[-1].endswith("_file") and not _is_setting(path):
            path[-1] = path[-1].removesuffix("_file")
            try:
                value = Path(raw).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise SettingsError(f"{variable}: cannot read {raw}: {error.strerror}") from error
        if not _is_setting(path):
            raise SettingsError(f"{variable}: no such setting; `thalweg config show` lists them all")
        if len(path) == 1:
            found[path[0]] = value
        else:
            found.setdefault(path[0], {})[path[1]] = value
    return found


def _is_setting(path: list[str]) -> bool:
    field = Settings.model_fields.get(path[0])
    if field is None or len(path) > 2:
        return False
    kind = field.annotation
    section = isinstance(kind, type) and issubclass(kind, _Section)
    return (len(path) == 1) != section and (len(path) == 1 or path[1] in kind.model_fields)  # type: ignore[union-attr]


def _from_file(environment: Mapping[str, str], folder: Path) -> tuple[str, dict[str, Any]]:
    given = environment.get("THALWEG_CONFIG")
    file = Path(given) if given else folder / "thalweg.toml"
    if not given and not file.exists():
        return "file", {}
    try:
        return str(file), tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{file}: {error}") from error


def _from_stack(home: Path) -> dict[str, Any]:
    """What the running local stack gives: the section `settings` of its state file."""
    try:
        state = json.loads(stack_state_file(home).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    given = state.get("settings", {})
    return given if isinstance(given, dict) else {}
