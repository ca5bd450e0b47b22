"""The errors of the local stack. Raised by everything in this package, shown to people by `commands`."""

from __future__ import annotations


class LocalStackError(Exception):
    """Something the user must see: `args[0]` says what is wrong and where, `fix` what to do about it."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.args[0]}\n{self.fix}" if self.fix else str(self.args[0])


class SetupError(LocalStackError):
    """A part could not be made, or a tool it needs is missing."""


class ChecksumError(SetupError):
    """A fetched file is not the one that the lock file names. Never used, never kept."""


class StartError(LocalStackError):
    """A server or process did not become ready; `name` is which, `log` its file's last lines."""

    def __init__(self, name: str, what: str, fix: str, log: str = "") -> None:
        super().__init__(what, fix)
        self.name = name
        self.log = log


class NotReadyError(LocalStackError):
    """A probe's answer while a server is not serving yet (or no longer). Expected, retried."""
