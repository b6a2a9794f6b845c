"""A trained reader: how it is written and read, and the vectors that it gives of histories."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.errors import DamagedWeights
from models.llm import Tokens
from models.llm_tokens import Tokenizer
from models.reader_prompt import ReaderFormat
from models.training import llm_body, peft_methods
from models.training.llm_body import Head
from models.training.log import TrainingLog
from models.training.peft_methods import Tuning
from models.training.progress import Progress, Silent
from models.training.reader_windows import Places, Prompts, alike, padded

HEAD: Final = "head.safetensors"
TOLD: Final = "reader.json"


@dataclass(slots=True)
class TrainedReader:
    """The tuned body, its head, and what decides its prompt. ``layers``: 0 for all of the LLM's."""

    model: Any
    head: Head
    tuning: Tuning
    form: ReaderFormat
    layers: int
    llm_folder: Path
    temperature: float

    def told(self) -> dict[str, Any]:
        """What a manifest says of it, beside the LLM's own sum."""
        return {
            "llm": self.llm_folder.name,
            "method": self.tuning.method,
            "rank": self.tuning.rank,
            "layers": self.layers,
            "dim": self.head.linear.out_features,
            "format": self.form.told(),
            "temperature": round(self.temperature, 6),
        }

    def save(self, folder: Path, dtype: torch.dtype | None = torch.bfloat16) -> None:
        """The adapter (as ``dtype``), head.safetensors (fp32) and reader.json with ``told``."""
        peft_methods.save(self.model, self.tuning, folder, dtype)
        head = {name: value.cpu().contiguous() for name, value in self.head.state_dict().items()}
        save_file(head, folder / HEAD)
        (folder / TOLD).write_text(json.dumps(self.told(), indent=2), "utf-8")


def load_reader(folder: Path, llm_folder: Path, device: str = "auto") -> TrainedReader:
    """What ``save`` wrote, on the LLM that it was tuned on.

    Raises ``DamagedWeights`` or ``MissingWeights``.
    """
    try:
        told = json.loads((folder / TOLD).read_text("utf-8"))
        form = ReaderFormat.of(told["format"])
        layers, dim, temperature = int(told["layers"]), int(told["dim"]), float(told["temperature"])
        weights = load_file(folder / HEAD)
    except Exception as error:  # the library raises its own, of no common base
        raise DamagedWeights(f"{folder} holds no reader: {error}") from error
    where = llm_body.device_of(device)
    base = llm_body.body(llm_folder, where, layers=layers)
    head = Head(int(base.config.hidden_size), dim)
    try:
        head.load_state_dict(weights)
    except RuntimeError as error:
        raise DamagedWeights(f"{folder / HEAD} was not trained on this LLM") from error
    model = peft_methods.load(base, folder)
    tuning = peft_methods.saved(folder)
    return TrainedReader(
        model.to(where), head.to(where), tuning, form, layers, llm_folder, temperature
    )


def reader_states(
    reader: TrainedReader,
    log: TrainingLog,
    starts: Places,
    stops: Places,
    *,
    batch_tokens: int = 4096,
    progress: Progress | None = None,
) -> Tensor:
    """Unit vectors (q, d) after the events ``starts:stops`` (q,) each, read as serving reads them.

    Zero where a history has nothing to read. A prompt that another one begins with costs nothing:
    it is the same state on the way (asked for the last event of a shopper and the one before it,
    the second is free).
    """
    prompts = Prompts(log, reader.form, Tokenizer(reader.llm_folder / "tokenizer.json"))
    texts = [
        prompts(start, stop)[0].tokens
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
    ]
    return states_of(reader, texts, batch_tokens=batch_tokens, progress=progress)


@torch.inference_mode()
def states_of(
    reader: TrainedReader,
    texts: Sequence[Tokens],
    *,
    batch_tokens: int = 4096,
    progress: Progress | None = None,
) -> Tensor:
    """Unit vectors (q, d) at the end of each prompt; zero of an empty one."""
    device = next(reader.head.parameters()).device
    reader.model.eval()
    found = torch.zeros(len(texts), reader.head.linear.out_features)
    carried = _carried(texts)
    carriers = sorted(carried, key=lambda n: len(texts[n]))
    done, total = 0, sum(len(texts[n]) for n in carriers)
    for run in alike([len(texts[n]) for n in carriers], batch_tokens):
        some = [carriers[n] for n in run]
        states = llm_body.states(reader.model, padded([texts[n] for n in some]).to(device))
        asked = [(row, n) for row, carrier in enumerate(some) for n in carried[carrier]]
        rows = torch.tensor([row for row, _ in asked])
        columns = torch.tensor([len(texts[n]) - 1 for _, n in asked])
        found[[n for _, n in asked]] = reader.head(states[rows, columns]).cpu()
        done += sum(len(texts[n]) for n in some)
        (progress or Silent()).step(done, total, loss=0.0, metric=0.0)
    return found


def _carried(texts: Sequence[Tokens]) -> dict[int, list[int]]:
    """For each prompt that has to be read, those that are read with it: itself and its beginnings.

    In the order of their tokens a prompt stands before all that begin with it.
    """
    order = sorted((n for n, text in enumerate(texts) if text), key=lambda n: texts[n])
    found: dict[int, list[int]] = {}
    carrier = -1
    for n in reversed(order):
        if carrier >= 0 and texts[carrier][: len(texts[n])] == texts[n]:
            found[carrier].append(n)
        else:
            carrier = n
            found[n] = [n]
    return found
