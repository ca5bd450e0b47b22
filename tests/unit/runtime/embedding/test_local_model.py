"""The local model: right by an independent reference, the same bits in any company, and light to load."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper
from tokenizers import Tokenizer

from runtime.embedding.contract import EmbeddingMisconfigured
from runtime.embedding.local_files import (
    DATA_FILE,
    GRAPH_FILE,
    MAX_TOKENS,
    TOKENIZER_FILE,
    default_folder,
    locate,
    verify,
)
from runtime.embedding.local_model import LONGEST_LOOK, LocalEmbedder
from tests.unit.runtime.embedding.reference_model import sentence_vector

pytestmark = pytest.mark.slow

TEXTS = [
    "",
    "a",
    "A cat sits on the mat.",
    "How do I reverse a list?",
    "list.reverse() reverses the elements of the list in place.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. 東京 🚀",
    "one two three four " * 30,
    "a text between the published limit and ours " * 22,
    "a text that is longer than the model reads " * 60,
]


@pytest.fixture(scope="module")
def folder() -> Path:
    """The model built at set-up; where it is missing, the error says which command builds it."""
    return locate()


@pytest.fixture(scope="module")
def embedder(folder: Path) -> LocalEmbedder:
    return LocalEmbedder(folder, threads=1)


@pytest.fixture(scope="module")
def weights(folder: Path) -> dict[str, npt.NDArray[np.float64]]:
    held: dict[str, npt.NDArray[np.float64]] = {}
    for tensor in onnx.load(folder / GRAPH_FILE).graph.initializer:
        value = numpy_helper.to_array(tensor).astype(np.float64)
        if tensor.name.endswith(".kernel"):
            held[tensor.name.replace(".kernel", ".weight")] = value.T
        else:
            held[tensor.name] = value
    held["embeddings.token_type_embeddings.weight"] = held["token_type"][None]
    return held


@pytest.mark.parametrize("text", TEXTS)
def test_vector_is_the_references(
    text: str, embedder: LocalEmbedder, folder: Path, weights: dict[str, npt.NDArray[np.float64]]
) -> None:
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    expected = sentence_vector(weights, tokenizer.encode(text).ids)
    together = embedder.embed_documents(TEXTS).vectors[TEXTS.index(text)]
    assert np.abs(together - expected).max() < 1e-5


def test_vector_is_the_same_bits_whatever_batch_order_and_threads(embedder: LocalEmbedder, folder: Path) -> None:
    rng = random.Random(7)
    words = " ".join(TEXTS).split()
    texts = [" ".join(rng.choices(words, k=rng.choice([1, 1, 2, 5, 20, 60, 200]))) for _ in range(48)]
    alone = [embedder.embed_query(text).vectors.tobytes() for text in texts]
    compared = 0
    for threads in (1, 2):
        other = LocalEmbedder(folder, threads=threads)
        for size in (2, 8, 33, 48):
            chosen = rng.sample(range(len(texts)), size)
            rows = other.embed_documents([texts[i] for i in chosen]).vectors
            for row, i in zip(rows, chosen, strict=True):
                assert row.tobytes() == alone[i], (threads, size, texts[i][:40])
                compared += 1
    assert compared == 2 * (2 + 8 + 33 + 48)


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [
        ("cat", "kitten", 0.7, 0.9),
        ("How do I reverse a list?", "list.reverse() reverses the elements of the list in place.", 0.7, 1.0),
        ("The stock market fell sharply.", "Shares dropped a lot today.", 0.5, 1.0),
        ("The stock market fell sharply.", "My dog likes to swim in the lake.", -0.2, 0.25),
        ("How do I reverse a list?", "The cathedral was built in the 12th century.", -0.2, 0.25),
    ],
)
def test_meaning_is_near_where_it_should_be(
    one: str, other: str, low: float, high: float, embedder: LocalEmbedder
) -> None:
    first, second = embedder.embed_documents([one, other]).vectors
    assert low < float(first @ second) < high


def test_tokens_beyond_the_limit_change_nothing(embedder: LocalEmbedder) -> None:
    start = "word " * (MAX_TOKENS - 2)
    inside, outside = embedder.embed_documents([start + "zebra", start + "quantum physics"]).vectors
    assert inside.tobytes() == outside.tobytes()
    earlier = embedder.embed_query("zebra " + start).vectors[0]
    assert inside.tobytes() != earlier.tobytes()


@pytest.mark.parametrize("words", [126, 127, 253, 254, 255])
def test_text_is_cut_exactly_where_the_tokenizer_itself_would(
    words: int, embedder: LocalEmbedder, folder: Path, weights: dict[str, npt.NDArray[np.float64]]
) -> None:
    text = "big " * (words - 1) + "elephant"
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    expected = sentence_vector(weights, tokenizer.encode(text).ids)
    assert np.abs(embedder.embed_query(text).vectors[0] - expected).max() < 1e-5


def test_token_count_is_exact_and_uncut(embedder: LocalEmbedder) -> None:
    assert embedder.count_tokens("") == 2
    assert embedder.count_tokens("one two three") == 5
    assert embedder.count_tokens("one " * 1000) == 1002
    assert embedder.embed_documents(["one two three", "one " * 1000]).tokens == 5 + MAX_TOKENS


def test_enormous_text_costs_no_more_than_a_long_one(embedder: LocalEmbedder) -> None:
    long = "word " * (LONGEST_LOOK // 5)
    assert embedder.embed_query(long * 100).vectors.tobytes() == embedder.embed_query(long + "word").vectors.tobytes()


LIGHT = """
import sys
from pathlib import Path

def guard(event, _):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo"):
        raise SystemExit("the local model opened a socket: " + event)

sys.addaudithook(guard)
from runtime.embedding.local_model import LocalEmbedder
embedder = LocalEmbedder(Path(sys.argv[1]), threads=1)
embedder.embed_query("a question")
heavy = {"torch", "transformers", "sentence_transformers", "onnx", "safetensors", "cohere", "huggingface_hub"}
resident = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
print(",".join(sorted(heavy & set(sys.modules))) or "none", resident // 1024)
"""


def test_loading_needs_no_torch_no_network_and_little_memory(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, str(folder)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded, megabytes = done.stdout.split()
    assert loaded == "none"
    # 130 MB measured; the bound notices weights that are copied into the process instead of mapped.
    assert int(megabytes) < 175


@pytest.mark.parametrize("name", [TOKENIZER_FILE, GRAPH_FILE, DATA_FILE])
def test_changed_file_is_refused_at_load(name: str, folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        # Not hard links: onnx refuses weights that have several, and these are shared with other processes.
        (tmp_path / file.name).symlink_to(file)
    verify(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(b"changed")
    with pytest.raises(EmbeddingMisconfigured, match="changed since it was built"):
        LocalEmbedder(tmp_path)


def test_default_folder_is_where_the_environment_says(tmp_path: Path) -> None:
    name = default_folder({}).name
    home = {"HOME": "/home/u"}
    assert default_folder(home) == Path("/home/u/.cache/thalweg/models") / name
    xdg = {**home, "XDG_CACHE_HOME": "/x"}
    assert default_folder(xdg) == Path("/x/thalweg/models") / name
    assert default_folder({**xdg, "THALWEG_CACHE": str(tmp_path)}) == tmp_path / "models" / name
