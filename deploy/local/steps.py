"""Runs one of the commands that must succeed before our own processes start.

Before: the servers it talks to are ready. After: `supervisor` starts the processes, or reports the failure.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

from deploy.local import apps
from deploy.local.child import Child
from deploy.local.logs import CappedLog
from deploy.local.server import Context, Server

TRIES = 4
TIMEOUT_S = 120.0


async def run_step(step: apps.Step, context: Context, environ: Mapping[str, str], log: CappedLog) -> str:
    """Run it until it succeeds, at most `TRIES` times; returns why it failed at last, empty if it succeeded."""
    words = f"`thalweg {' '.join(step.arguments)}`"
    once = Server(
        name=step.name, command=apps.command(step.arguments), probe=lambda: None,
        env=apps.environment(context), inherit_env=True, folder=context.home.run,
    )  # fmt: skip
    reason = ""
    for attempt in range(1, TRIES + 1):
        log.write(f"--- {words}, try {attempt} of {TRIES}\n".encode())
        child = await Child.start(once, log, environ)
        try:
            status = await asyncio.wait_for(child.wait(), TIMEOUT_S)
            reason = f"{words} ended with status {status}" if status else ""
        except TimeoutError:
            reason = f"{words} was not done after {TIMEOUT_S:.0f} s"
        finally:
            if not child.ended:
                child.kill()
        if not reason:
            return ""
        if attempt < TRIES:
            await asyncio.sleep(random.uniform(0.5, 1) * 2 ** (attempt - 1))  # noqa: S311 - jitter
    return reason
