"""The upload API's app behind its real uvicorn, in a process of its own: `python -m ...served FOLDER [FILE_LIMIT]`.

Prints its port. Kafka and keys are those of `world.py`; times are short: a second without bytes, or below the rate, is
too slow. FILE_LIMIT (bytes) is the largest file that the process may write: a disk that gets full.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
from pathlib import Path

import uvicorn

from connectors.upload_api.main import served_as
from runtime.web.request_head import HeadTimeout
from tests.unit.connectors.upload_api.world import upload_world

MAX_BYTES = 33_554_432


async def serve(folder: Path) -> None:
    """Serve until killed."""
    HeadTimeout.head_s = 1.0
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        async with upload_world(folder, max_bytes=MAX_BYTES, idle_s=1.0, grace_s=1.0, linger_s=2.0) as world:
            config = served_as("127.0.0.1", 0)
            config.app = world.app
            print(listening.getsockname()[1], flush=True)
            await uvicorn.Server(config).serve(sockets=[listening])


if __name__ == "__main__":
    if len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    asyncio.run(serve(Path(sys.argv[1])))
