"""Every metric, declared once: names, labels, buckets. Before it: nothing; after it: whoever counts, and `/metrics`.

The names are promises to dashboards and alerts. Take `metrics()` in a process's main and pass it on; tests make their
own with `declare(CollectorRegistry())`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from runtime.breaker import STATES, State

PREFIX = "thalweg"

FRESHNESS_BUCKETS = (
    *(0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0),
    *(15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0),
)
"""Seconds. Fine where the promise lies (0.1 to 10 s), so that a p95 read from them is off by a quarter at most."""

DURATION_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60)
"""Seconds."""

RESULT_BUCKETS = (0, 1, 2, 3, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Metrics:
    """All of them. The registry is the one they are declared on: `/metrics` prints it."""

    registry: CollectorRegistry
    queue_depth: Gauge  # {stage}: records; from the lag exporter
    queue_seconds: Gauge  # {stage}: age of the oldest record not yet done; from the lag exporter
    freshness_seconds: Histogram  # {source}: its name, events or uploads; source commit to searchable
    documents: Counter  # {stage, outcome}
    chunks: Counter  # {outcome}: embedded, reused, deleted
    embedding_calls: Counter
    embedding_texts: Counter
    embedding_tokens: Counter
    cost_dollars: Counter  # {kind, model}
    query_duration_seconds: Histogram  # {route}
    retrieval_duration_seconds: Histogram
    generation_duration_seconds: Histogram
    query_results: Histogram  # hits of one search
    cache_requests: Counter  # {outcome}: hit, miss, error (the store failed: a miss)
    dead_letters: Counter  # {stage, reason}
    dead_letter_budget: Gauge  # {stage}: letters that may still be written now; 0: the stage stands still
    retries: Counter  # {stage, class}: rounds in which records had to wait: later, configuration, defect
    index_objects: Gauge  # {kind}: chunk, manifest, retired
    http_requests: Counter  # {method, route, status}
    audit_entries: Counter  # {kind, outcome}: written, dropped
    rate_limited: Counter  # {limit}: key, user, tenant, administrator
    feedback_rating: Histogram  # 1 to 5
    user_satisfaction_score: Gauge  # mean of the ratings this process took
    searches_waiting: Gauge  # for a turn, of all tenants
    circuit_state: Gauge  # {part}: 0 closed, 1 half-open, 2 open

    def circuit_told(self, part: str, state: State) -> None:
        """Show a breaker's state; what a Breaker is given as `told`."""
        self.circuit_state.labels(part=part).set(STATES.index(state))


def declare(registry: CollectorRegistry) -> Metrics:
    """Declare all metrics on this registry. Raises ValueError if they are on it already."""

    def counter(name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, labels, registry=registry)

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", text, labels, registry=registry)

    def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", text, labels, registry=registry, buckets=buckets)

    return Metrics(
        registry=registry,
        queue_depth=gauge("queue_depth", "Records waiting before a stage.", "stage"),
        queue_seconds=gauge("queue_seconds", "Age of the oldest record waiting before a stage.", "stage"),
        freshness_seconds=histogram(
            "freshness_seconds", "From the source's commit to searchable.", FRESHNESS_BUCKETS, "source"
        ),
        documents=counter("documents_total", "Changes that a stage ended, by outcome.", "stage", "outcome"),
        chunks=counter("chunks_total", "Chunks by what became of them.", "outcome"),
        embedding_calls=counter("embedding_calls_total", "Calls to the embedding model."),
        embedding_texts=counter("embedding_texts_total", "Texts sent to the embedding model."),
        embedding_tokens=counter("embedding_tokens_total", "Tokens the embedding model counted."),
        cost_dollars=counter("cost_dollars_total", "Money spent on models, by the configured prices.", "kind", "model"),
        query_duration_seconds=histogram(
            "query_duration_seconds", "Search and question requests, whole.", DURATION_BUCKETS, "route"
        ),
        retrieval_duration_seconds=histogram(
            "retrieval_duration_seconds", "Finding hits: query embedding, search, manifests.", DURATION_BUCKETS
        ),
        generation_duration_seconds=histogram("generation_duration_seconds", "Writing an answer.", DURATION_BUCKETS),
        query_results=histogram("query_results", "Hits of one search.", RESULT_BUCKETS),
        cache_requests=counter("cache_requests_total", "Look-ups in the answer cache.", "outcome"),
        dead_letters=counter("dead_letters_total", "Records parked, by stage and reason.", "stage", "reason"),
        dead_letter_budget=gauge(
            "dead_letter_budget", "Dead letters that a worker may still write now; at 0 it stands still.", "stage"
        ),
        retries=counter("retries_total", "Rounds in which records had to wait, by why.", "stage", "class"),
        index_objects=gauge("index_objects", "Objects in the live generation.", "kind"),
        http_requests=counter("http_requests_total", "HTTP requests answered.", "method", "route", "status"),
        audit_entries=counter(
            "audit_entries_total", "Audit entries by what became of them: written, dropped.", "kind", "outcome"
        ),
        rate_limited=counter("rate_limited_total", "Requests refused as too many, by whose limit.", "limit"),
        feedback_rating=histogram("feedback_rating", "Ratings of answers, 1 to 5.", (1, 2, 3, 4, 5)),
        user_satisfaction_score=gauge("user_satisfaction_score", "Mean rating that this process took since its start."),
        searches_waiting=gauge("searches_waiting", "Searches that wait for their tenant's turn."),
        circuit_state=gauge("circuit_state", "Circuit breakers: 0 closed, 1 half-open, 2 open.", "part"),
    )


@cache
def metrics() -> Metrics:
    """This process's metrics, on prometheus_client's own registry; for mains, which pass it on."""
    return declare(REGISTRY)


def total(counter: Counter) -> float:
    """The sum over a counter's labels."""
    return sum(
        sample.value for family in counter.collect() for sample in family.samples if sample.name.endswith("_total")
    )
