"""How much to train: presets by name, measured on Amazon Beauty (docs/quality.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from models.space.mixup import MixUpConfig
from models.space.sequence import SequenceConfig
from models.space.words import MOST
from models.training.llm.run import LlmConfig
from models.training.sequence.train import SequenceTraining

_MIXUP: Final = MixUpConfig(words=MOST)
_FROM_TITLES: Final = MixUpConfig("residual", zero_shot=True, words=MOST)


@dataclass(frozen=True, slots=True)
class Preset:
    """All sizes of a training.

    ``asked`` and ``asked_llm`` are the questions of the validation part that choose the shares of
    the title, and the LLM's weight.
    """

    name: str
    sequence: SequenceConfig = field(default_factory=lambda: SequenceConfig(_MIXUP))
    training: SequenceTraining = field(default_factory=SequenceTraining)
    llm: LlmConfig = field(default_factory=LlmConfig)
    asked: int = 4000
    asked_llm: int = 4000


PRESETS: Final = {
    "quick": Preset(
        "quick",
        training=SequenceTraining(epochs=10),
        llm=LlmConfig(max_tokens=150_000),
        asked_llm=2000,
    ),
    "standard": Preset(
        "standard",
        training=SequenceTraining(epochs=16),
        llm=LlmConfig(max_tokens=1_100_000),
    ),
    # tens of thousands of events, or a shelf that turns over: begin as zero-shot, small steps
    "small": Preset(
        "small",
        sequence=SequenceConfig(_FROM_TITLES, dropout=0.3),
        training=SequenceTraining(
            epochs=8, batch=32, negatives=1024, every=1, patience=8, pool="seen", asked=10_000
        ),
        llm=LlmConfig(max_tokens=300_000, epochs=2),
    ),
    # no training: titles and their words as they are, with the weights of the shop's own words
    "untrained": Preset(
        "untrained",
        sequence=SequenceConfig(
            MixUpConfig("title", dim=384, hidden=0, zero_shot=True, words=MOST)
        ),
        training=SequenceTraining(epochs=0),
        llm=LlmConfig(max_tokens=300_000),
    ),
    "best": Preset(
        "best",
        sequence=SequenceConfig(_MIXUP, members=3),
        training=SequenceTraining(epochs=16),
        llm=LlmConfig(epochs=2),
    ),
    # what `make demo-bundle` trains on the sample shop's own log: small, and quick to load
    "demo": Preset(
        "demo",
        sequence=SequenceConfig(_FROM_TITLES),
        training=SequenceTraining(epochs=10, batch=64),
        llm=LlmConfig(rank=8, max_tokens=100_000),
        asked_llm=2500,
    ),
}
