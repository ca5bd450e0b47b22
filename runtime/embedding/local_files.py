"""Where the local model lives on disk and how its files are known to be whole.

Before it: `local_build`, which writes the folder at set-up. After it: `local_model`, which loads it.
Light on purpose: finding the model, or saying how to get it, needs no model library.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from runtime.embedding.contract import EmbeddingMisconfigured, ModelFingerprint

# Raised with every change to the graph or the folder's layout; vectors stay the same or the revision changes.
BUILDER_VERSION = "1"
MODEL = "all-minilm-l6-v2"
FOLDER = f"{MODEL}-{BUILDER_VERSION}"

# Of the published files; two independent publishers agree on the weights.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

DIMENSION = 384
# The hard limit, special tokens included; chunks aim at half of it.
MAX_TOKENS = 256

GRAPH_FILE, DATA_FILE, TOKENIZER_FILE = "model.onnx", "weights.bin", "tokenizer.json"
MANIFEST_FILE = "model.json"

HOW_TO_SET_UP = "run `thalweg setup`, or set embedding.path (THALWEG_EMBEDDING__PATH) to a built model"


def local_fingerprint() -> ModelFingerprint:
    """The local model's identity: known without loading it, since the weights are pinned."""
    return ModelFingerprint(
        provider="local",
        model=MODEL,
        revision=f"fp32-{WEIGHTS_SHA256[:16]}",
        dimension=DIMENSION,
        max_tokens=MAX_TOKENS,
        normalised=True,
    )


def default_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The built model's place in the cache, shared by all checkouts of this user; need not exist yet."""
    if given := environ.get("THALWEG_CACHE"):
        cache = Path(given)
    elif xdg := environ.get("XDG_CACHE_HOME"):
        cache = Path(xdg) / "thalweg"
    else:
        cache = Path(environ.get("HOME") or Path.home()) / ".cache" / "thalweg"
    return cache.expanduser() / "models" / FOLDER


def locate(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of the built model: `path` if given, else the cache. Looks only at the manifest.

    Raises EmbeddingMisconfigured, naming the command that sets the model up, if it is not there.
    """
    folder = path.expanduser() if path is not None else default_folder(environ)
    if not (folder / MANIFEST_FILE).is_file():
        raise EmbeddingMisconfigured(f"the local embedding model is not set up in {folder}: {HOW_TO_SET_UP}")
    if read_manifest(folder).get("builder") != BUILDER_VERSION:
        raise EmbeddingMisconfigured(
            f"the local embedding model in {folder} was built by another version: {HOW_TO_SET_UP}"
        )
    return folder


def read_manifest(folder: Path) -> dict[str, str]:
    """What the builder wrote down: `builder` and the sha256 of each file by its name."""
    try:
        found = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EmbeddingMisconfigured(
            f"the local embedding model in {folder} cannot be read ({error}): {HOW_TO_SET_UP}"
        ) from error
    if not isinstance(found, dict):
        raise EmbeddingMisconfigured(f"{folder / MANIFEST_FILE} is not a manifest: {HOW_TO_SET_UP}")
    return {str(name): str(value) for name, value in found.items()}


def verify(folder: Path) -> None:
    """Hash every file of the model against its manifest (90 MB, about 0.1 s).

    Raises EmbeddingMisconfigured for a missing or changed file.
    """
    manifest = read_manifest(folder)
    if manifest.get("source") != WEIGHTS_SHA256:
        raise EmbeddingMisconfigured(f"{folder} was built from other weights: {HOW_TO_SET_UP}")
    for name in (GRAPH_FILE, DATA_FILE, TOKENIZER_FILE):
        file = folder / name
        if not file.is_file() or sha256_of(file) != manifest.get(name):
            raise EmbeddingMisconfigured(
                f"{file} is missing or changed since it was built: remove {folder}, then {HOW_TO_SET_UP}"
            )


def sha256_of(file: Path) -> str:
    """Hex sha256 of a file, read in pieces so that it does not count as the process's memory."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
