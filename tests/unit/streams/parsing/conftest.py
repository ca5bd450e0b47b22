from collections.abc import AsyncIterator

import pytest_asyncio

from streams.parsing.pool import ParserPool


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def pool() -> AsyncIterator[ParserPool]:
    """One warm child for all tests of this folder: warming takes seconds. Its limits are low enough to be met."""
    async with ParserPool(memory_bytes=600_000_000, max_text_bytes=5_000_000) as warm:
        yield warm
