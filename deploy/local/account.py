"""Who runs the database when root starts the stack, and where that account can get to.

Before: nothing. After: `postgres` (whose server refuses to be root) and `parts` (whose programs it must reach).
"""

from __future__ import annotations

import pwd
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import LocalStackError


@dataclass(frozen=True)
class Account:
    """A Unix account."""

    name: str
    uid: int
    gid: int


def account_for(euid: int) -> Account | None:
    """None for an ordinary user, who runs the database himself; for root the account that runs it instead."""
    if euid != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise LocalStackError(
        "PostgreSQL must not run as root, and this machine has neither an account `postgres` nor `nobody`.",
        "Make one (useradd --system postgres), or start the stack as an ordinary user.",
    )


def can_reach(folder: Path, account: Account) -> bool:
    """Whether the account may pass through `folder` and all above it; what does not exist yet is no hindrance."""
    for step in (folder, *folder.parents):
        if not step.exists():
            continue
        found = step.stat()
        shift = 6 if found.st_uid == account.uid else 3 if found.st_gid == account.gid else 0
        if not (found.st_mode >> shift) & 1:
            return False
    return True
