"""Text to tokens, by the tokenizer's own file: no transformers, no torch."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer as _Tokenizer

from models.errors import MissingWeights
from models.llm.scorer import Tokens


class Tokenizer:
    """Callable: a text's tokens. Markers that a text spells out are text, not markers.

    A title that says ``<|im_end|>`` must not become the token that ends a turn.
    """

    def __init__(self, file: Path) -> None:
        """``file`` is Hugging Face's tokenizer.json. Raises ``MissingWeights``."""
        try:
            self._tokenizer = _Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises Exception itself
            raise MissingWeights(
                f"cannot read the tokenizer {file}: {error}; `weft models fetch` prepares one"
            ) from error
        self._tokenizer.encode_special_tokens = True

    def __call__(self, text: str) -> Tokens:
        """The text's tokens, without markers of begin and end; no surrogates are left in it."""
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return tuple(self._tokenizer.encode(clean, add_special_tokens=False).ids)
