"""Small bundles with random weights, sealed as training seals them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from models.bundle.files import (
    SEQUENCE,
    Described,
    EncoderFacts,
    Manifest,
    write_bundle,
    write_items,
    write_words,
)
from models.ports import TitleEncoder
from models.space.mixup import MixUpConfig
from models.space.sequence import SequenceConfig, SequenceModel


def described(encoder: TitleEncoder, config: SequenceConfig, name: str = "tiny") -> Described:
    """A description with a little of everything."""
    return Described(
        name=name,
        created="2026-01-02T03:04:05Z",
        encoder=EncoderFacts.of(encoder.name, encoder.dim),
        space={"dim": config.dim, "strategy": config.mixup.strategy, **config.to_json()},
        gate={"weight": 0.4},
        versions={"weft": "0.1.0", "torch": torch.__version__},
        data={"fingerprint": "ab12", "events": 12, "shoppers": 3, "items": 4},
        split={"kind": "last"},
        metrics={"HR@10": {"mean": 0.1, "low": 0.09, "high": 0.11}},
        licences={"encoder": "Apache-2.0"},
        seed=7,
        preset="quick",
        command="weft train",
    )


def write(
    out: Path,
    encoder: TitleEncoder,
    ids: Sequence[str] = ("i1", "i2", "i3"),
    *,
    dim: int = 16,
    strategy: str = "average",
    seed: int = 0,
    name: str = "tiny",
    counts: Sequence[int] | None = None,
    words: Sequence[str] = (),
    **changed: object,
) -> Manifest:
    """A bundle at ``out``; ``changed`` are fields of its description."""
    mixup = MixUpConfig(
        strategy=strategy, title_dim=encoder.dim, dim=dim, hidden=0, words=len(words)
    )
    config = SequenceConfig(mixup=mixup, layers=1, heads=2, length=8)
    told = np.array([5] * len(ids) if counts is None else counts, dtype=np.int32)
    torch.manual_seed(seed)
    model = SequenceModel(config, len(ids), torch.from_numpy(np.concatenate([[0], told])))
    torch.nn.init.normal_(model.members[0].gaps.weight)  # type: ignore[union-attr, arg-type]

    if words:
        torch.nn.init.normal_(model.members[0].mixup.title.words.weight[1:])  # type: ignore[union-attr, index]

    def fill(folder: Path) -> None:
        save_file(model.state_dict(), folder / SEQUENCE)
        write_items(folder, ids, told)
        write_words(folder, words)

    about = replace(described(encoder, config, name), **changed)  # type: ignore[arg-type]
    return write_bundle(out, about, fill, lambda _words: None)
