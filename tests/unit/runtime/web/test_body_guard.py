from __future__ import annotations

import asyncio

import httpx
from fastapi import FastAPI, Request

from runtime.web import problems
from runtime.web.body_guard import BodyGuard


async def test_bodies_held_in_memory_have_a_sum_and_give_it_back() -> None:
    app, at_work, go_on = FastAPI(), asyncio.Event(), asyncio.Event()
    problems.install(app)

    @app.post("/{path}")
    async def hold(request: Request) -> int:
        size = len(await request.body())
        at_work.set()
        await go_on.wait()
        return size

    app.add_middleware(
        BodyGuard,
        limits={"/streamed": 1000, "*": 80},
        held_bytes=100,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client:
        first = asyncio.create_task(client.post("/a", content=b"x" * 60))
        await asyncio.wait_for(at_work.wait(), 5)

        refused = await client.post("/b", content=b"x" * 60)
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/unavailable")
        assert refused.headers["retry-after"]
        streamed = asyncio.create_task(client.post("/streamed", content=b"x" * 500))
        go_on.set()
        assert [(await answer).status_code for answer in (first, streamed)] == [200, 200]
        assert (await client.post("/b", content=b"x" * 60)).json() == 60
