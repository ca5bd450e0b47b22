"""What a terminal or a script is shown of dead letters. Before this: `commands.py`. After this: people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import typer

from streams.core.letters import Letter, counts

_TEXT = 2000  # characters of one decoded field shown


def row(letter: Letter) -> dict[str, Any]:
    """A letter as JSON shows it; times in ISO 8601."""
    return {
        "id": str(letter.id),
        "at": as_time(letter.at_ms),
        "stage": letter.stage,
        "reason": letter.reason,
        "class": letter.error_class,
        "detail": letter.detail,
        "state": letter.state.value,
        "document": letter.document,
        "topic": letter.first.topic,
        "partition": letter.first.partition,
        "offset": letter.first.offset,
        "record_at": as_time(letter.first_ms),
        "rejected_at": str(letter.rejected) if letter.rejected != letter.first else None,
        "size": letter.size,
        "value_left_out": letter.left_out,
        "settled_by": letter.by,
        "settled_at": None if letter.settled_ms is None else as_time(letter.settled_ms),
        "redriven_to": letter.to,
    }


def hex_dump(value: bytes, most: int) -> str:
    """Offsets, bytes and characters of the first bytes, and how many follow."""
    lines = []
    for at in range(0, min(len(value), most), 16):
        part = value[at : min(at + 16, most)]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{at:08x}  {part.hex(' '):<47}  {text}")
    if len(value) > most:
        lines.append(f"... {len(value) - most} more bytes: --raw FILE writes them all")
    return "\n".join(lines) or "(no bytes)"


def show_table(letters: Sequence[Letter]) -> None:
    """How many by stage and reason, and a line for each: never cut, for ids are to be copied."""
    if not letters:
        print_plain(["No dead letters."])
        return
    numbers = [(of, why, str(number)) for (of, why), number in counts(letters).items()]
    print_plain(aligned([("stage", "reason", "letters"), *numbers]))
    lines = [
        (
            str(letter.id),
            datetime.fromtimestamp(letter.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ"),
            letter.stage,
            letter.reason,
            letter.state.value,
            str(letter.first),
            letter.document or "?",
        )
        for letter in letters
    ]
    print_plain(["", *aligned([("id", "when", "stage", "reason", "state", "record", "document"), *lines])])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines whose columns stand below each other."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def print_plain(lines: Sequence[str]) -> None:
    """To standard output. Names in records are not ours: control characters are shown, not obeyed."""
    for line in lines:
        typer.echo("".join(char if char.isprintable() else repr(char)[1:-1] for char in line))


def shortened(value: Any) -> Any:
    """A decoded value whose long texts are cut."""
    if isinstance(value, Mapping):
        return {key: shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shortened(item) for item in value]
    if isinstance(value, str) and len(value) > _TEXT:
        return f"{value[:_TEXT]}... ({len(value) - _TEXT} more characters)"
    return value


def as_text(value: Any) -> str | None:
    """Bytes as text if they are UTF-8, else as hexadecimal digits."""
    if isinstance(value, bytes):
        with suppress(UnicodeDecodeError):
            return value.decode()
        return value.hex()
    return None if value is None else str(value)


def as_time(at_ms: int) -> str:
    """ISO 8601, UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
