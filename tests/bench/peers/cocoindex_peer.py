"""CocoIndex: a component for each document, a memo for each chunk's embedding, target rows declared.

Settings: files as source, a file for each chunk as target (what is written and deleted is seen from outside);
RecursiveSplitter without overlap and with its own smallest size (half of chunk_size).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

os.environ["COCOINDEX_DISABLE_USAGE_TRACKING"] = "1"

import cocoindex as coco
from cocoindex.connectors import localfs
from cocoindex.ops.text import RecursiveSplitter
from rules import follow, unless_in_the_version_before
from wire import Meter, Operation, Record, Way, answer, steps, tuned

NAME = "CocoIndex"
SETTING = "RecursiveSplitter, {size} bytes"
METER = Meter()
SPLITTER = RecursiveSplitter()


@coco.fn(memo=True)
async def embed(text: str) -> list[float]:
    return METER.embed([text])[0]


@coco.fn(memo=True)
async def index_row(file: localfs.File, target: localfs.DirTarget) -> None:
    row = json.loads(await file.read_text())
    for text in row["paragraphs"]:
        vector = await embed(text)
        name = hashlib.sha256(text.encode()).hexdigest()[:24]
        content = json.dumps({**row, "paragraphs": text, "vector": vector})
        target.declare_file(filename=f"{file.file_path.path.name}.{name}", content=content)


@coco.fn
async def table_main(source: Path, sink: Path) -> None:
    target = await localfs.mount_dir_target(sink)
    await coco.mount_each(index_row, localfs.walk_dir(source).items(), target)


@coco.fn(memo=True)
async def index_document(file: localfs.File, size: int) -> None:
    text = await file.read_text()
    for piece in split(file.file_path.path.name, text, size):
        await embed(piece)


@coco.fn
async def edits_main(source: Path, size: int) -> None:
    await coco.mount_each(index_document, localfs.walk_dir(source).items(), size)


def environment(folder: Path) -> coco.Environment:
    return coco.Environment(coco.Settings(db_path=folder / "memo"))


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {file.name: (file.stat().st_mtime_ns, file.stat().st_ino) for file in folder.glob("*")}


def table(operations: list[Operation]) -> dict[str, list[dict[str, int]]]:
    rows = []
    with tempfile.TemporaryDirectory() as work:
        source, sink = Path(work) / "source", Path(work) / "sink"
        source.mkdir()
        sink.mkdir()
        kept = environment(Path(work))
        app = coco.App(coco.AppConfig(name="table", environment=kept), table_main, source, sink)
        for operation in operations:
            before = listing(sink)
            file = source / operation.document
            if operation.name == "rebuild":
                sink = Path(work) / "sink-of-rebuild"
                sink.mkdir()
                before = {}
                app = coco.App(coco.AppConfig(name="rebuild", environment=kept), table_main, source, sink)
            elif operation.paragraphs is None:
                file.unlink()
            else:
                row = {"paragraphs": operation.paragraphs, "title": operation.title, "access": operation.access}
                file.write_text(json.dumps(row), encoding="utf-8")
            app.update_blocking()
            after = listing(sink)
            METER.writes = sum(before.get(name) != seen for name, seen in after.items())
            METER.deletes = len(before.keys() - after.keys())
            rows.append(METER.taken())
    return {NAME: rows}


def split(path: str, text: str, size: int) -> list[str]:
    language = "markdown" if path.endswith(".md") else None
    return [chunk.text for chunk in SPLITTER.split(text, size, language=language)]


def edits(history: Path, folder: Path, mean: float) -> list[Way]:
    size, found = tuned(history, mean, split, 650)
    rules = {NAME: unless_in_the_version_before()}
    return follow(
        history, folder, rules, lambda path, text: split(path, text, size), (SETTING.format(size=size), found)
    )


def engines(history: Path, folder: Path, mean: float) -> list[Way]:
    size, found = tuned(history, mean, split, 650)
    record, project = Record(folder, "cocoindex"), ""
    with tempfile.TemporaryDirectory() as work:
        for step in steps(history):
            if step.project != project:
                # Its memo belongs to one document and one app: a project of its own is the same, and quicker to walk.
                project = step.project
                source = Path(work) / project / "source"
                source.mkdir(parents=True)
                kept = environment(source.parent)
                app = coco.App(coco.AppConfig(name=project, environment=kept), edits_main, source, size)
            for path, text in step.documents.items():
                file = source / path.replace("/", "__")
                if text is None:
                    file.unlink()
                else:
                    file.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
            app.update_blocking()
            record.add(step, METER.texts)
            METER.taken()
        shutil.rmtree(work, ignore_errors=True)
    return [Way(NAME, record.close(), SETTING.format(size=size), found)]


if __name__ == "__main__":
    answer(table, edits, engines)
