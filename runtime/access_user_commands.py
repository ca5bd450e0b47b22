"""`thalweg access users`: people who log in here, and names that stay outside. After it: `access_changes.py`.

Before it: a terminal. A password is typed, or comes on standard input; it is never an argument, which others can see.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from runtime.access import Role
from runtime.access_entries import Grant
from runtime.access_session import AccessSession, access_session, failed, show
from runtime.audit_commands import shown
from runtime.settings import Settings

users = typer.Typer(no_args_is_help=True, help="People who log in here.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="The user's name.")]
PasswordFromStdin = Annotated[bool, typer.Option("--password-stdin", help="The password is on standard input.")]


@users.command("list")
def list_users(context: typer.Context, as_json: AsJson = False) -> None:
    """The tenant's users."""
    with access_session(context) as session:
        found = [_user(session, user.name) for user in session.changes.state.users(session.tenant)]
    lines = [shown(f"{item['name']:24} {'blocked' if item['blocked'] else '':8} {item['groups']}") for item in found]
    show({"users": found}, as_json=as_json, lines=lines)


@users.command("put")
def put_user(
    context: typer.Context,
    name: Name,
    *,
    group: Annotated[list[str] | None, typer.Option(help="A group it is in; may be given again.")] = None,
    role: Annotated[Role, typer.Option(help="In every knowledge base, for one that is new.")] = "viewer",
    as_json: AsJson = False,
) -> None:
    """Make a user (then give it a password), or say anew which groups one is in."""
    with access_session(context) as session:
        changes, tenant = session.changes, session.tenant
        new = changes.state.user(tenant, name) is None

        def put() -> None:
            user = changes.put_user(tenant, name, group or ())
            if new:
                changes.grant(None, Grant(tenant, "*", user.name, role))

        session.change("access.users.put", name, put, groups=" ".join(group or ()))
        found = _user(session, name)
    more = [f"give it a password: thalweg access users password {name}"] if new else []
    show(found, as_json=as_json, lines=[f"{name} is in {found['groups'] or 'no group'}", *more])


@users.command("password")
def set_password(
    context: typer.Context, name: Name, *, password_stdin: PasswordFromStdin = False, as_json: AsJson = False
) -> None:
    """Give a user a password; its sessions so far end."""
    from runtime.identity.passwords import Passwords

    try:
        hashed = Passwords().hash(_password(from_stdin=password_stdin))
    except ValueError as error:
        raise failed(str(error)) from error
    with access_session(context) as session:
        session.change(
            "access.users.password", name, lambda: session.changes.set_password(session.tenant, name, hashed)
        )
    show({"name": name, "password": "set"}, as_json=as_json, lines=[f"{name} has a new password"])


@users.command("second-factor")
def set_second_factor(
    context: typer.Context,
    name: Name,
    *,
    remove: Annotated[bool, typer.Option(help="Take it away.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give a user a second factor, and print what its authenticator app reads, this once."""
    from runtime.identity.passwords import new_second_factor, second_factor_uri

    with access_session(context) as session:
        secret = None if remove else new_second_factor()
        sealed = None if secret is None else _seal(session.settings, secret)
        session.change(
            "access.users.second-factor",
            name,
            lambda: session.changes.set_second_factor(session.tenant, name, sealed),
            done="removed" if remove else "set",
        )
        issuer = session.settings.login.issuer
    if secret is None:
        show({"name": name, "uri": None}, as_json=as_json, lines=[f"{name} has no second factor"])
        return
    uri = second_factor_uri(secret, user=name, issuer=issuer)
    show({"name": name, "uri": uri, "secret": secret}, as_json=as_json, lines=[uri])


@users.command("block")
def block(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Let nobody of this name in: sessions, tokens and keys that act for it end. Also one of the identity provider."""
    _set_blocked(context, name, blocked=True, as_json=as_json)


@users.command("unblock")
def unblock(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Let a name in again."""
    _set_blocked(context, name, blocked=False, as_json=as_json)


def _set_blocked(context: typer.Context, name: str, *, blocked: bool, as_json: bool) -> None:
    with access_session(context) as session:
        session.change(
            f"access.users.{'block' if blocked else 'unblock'}",
            name,
            lambda: session.changes.block_user(session.tenant, name, blocked=blocked),
        )
    show({"name": name, "blocked": blocked}, as_json=as_json, lines=[f"{name} {'stays out' if blocked else 'may in'}"])


def _user(session: AccessSession, name: str) -> dict[str, Any]:
    state, tenant = session.changes.state, session.tenant
    user = state.user(tenant, name)
    groups = [] if user is None else list(user.groups)
    return {
        "name": name,
        "groups": groups,
        "roles": state.roles(tenant, [name, *groups]),
        "blocked": state.blocked(tenant, name),
        "password": state.password(tenant, name) is not None,
        "second_factor": state.second_factor(tenant, name) is not None,
    }


def _seal(settings: Settings, secret: str) -> str:
    from runtime.identity.signing import signing_of

    signing = signing_of(settings)
    if signing is None:
        raise failed("there is no secret to seal it with: set THALWEG_LOGIN__SECRET_FILE, the same as the query API's")
    return signing.seal(secret)


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise failed("there is no terminal to type a password at: send it with --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
