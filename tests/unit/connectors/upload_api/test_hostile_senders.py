"""What hostile and unlucky senders do to the upload API's real server over sockets: a problem document, or a closed
connection, and nothing left of it: no memory, no file, no connection that stays.
"""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.client import eventually
from tests.unit.connectors.upload_api.served import MAX_BYTES
from tests.unit.connectors.upload_api.world import ADMIN

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

GROWTH = 25_165_824
"""How much memory one hostile request may leave behind at most (24 MiB): far below what it sends."""
BOUNDARY = "frontier"
FILE = b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
TITLE = b'--frontier\r\nContent-Disposition: form-data; name="title"\r\n\r\n'
BASE = b'--frontier\r\nContent-Disposition: form-data; name="knowledge_base"\r\n\r\nshop\r\n'
END = b"\r\n--frontier--\r\n"
PIECE = b"The river carries fine gravel. " * 2048


@dataclass
class Served:
    """The running server."""

    process: psutil.Process
    port: int
    folder: Path

    @contextmanager
    def connect(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as made:
            yield made

    @property
    def memory(self) -> int:
        return int(self.process.memory_info().rss)

    @property
    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@contextmanager
def serving(folder: Path, *limits: int) -> Iterator[Served]:
    command = [sys.executable, "-m", "tests.unit.connectors.upload_api.served", str(folder), *map(str, limits)]
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            drain = ThreadPoolExecutor(1)
            drain.submit(lambda pipe: sum(1 for _ in pipe), process.stdout)
            yield Served(psutil.Process(process.pid), port, folder)
        finally:
            process.kill()
            process.wait(10)
            drain.shutdown()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served") / "home"
    folder.mkdir()
    with serving(folder) as made:
        good(made)  # so that what is loaded once is loaded
        yield made


@pytest.fixture(autouse=True)
def _nothing_stays(server: Served) -> Iterator[None]:
    """After each test: memory as before, an empty spool, no half of a blob, no connection; and it still serves."""
    before, blobs = server.memory, len(server.files)
    yield

    def clean() -> None:
        assert [path for path in server.files if path.suffix == ".part"] == []
        assert [c for c in server.process.net_connections() if c.status == psutil.CONN_ESTABLISHED] == []

    eventually(clean, 10)
    assert len(server.files) == blobs
    assert server.memory - before < GROWTH
    good(server)


def head(
    *lines: str,
    path: str = "/v1/uploads",
    key: str | None = ADMIN,
    kind: str = f"multipart/form-data; boundary={BOUNDARY}",
) -> bytes:
    keyed = [f"X-API-Key: {key}"] if key else []
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: t", f"Content-Type: {kind}", *keyed, *lines, "", ""]).encode()


def chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in filter(None, pieces):  # an empty chunk is the last one
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def send(server: Served, request: Iterable[bytes], *, every_s: float = 0.0) -> tuple[int, dict[str, Any], int]:
    """Send until the server hangs up, then read its answer: status, document, and how many bytes it took."""
    sent = 0
    with server.connect() as link:
        try:
            for piece in request:
                link.sendall(piece)
                sent += len(piece)
                if every_s:
                    time.sleep(every_s)
        except (ConnectionError, TimeoutError):
            pass
        answer = bytearray()
        try:
            while got := link.recv(65_536):
                answer += got
                if complete(bytes(answer)):
                    break
        except ConnectionError:
            pass
    status, document = parsed(bytes(answer))
    return status, document, sent


def hung_up(link: socket.socket) -> bool:
    """Wait until the server closes the connection; False if it says anything first."""
    link.settimeout(15)
    try:
        return link.recv(65_536) == b""
    except ConnectionResetError:
        return True


def complete(answer: bytes) -> bool:
    top, mark, body = answer.partition(b"\r\n\r\n")
    lengths = [int(line[15:]) for line in top.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(mark and lengths and len(body) >= lengths[0])


def parsed(answer: bytes) -> tuple[int, dict[str, Any]]:
    assert answer, "the connection was closed without an answer"
    top, _, body = answer.partition(b"\r\n\r\n")
    status = int(top.split(b" ", 2)[1])
    if b"application/problem+json" not in top:
        return status, {}
    document: dict[str, Any] = json.loads(body)
    assert document["status"] == status
    return status, document


def good(server: Served, name: str = "good.txt") -> dict[str, Any]:
    """An upload as it should be, always the same file; its answer."""
    body = BASE + FILE.replace(b"a.txt", name.encode()) + b"All is well.\n" + END
    with server.connect() as link:
        link.sendall(head(f"Content-Length: {len(body)}", "Connection: close") + body)
        answer = b"".join(iter(lambda: link.recv(65_536), b""))
    top, _, rest = answer.partition(b"\r\n\r\n")
    assert b" 202 " in top.splitlines()[0], answer
    found: dict[str, Any] = json.loads(rest)
    return found


def endless(start: bytes, piece: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: itertools.chain(
        [head("Transfer-Encoding: chunked")], chunked(itertools.chain([start], itertools.repeat(piece)))
    )


ENDLESS = {
    "a file": (endless(FILE, PIECE), 413, "too-large"),
    "a field": (endless(TITLE, PIECE), 422, "validation-failed"),
    "a header of a part": (endless(b"--frontier\r\nContent-Disposition: ", b"x" * 65_536), 400, "malformed-request"),
    "the name of a header": (endless(b"--frontier\r\n", b"x" * 65_536), 400, "malformed-request"),
    "headers of a part": (endless(b"--frontier\r\n", b"X-More: yes\r\n" * 4096), 400, "malformed-request"),
    "parts": (endless(b"", (TITLE + b"b\r\n") * 512), 422, "validation-failed"),
    "parts without a name": (endless(b"", b"--frontier\r\n\r\nb\r\n" * 2048), 422, "validation-failed"),
    "the lines before the first part": (endless(b"", b"\r\n" * 32_768), 413, "too-large"),
    "what follows the last part": (endless(BASE + FILE + b"text" + END, PIECE), 413, "too-large"),
    "no form": (endless(b"", PIECE), 400, "malformed-request"),
}  # fmt: skip


@pytest.mark.parametrize("what", ENDLESS)
def test_a_body_without_end_is_cut_off(server: Served, what: str) -> None:
    make, wanted, kind = ENDLESS[what]
    status, document, sent = send(server, make())
    assert (status, document["type"]) == (wanted, f"/problems/{kind}")
    assert sent < MAX_BYTES * 5


def test_many_endless_bodies_at_once_cost_no_memory(server: Served) -> None:
    before = server.memory
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: send(server, ENDLESS["a file"][0]()), range(12)))
    assert [status for status, _, _ in answers] == [413] * 12
    assert server.memory - before < 2 * GROWTH


@pytest.mark.parametrize("path", ["/v1/uploads", "/v1/documents", "/v1/events"])
def test_nobodys_body_is_not_read(server: Served, path: str) -> None:
    """A stranger's 30 MB are refused by their head, wherever they go; the answer arrives although they were sent."""
    kind = "application/json" if path != "/v1/uploads" else f"multipart/form-data; boundary={BOUNDARY}"
    peak = []

    def body() -> Iterator[bytes]:
        yield head("Content-Length: 30000000", path=path, key=None, kind=kind)
        for _ in range(100):
            yield b" " * 65_536
            peak.append(server.memory)

    before = server.memory
    status, document, _ = send(server, body())
    assert (status, document["type"]) == (401, "/problems/unauthenticated")
    assert max(peak) - before < GROWTH


def test_who_is_still_sending_loses_no_answer_to_a_reset(server: Served) -> None:
    """RFC 9112, section 9.6: what arrives after an early answer is read for a while, then the connection ends."""
    with server.connect() as link:
        link.sendall(head("Content-Length: 30000000", key=None))
        answer = b""
        while not complete(answer):
            answer += link.recv(65_536)
        for _ in range(50):
            link.sendall(PIECE)
        assert b"connection: close" in answer.lower()
        assert hung_up(link)


def test_who_asks_before_sending_is_answered_at_once(server: Served) -> None:
    with server.connect() as link:
        link.sendall(head("Content-Length: 30000000", "Expect: 100-continue", key=None))
        started = time.monotonic()
        answer = b"".join(iter(lambda: link.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert time.monotonic() - started < 1.5


SLOW = {
    "a byte now and then": (itertools.chain([head("Content-Length: 1000"), FILE], itertools.repeat(b"x")), 0.05),
    "no byte of the body": ([head("Content-Length: 1000")], 0.0),
    "half a body, then nothing": ([head("Content-Length: 1000") + FILE + b"half"], 0.0),
    "half a chunk, then nothing": ([head("Transfer-Encoding: chunked") + b"ffff\r\n" + FILE], 0.0),
}


@pytest.mark.parametrize("what", SLOW)
def test_a_slow_body_is_cut_off(server: Served, what: str) -> None:
    pieces, every_s = SLOW[what]
    started = time.monotonic()
    status, document, _ = send(server, pieces, every_s=every_s)
    assert (status, document["type"]) == (408, "/problems/timeout")
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("first", [b"", b"POST /v1/uploads HT", head("Content-Length: 5")[:-2]])
def test_a_head_that_does_not_come_closes_the_connection(server: Served, first: bytes) -> None:
    with server.connect() as link:
        link.sendall(first)
        assert hung_up(link)


def test_a_second_head_that_does_not_come_closes_the_connection(server: Served) -> None:
    with server.connect() as link:
        link.sendall(b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n")
        answer = b""
        while not complete(answer):
            answer += link.recv(65_536)
        link.sendall(b"GET /hea")
        assert hung_up(link)


BROKEN = {
    "cut inside the file": (FILE + b"half", 400, "malformed-request"),
    "cut inside a header": (b"--frontier\r\nContent-Dispo", 400, "malformed-request"),
    "cut before the last boundary": (BASE + FILE + b"text", 400, "malformed-request"),
    "another boundary": (FILE.replace(b"frontier", b"other"), 400, "malformed-request"),
    "two files": (BASE + FILE + b"one\r\n" + FILE + b"two" + END, 422, "validation-failed"),
    "a header without a colon": (b"--frontier\r\nnonsense\r\n\r\nx" + END, 400, "malformed-request"),
    "a field that is no text": (TITLE + b"\xff\xfe" + END, 422, "validation-failed"),
    "a part without a name": (b"--frontier\r\n\r\ntext" + END, 422, "validation-failed"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_broken_form_is_refused(server: Served, what: str, framing: str) -> None:
    body, wanted, kind = BROKEN[what]
    framed: list[bytes] = [head(f"Content-Length: {len(body)}"), body]
    if framing == "chunks":
        framed = [head("Transfer-Encoding: chunked"), *chunked([body[at : at + 7] for at in range(0, len(body), 7)])]
    status, document, _ = send(server, framed)
    assert (status, document["type"]) == (wanted, f"/problems/{kind}")


def test_a_chunk_without_a_size_is_refused(server: Served) -> None:
    status, document, _ = send(
        server, [head("Transfer-Encoding: chunked"), *list(chunked([FILE]))[:-1], b"zz\r\nhalf\r\n"]
    )
    assert (status, document["type"]) == (400, "/problems/malformed-request")


def test_a_sender_who_goes_away_leaves_nothing(server: Served) -> None:
    for cut in (b"", FILE, FILE + PIECE * 20):
        with server.connect() as link:
            link.sendall(head("Content-Length: 9000000") + cut)
            if cut:
                eventually(lambda: any(path.suffix == ".part" for path in server.files), 10)


def test_heads_beyond_all_measure_are_refused(server: Served) -> None:
    many = [f"X-{n}: y" for n in range(20_000)]
    for lines in (
        ["X-Long: " + "x" * 200_000],
        many,
        ["Content-Length: -5"],
        ["Content-Length: 5", "Content-Length: 6"],
    ):
        status, document, _ = send(server, [head(*lines)])
        assert (status, document["type"]) == (400, "/problems/malformed-request")


def test_of_two_framings_chunks_count(server: Served) -> None:
    """RFC 9112, section 6.3: what stands behind the last chunk is no second request."""
    smuggled = b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n"
    with server.connect() as link:
        link.sendall(head("Content-Length: 5", "Transfer-Encoding: chunked", key=None) + b"0\r\n\r\n" + smuggled)
        answer = b"".join(iter(lambda: link.recv(65_536), b""))
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("../../../../tmp/thalweg-escaped.txt", "thalweg-escaped.txt"),
        ("..\\\\..\\\\boot.txt", "boot.txt"),
        ("/etc/passwd", "passwd"),
        ("a\x00b.txt", None),
        ("\u202etxt.exe", "txt.exe"),
        ("x" * 3000 + ".txt", "x" * 251 + ".txt"),
        ("..", None),
        ("", None),
    ],
)
def test_a_name_is_only_a_name(server: Served, name: str, document: str | None) -> None:
    told = good(server, name)
    if document is not None:
        assert told["document_id"] == document
    assert not set(told["document_id"]) & {"\x00", "\u202e", "\\"}
    assert not Path("/tmp/thalweg-escaped.txt").exists()
    assert {path.parent.parent.parent.name for path in server.files} <= {"acme"}  # blobs/<tenant>/sha256/..: no name


def test_a_full_disk_is_told_and_nothing_half_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    with serving(folder, 1_000_000) as full:
        body = BASE + FILE + PIECE * 20 + END
        status, document, _ = send(full, [head(f"Content-Length: {len(body)}"), body])
        assert (status, document["type"]) == (503, "/problems/unavailable")
        assert full.files == []
        good(full)
