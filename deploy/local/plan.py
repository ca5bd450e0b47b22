"""What one start of the stack consists of: which servers are ours, which are elsewhere, what runs on top.

Before: `commands` or `stack.start` was asked for something. After: `supervisor` carries it out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.local import apps, connect, kafka, parts, postgres, registry, weaviate
from deploy.local.errors import LocalStackError
from deploy.local.places import Home, replace_file
from deploy.local.ports import DEFAULTS
from deploy.local.server import Context, Server

# In the order in which they are told about; what waits for what is each server's own business.
SERVERS: Mapping[str, Callable[[Context], Server]] = {
    "kafka": kafka.server,
    "registry": registry.server,
    "connect": connect.server,
    "weaviate": weaviate.server,
    "postgres": postgres.server,
}
# A server named by one of these runs elsewhere and is not started; also `..._FILE`, a file that holds the value.
EXTERNAL: Mapping[str, str] = {
    "kafka": "THALWEG_KAFKA__BOOTSTRAP",
    "registry": "THALWEG_REGISTRY__URL",
    "connect": "THALWEG_CONNECT__URL",
    "weaviate": "THALWEG_WEAVIATE__URL",
    "postgres": "THALWEG_POSTGRES__DSN",
}
_ADDRESS_KEY: Mapping[str, str] = {
    "kafka": "bootstrap", "registry": "url", "connect": "url", "weaviate": "url", "postgres": "dsn"
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What is to run. Goes to the supervisor as a file, since it holds places and no code.

    servers: those to start here. external: those that run elsewhere, with their address. parts: where each part
    lies. tied_to: process id of a test run; the stack stops when that process is gone.
    """

    servers: tuple[str, ...]
    external: Mapping[str, str]
    parts: Mapping[str, str]
    with_apps: bool
    usual_ports: bool
    tied_to: int | None = None

    def save(self, file: Path) -> None:
        """Write it for the supervisor; mode 0600, since an address may hold a password."""
        replace_file(file, json.dumps(asdict(self)))


def load(file: Path) -> Plan:
    """Read what `Plan.save` wrote."""
    found = json.loads(file.read_text())
    return Plan(**{**found, "servers": tuple(found["servers"])})


def make(
    environ: Mapping[str, str], only: Iterable[str] | None, *, with_apps: bool, usual_ports: bool, tied_to: int | None
) -> Plan:
    """Decide what runs here. `only` names servers; None means all. `parts` is filled in after set-up.

    Raises `LocalStackError` for a server that does not exist, or for one whose broker is neither started nor named.
    """
    asked = list(SERVERS) if only is None else list(only)
    if unknown := [name for name in asked if name not in SERVERS]:
        raise LocalStackError(f"No such server: {', '.join(unknown)}.", f"There are: {', '.join(SERVERS)}.")
    external = {name: address for name in SERVERS if (address := external_address(name, environ))}
    servers = tuple(name for name in SERVERS if name in asked and name not in external)
    for name in ("registry", "connect"):
        if name in servers and "kafka" not in servers and "kafka" not in external:
            raise LocalStackError(
                f"{name} needs Kafka.", f"Start both (--only kafka,{name}) or name one by {EXTERNAL['kafka']}."
            )
    return Plan(servers, external, {}, with_apps=with_apps, usual_ports=usual_ports, tied_to=tied_to)


def external_address(name: str, environ: Mapping[str, str]) -> str | None:
    """The address that the environment gives for a server that runs elsewhere."""
    variable = EXTERNAL[name]
    if value := environ.get(variable):
        return value
    if file := environ.get(f"{variable}_FILE"):
        return Path(file).read_text().strip()
    return None


def needed_parts(plan: Plan) -> list[str]:
    """The parts that must be there before this plan can start."""
    return parts.parts_of([*plan.servers, *(["apps"] if plan.with_apps else [])])


def port_names(plan: Plan) -> list[str]:
    """Every port that this plan needs, the ones of servers first."""
    names = [port for port in DEFAULTS if port.split("_")[0] in plan.servers]
    if plan.with_apps:
        names += [apps.port_name(app) for app in apps.APPS]
    return names


def context(plan: Plan, home: Home, ports: Mapping[str, int]) -> Context:
    """What servers are described from."""
    return Context(
        home, {name: Path(place) for name, place in plan.parts.items()}, ports, plan.external, plan.tied_to is None
    )


def describe(plan: Plan, given: Context) -> tuple[list[Server], list[Server]]:
    """The servers and our own processes of this plan; a server waits only for what is started here."""
    servers = [SERVERS[name](given) for name in plan.servers]
    if not plan.with_apps:
        return servers, []
    return servers, [apps.server(app, given, plan.servers) for app in apps.APPS]


def external_settings(plan: Plan) -> dict[str, dict[str, object]]:
    """What our own processes are told of servers that run elsewhere."""
    return {name: {_ADDRESS_KEY[name]: address} for name, address in plan.external.items()}


def external_records(plan: Plan) -> dict[str, dict[str, object]]:
    """What `status` shows of servers that run elsewhere."""
    return {
        name: {"state": "external", "pid": None, _ADDRESS_KEY[name]: address} for name, address in plan.external.items()
    }
