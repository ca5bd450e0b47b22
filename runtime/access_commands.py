"""`thalweg access users|keys|bases`: who may ask, for what. Before it: a terminal. After it: `access_changes.py`."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, get_args

import typer

from runtime.access import SCOPES, ApiKey, KnowledgeBase, Role
from runtime.access_changes import LONGEST_OVERLAP_S, KeyWanted
from runtime.access_entries import Grant
from runtime.access_session import access_session, show
from runtime.access_user_commands import users
from runtime.audit_commands import shown
from runtime.clock import now_ms
from runtime.privacy.policy import Policy, PolicyRefused

app = typer.Typer(no_args_is_help=True, help="Users, API keys, knowledge bases, roles.")
keys = typer.Typer(no_args_is_help=True, help="API keys.")
bases = typer.Typer(no_args_is_help=True, help="Knowledge bases, and who has which role in them.")
app.add_typer(users, name="users")
app.add_typer(keys, name="keys")
app.add_typer(bases, name="bases")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
KeyId = Annotated[str, typer.Argument(help="As `thalweg access keys list` shows it.")]
Base = Annotated[str, typer.Argument(help="The knowledge base; '*' is every one, for roles.")]
Who = Annotated[str, typer.Argument(help="A user or a group.")]
AbsentAccess = Annotated[
    Literal["everyone", "nobody"] | None, typer.Option(help="Who reads documents without an access list.")
]
Filterable = Annotated[list[str] | None, typer.Option(help="A metadata key to filter on; may be given again.")]
PolicyJson = Annotated[str | None, typer.Option("--policy", help='Personal data, as JSON: \'{"mask": ["email"]}\'.')]

_DAY_S = 86_400


@keys.command("list")
def list_keys(context: typer.Context, as_json: AsJson = False) -> None:
    """The tenant's keys, those that ended included."""
    with access_session(context) as session:
        found = session.changes.keys(None, session.tenant)
    show({"keys": [_key(key) for key in found]}, as_json=as_json, lines=[_key_line(key) for key in found])


@keys.command("create")
def create_key(
    context: typer.Context,
    *,
    subject: Annotated[str, typer.Option(help="Whom it acts for: a user, or a name of its own for a program.")],
    scope: Annotated[list[str], typer.Option(help="ingest, query or admin; may be given again.")],
    role: Annotated[list[str] | None, typer.Option(help="BASE=ROLE, or ROLE for all; absent: as scopes need.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="A group it is in; may be given again.")] = None,
    days: Annotated[int | None, typer.Option(min=1, max=36_500, help="How long it counts; absent: for ever.")] = None,
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once: only its hash is stored."""
    life_s = None if days is None else days * _DAY_S
    if unknown := sorted(set(scope) - set(SCOPES)):
        raise typer.BadParameter(f"--scope {unknown[0]!r}: use some of {', '.join(SCOPES)}")
    scopes = tuple(name for name in SCOPES if name in scope)
    wanted = KeyWanted(scopes, subject, _roles(role), tuple(group or ()), life_s, note)
    with access_session(context) as session:
        made = session.change(
            "access.keys.create",
            subject,
            lambda: session.changes.make_key(None, session.tenant, wanted),
            scopes=" ".join(scopes),
        )
    show({**_key(made.key), "key": made.secret}, as_json=as_json, lines=[made.secret])


@keys.command("rotate")
def rotate_key(
    context: typer.Context,
    key_id: KeyId,
    *,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=LONGEST_OVERLAP_S // 3600, help="How long the old one still counts.")
    ] = 24,
    as_json: AsJson = False,
) -> None:
    """Print a new key for the same; the old one counts a while longer."""
    with access_session(context) as session:
        made = session.change(
            "access.keys.rotate",
            key_id,
            lambda: session.changes.rotate_key(None, session.tenant, key_id, overlap_s=overlap_hours * 3600),
        )
    show({**_key(made.key), "key": made.secret}, as_json=as_json, lines=[made.secret])


@keys.command("revoke")
def revoke_key(context: typer.Context, key_id: KeyId, as_json: AsJson = False) -> None:
    """End a key, for ever. Keys that it was rotated into stay, and are named."""
    with access_session(context) as session:
        left = session.change(
            "access.keys.revoke", key_id, lambda: session.changes.revoke_key(None, session.tenant, key_id)
        )
    names = [key.id for key in left]
    lines = [f"{key_id} is revoked", *(f"{name} took its place and still counts" for name in names)]
    show({"id": key_id, "replaced_by": names}, as_json=as_json, lines=lines)


@bases.command("list")
def list_bases(context: typer.Context, as_json: AsJson = False) -> None:
    """The tenant's knowledge bases."""
    with access_session(context) as session:
        found = session.changes.state.bases(session.tenant)
    show({"knowledge_bases": [_base(base) for base in found]}, as_json=as_json, lines=[_base_line(b) for b in found])


@bases.command("create")
def create_base(
    context: typer.Context,
    name: Base,
    *,
    absent_access: AbsentAccess = None,
    filterable: Filterable = None,
    policy: PolicyJson = None,
    as_json: AsJson = False,
) -> None:
    """Make a knowledge base."""
    with access_session(context) as session:
        wanted = _said(KnowledgeBase(session.tenant, name), absent_access, filterable, policy)
        made = session.change("access.bases.create", name, lambda: session.changes.make_base(None, wanted))
    show(_base(made), as_json=as_json, lines=[_base_line(made)])


@bases.command("set")
def set_base(
    context: typer.Context,
    name: Base,
    *,
    absent_access: AbsentAccess = None,
    filterable: Filterable = None,
    policy: PolicyJson = None,
    as_json: AsJson = False,
) -> None:
    """Change a knowledge base; what is not named stays as it is."""
    with access_session(context) as session:
        known = session.changes.state.base(session.tenant, name) or KnowledgeBase(session.tenant, name)
        wanted = _said(known, absent_access, filterable, policy)
        made = session.change("access.bases.set", name, lambda: session.changes.change_base(None, wanted))
    show(_base(made), as_json=as_json, lines=[_base_line(made)])


@bases.command("roles")
def roles(context: typer.Context, name: Base, as_json: AsJson = False) -> None:
    """Who has which role in a knowledge base."""
    with access_session(context) as session:
        found = session.changes.state.grants(session.tenant, name)
    lines = [f"{grant.role:8} {shown(grant.who)}" for grant in found]
    show({"roles": {grant.who: grant.role for grant in found}}, as_json=as_json, lines=lines)


@bases.command("grant")
def grant(
    context: typer.Context, name: Base, who: Who, role: Annotated[Role, typer.Argument()], as_json: AsJson = False
) -> None:
    """Give a user or a group a role in a knowledge base."""
    with access_session(context) as session:
        given = Grant(session.tenant, name, who, role)
        session.change("access.bases.grant", name, lambda: session.changes.grant(None, given), who=who, role=role)
    show({"base": name, "who": who, "role": role}, as_json=as_json, lines=[f"{who} is {role} in {name}"])


@bases.command("withdraw")
def withdraw(context: typer.Context, name: Base, who: Who, as_json: AsJson = False) -> None:
    """Take a role back."""
    with access_session(context) as session:
        session.change(
            "access.bases.withdraw", name, lambda: session.changes.withdraw(None, session.tenant, name, who), who=who
        )
    show({"base": name, "who": who, "role": None}, as_json=as_json, lines=[f"{who} has no role of its own in {name}"])


def _said(
    base: KnowledgeBase, absent_access: Literal["everyone", "nobody"] | None, filterable: list[str] | None,
    policy: str | None,
) -> KnowledgeBase:  # fmt: skip
    """The knowledge base with what the options say."""
    found = base.policy
    if policy is not None:
        try:
            found = Policy.from_json(json.loads(policy))
        except (PolicyRefused, ValueError, AttributeError) as error:
            raise typer.BadParameter(f"--policy: {error}") from error
    keys_named = base.filterable if filterable is None else tuple(sorted(set(filterable)))
    return KnowledgeBase(base.tenant, base.name, absent_access or base.absent_access, found, keys_named)


def _roles(given: list[str] | None) -> dict[str, Role] | None:
    if given is None:
        return None
    found: dict[str, Role] = {}
    for item in given:
        base, _, name = item.rpartition("=")
        role = next((role for role in get_args(Role) if role == name), None)
        if role is None:
            raise typer.BadParameter(f"--role {item!r}: write BASE=ROLE or ROLE, one of {', '.join(get_args(Role))}")
        found[base or "*"] = role
    return found


def _key(key: ApiKey) -> dict[str, Any]:
    body = {name: value for name, value in vars(key).items() if name not in ("digest", "tenant")}
    return {**body, "active": key.alive(now_ms())}


def _key_line(key: ApiKey) -> str:
    state = "counts" if key.alive(now_ms()) else "ended"
    return shown(f"{key.id}  {state:7} {','.join(key.scopes):20} {key.subject}  {key.note}")


def _base(base: KnowledgeBase) -> dict[str, Any]:
    return {
        "name": base.name,
        "absent_access": base.absent_access,
        "filterable": base.filterable,
        "policy": base.policy.to_json(),
    }


def _base_line(base: KnowledgeBase) -> str:
    return f"{base.name:24} without a list: {base.absent_access:9} {json.dumps(base.policy.to_json())}"
