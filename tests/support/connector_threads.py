"""What a connector's threads are at, for a failure that says "it runs, and nothing comes": a dump of Connect's JVM."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import psutil

from tests.support.product import Product

_FRAMES = 14
_FIRST = ("task-thread", "change-event-source-coordinator", "lsn-flush", "kafka-producer")
"""Parts of names: where a change is converted and handed over, where it is read, where the slot is moved on."""


def threads_of(product: Product, source: str) -> str:
    """The threads whose names tell of this source, each with its innermost frames; or why there is no dump."""
    try:
        java = psutil.Process(int(product.stack.state()["servers"]["connect"]["pid"]))
        jcmd = Path(java.exe()).with_name("jcmd")
        ran = subprocess.run(
            [str(jcmd), str(java.pid), "Thread.print"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, KeyError, psutil.Error, subprocess.SubprocessError) as error:
        return f"no thread dump of Connect: {error!r}"
    named = re.compile(rf'"[^"]*{re.escape(source)}[^"]*"')
    found = [text for text in ran.stdout.split("\n\n") if named.match(text.strip())]
    found.sort(key=lambda text: next((at for at, part in enumerate(_FIRST) if part in text.split("\n", 2)[0]), 9))
    shown = ["\n".join(text.strip().splitlines()[:_FRAMES]) for text in found]
    return "\n\n".join(shown) or f"no thread of Connect has {source} in its name: {ran.stdout[:500]}{ran.stderr[:500]}"
