"""Building the local model: from the published files only, whole or not at all."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from safetensors.numpy import save_file

from runtime.embedding.contract import EmbeddingMisconfigured
from runtime.embedding.local_build import build, write_graph
from runtime.embedding.local_files import GRAPH_FILE, MANIFEST_FILE, locate, verify
from tests.unit.runtime.embedding.reference_model import hidden_states

WIDTH, WORDS = 384, 50


def test_graph_computes_what_the_reference_does_on_any_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    shapes = {
        "embeddings.word_embeddings.weight": (WORDS, WIDTH),
        "embeddings.position_embeddings.weight": (512, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
    }
    for number in range(6):
        layer = f"encoder.layer.{number}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{layer}.attention.{name}.weight"] = (WIDTH, WIDTH)
        shapes[f"{layer}.intermediate.dense.weight"] = (4 * WIDTH, WIDTH)
        shapes[f"{layer}.output.dense.weight"] = (WIDTH, 4 * WIDTH)
    weights = {name: rng.normal(0, 0.08, shape).astype(np.float32) for name, shape in shapes.items()}
    for name in [name for name in weights if name.startswith("encoder")]:
        weights[name.replace(".weight", ".bias")] = rng.normal(0, 0.1, shapes[name][0]).astype(np.float32)
    norms = [f"encoder.layer.{i}.{part}.LayerNorm" for i in range(6) for part in ("attention.output", "output")]
    for name in ["embeddings.LayerNorm", *norms]:
        weights[f"{name}.weight"] = rng.normal(1, 0.1, WIDTH).astype(np.float32)
        weights[f"{name}.bias"] = rng.normal(0, 0.1, WIDTH).astype(np.float32)
    save_file(weights, tmp_path / "model.safetensors")
    write_graph(tmp_path / "model.safetensors", tmp_path)
    session = ort.InferenceSession(str(tmp_path / GRAPH_FILE), providers=["CPUExecutionProvider"])
    long, short = rng.integers(0, WORDS, 9), rng.integers(0, WORDS, 4)
    ids = np.stack([long, np.pad(short, (0, 5))])
    mask = np.array([[1] * 9, [1] * 4 + [0] * 5])
    (hidden,) = session.run(["hidden"], {"ids": ids, "mask": mask})
    precise = {name: value.astype(np.float64) for name, value in weights.items()}
    assert np.abs(hidden[0] - hidden_states(precise, long.tolist())).max() < 1e-4
    assert np.abs(hidden[1, :4] - hidden_states(precise, short.tolist())).max() < 1e-4


def test_missing_weights_are_named_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingMisconfigured, match=r"no model\.safetensors"):
        build(tmp_path / "empty", tmp_path / "cache" / "model")
    assert not (tmp_path / "cache").exists()


def test_weights_that_are_not_the_published_ones_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.safetensors").write_bytes(b"not the weights")
    with pytest.raises(EmbeddingMisconfigured, match="not the published file"):
        build(source, tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_whole_model_is_left_alone_and_needs_no_source(tmp_path: Path) -> None:
    folder = locate()
    before = (folder / MANIFEST_FILE).stat()
    build(tmp_path / "nothing here", folder)
    after = (folder / MANIFEST_FILE).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    verify(folder)


def test_model_that_is_not_there_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingMisconfigured, match="thalweg setup"):
        locate(tmp_path)
    with pytest.raises(EmbeddingMisconfigured, match="thalweg setup"):
        locate(None, {"THALWEG_CACHE": str(tmp_path)})


def test_model_of_another_builder_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_FILE).write_text('{"builder": "0"}')
    with pytest.raises(EmbeddingMisconfigured, match="another version"):
        locate(tmp_path)
    (tmp_path / MANIFEST_FILE).write_text("{half a fi")
    with pytest.raises(EmbeddingMisconfigured, match="cannot be read"):
        locate(tmp_path)
