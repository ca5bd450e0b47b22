"""The parsing children as seen from the worker: give a file, get text or the reason why there is none.

Before it: the parse step, with a file on disk and its kind. After it: child.py, in processes of its own.
"""

import asyncio
from pathlib import Path
from types import TracebackType

from runtime.filetypes import Kind
from streams.parsing.result import ParsedText, ParseFailure
from streams.parsing.warm_child import ChildDied, ChildState, ParserUnavailable, WarmChild

__all__ = ["ChildState", "ParserPool", "ParserUnavailable"]

_GRACE_S = 5.0  # the child keeps the deadline itself; this much later it is taken for dead
_ROOM_BYTES = 67_108_864  # what a fork needs of address space besides the libraries, at the least


class ParserPool:
    """Warm parsing processes, each at work on one file at a time.

    A file that hangs, crashes or eats memory ends in a `ParseFailure` and takes nothing else along. A child that is
    killed from outside is replaced, and its file given once more to the new one. Use as an async context manager, or
    call `start` and `close`. Children die with the thread that started them: run the pool's event loop in a thread
    that lives as long as the worker.
    """

    def __init__(
        self,
        *,
        processes: int = 1,
        memory_bytes: int = 2_147_483_648,
        max_text_bytes: int = 33_554_432,
        warm_timeout_s: float = 120.0,
    ) -> None:
        """Nothing is started yet.

        Args:
            processes: files read side by side; each child takes about 260 MB while it waits.
            memory_bytes: address space of a process that reads a file, the libraries' 390 MB included.
            max_text_bytes: longest text of one file, in UTF-8.
            warm_timeout_s: how long a child may take to load the parsers; 3 to 5 s, 10 s and more on a cold disk.
        """
        self._memory_bytes = memory_bytes
        self._max_text_bytes = max_text_bytes
        self._warm_timeout_s = warm_timeout_s
        self._closed = False
        self._children: set[WarmChild] = set()
        # A place holds a warm child or None. Last in, first out: the child that is warm is taken first.
        self._places: asyncio.LifoQueue[WarmChild | None] = asyncio.LifoQueue()
        for _ in range(processes):
            self._places.put_nowait(None)

    @property
    def children(self) -> tuple[ChildState, ...]:
        """The warm children."""
        return tuple(child.state for child in self._children)

    async def __aenter__(self) -> "ParserPool":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Warm all children; a pool that is not started warms each when it is first needed.

        Raises:
            ParserUnavailable: a child does not get ready; the text says why.
        """
        places = [await self._places.get() for _ in range(self._places.qsize())]
        try:
            for at, child in enumerate(places):
                places[at] = child or await self._start_child()
        finally:
            for place in places:
                self._places.put_nowait(place)

    async def close(self) -> None:
        """End every child and what it started; files being read end in `ParserUnavailable`."""
        self._closed = True
        for child in tuple(self._children):
            await self._end(child)

    async def parse(self, path: Path, kind: Kind, *, deadline_s: float) -> ParsedText | ParseFailure:
        """Read one file. Waits for a free child first, which others' deadlines bound.

        Args:
            path: a file that the worker's user can read.
            kind: as `runtime.filetypes.detect` said.
            deadline_s: seconds from the moment a warm child has the file; then reading ends with 'timeout'.

        Raises:
            ParserUnavailable: no child can be started, or the pool is closed.
        """
        request = _request(path, kind, deadline_s)
        for _ in range(2):
            child = await self._places.get()
            try:
                child = child or await self._start_child()
                return await child.ask(request, deadline_s + _GRACE_S)
            except TimeoutError:
                await self._end(child)
                child = None
                return ParseFailure("timeout", "the file took longer to read than one file may")
            except ChildDied:
                # Reading happens in the child's forks, so its own death is hardly this file's doing.
                await self._end(child)
                child = None
            except BaseException:
                # Cancelled half-way: the answer would be taken for the next file's.
                await self._end(child)
                child = None
                raise
            finally:
                self._places.put_nowait(child)
            if self._closed:
                raise ParserUnavailable("the parser pool is closed")
        return ParseFailure("crashed", "the parsing process died twice over the file")

    async def _start_child(self) -> WarmChild:
        if self._closed:
            raise ParserUnavailable("the parser pool is closed")
        child = await WarmChild.start(self._memory_bytes, self._max_text_bytes, self._warm_timeout_s)
        self._children.add(child)
        if self._closed:
            await self._end(child)
            raise ParserUnavailable("the parser pool is closed")
        if child.state.address_space_bytes + _ROOM_BYTES > self._memory_bytes:
            await self._end(child)
            raise ParserUnavailable(
                f"parse.memory_bytes is {self._memory_bytes}, and the libraries alone take"
                f" {child.state.address_space_bytes}: allow at least {_ROOM_BYTES} more"
            )
        return child

    async def _end(self, child: WarmChild | None) -> None:
        if child is not None:
            self._children.discard(child)
            await child.end()


def _request(path: Path, kind: Kind, deadline_s: float) -> dict[str, object]:
    return {"path": str(path.absolute()), "kind": kind.value, "deadline_s": deadline_s}
