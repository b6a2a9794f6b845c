"""Trains one member of the sequence model: every position predicts the next item.

The softmax runs over a step's own items: the positives of the batch, and as many again drawn
evenly from the catalogue. A positive of the batch is there as often as it is popular, so its logit
is lessened by the log of its chance to be there (sampling-bias correction, Yi et al. 2019,
doi 10.1145/3298689.3346996). Nothing grows with shoppers times items.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from models.space.sequence import Member, SequenceConfig
from models.training.data.checkpoint import keep, kept
from models.training.data.log import TrainingLog
from models.training.data.progress import Progress, Silent
from models.training.data.splits import Questions, Split, gains, hits
from models.training.data.windows import Batch, Windows
from models.training.sequence.evaluate import Titles, evaluate

_log = logging.getLogger("weft.training")

#: Grows when the same settings train another model.
_RECIPE: Final = 4
#: Parameters of which a step moves its own rows alone.
_SPARSE: Final = ("mixup.ids.weight", "mixup.title.words.weight")
_COMPONENTS: Final = 20_000  # titles whose principal components are a beginning


@dataclass(frozen=True, slots=True)
class SequenceTraining:
    """How to train.

    Ends after ``epochs``, or when validation has not gained for ``patience`` looks; it is looked
    at every ``every`` epochs, on ``asked`` questions. The rate falls evenly from ``lr`` to its
    share ``last_lr`` in the last epoch. ``pool``: negatives are drawn from "all" of
    the catalogue, or from those "seen" while training.
    """

    epochs: int = 16
    batch: int = 512
    negatives: int = 2048
    lr: float = 1e-3
    last_lr: float = 0.1
    every: int = 2
    patience: int = 4
    asked: int = 4000
    seed: int = 0
    pool: str = "all"


@dataclass(frozen=True, slots=True)
class Trained:
    """A member as it was at its best look at validation, and after how many ``epochs`` that was."""

    member: Member
    epochs: int


def train_member(
    log: TrainingLog,
    split: Split,
    config: SequenceConfig,
    how: SequenceTraining,
    work: Path,
    progress: Progress,
) -> Trained:
    """One trained member; the weights are those of the best look at validation.

    It is kept in a folder of its own below ``work``: after a kill a second call goes on from the
    last whole epoch, to the same weights.
    """
    place = work / f"member-{_key(log, split, config, how)}"
    member = _untrained(log, split.ends, config, how)
    run = Run(log, split.ends, split.validation.sample(how.asked, 1), member, how, progress)
    state = kept(place)
    if state is not None:
        run.load(state)
    elif config.mixup.zero_shot:
        run.look()  # what it begins as may be the best
    while not run.ended:
        run.epoch()
        keep(place, run.state())
    member.load_state_dict(run.best)
    return Trained(member.eval(), run.best_at)


def refit_member(
    log: TrainingLog,
    split: Split,
    trained: Trained,
    how: SequenceTraining,
    work: Path,
    progress: Progress,
) -> Member:
    """``trained`` anew from its beginning on what the split knows, validation's part included.

    What validation chose stays: its epochs, at the same rates, and each class's share of the title.
    Kept below ``work`` as ``train_member`` does.
    """
    config = trained.member.config
    place = work / f"refit-{_key(log, split, config, how)}-{trained.epochs}"
    member = _untrained(log, split.known, config, how)
    nobody = np.zeros(0, dtype=np.int64)
    asked = Questions(nobody, nobody, nobody, nobody)
    run = Run(log, split.known, asked, member, how, progress)
    state = kept(place)
    if state is not None:
        run.load(state)
    while run.done < trained.epochs:
        run.epoch()
        keep(place, run.state())
    member.mixup.shares.copy_(trained.member.mixup.shares)
    return member.eval()


def _untrained(
    log: TrainingLog, ends: NDArray[np.int64], config: SequenceConfig, how: SequenceTraining
) -> Member:
    torch.manual_seed(how.seed)
    member = Member(config, log.items, torch.from_numpy(counted(log, ends)))
    member.mixup.weigh(torch.tensor(log.vocabulary.weights))
    if config.mixup.zero_shot:
        some = np.random.default_rng(how.seed).permutation(len(log.titles))[:_COMPONENTS]
        member.mixup.begin_with(torch.from_numpy(log.titles[np.sort(some)].astype(np.float32)))
    return member


class Run:
    """A training under way."""

    def __init__(
        self,
        log: TrainingLog,
        ends: NDArray[np.int64],
        validation: Questions,
        member: Member,
        how: SequenceTraining,
        progress: Progress | None = None,
    ) -> None:
        self.log, self.member, self.how, self.progress = log, member, how, progress or Silent()
        self.validation = validation
        self.windows = Windows(log, ends, member.config.length)
        self.titles = Titles(log)
        named = dict(member.named_parameters())
        sparse = [named.pop(name) for name in _SPARSE if name in named]
        dense = list(named.values())
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(dense, lr=how.lr, weight_decay=0.0)
        ]
        if sparse:
            self.optimisers.append(torch.optim.SparseAdam(sparse, lr=how.lr))
        counts = counted(log, ends)
        self.chances = torch.from_numpy(counts / max(counts.sum(), 1)).float()
        self.pool = torch.arange(1, log.items + 1)
        if how.pool == "seen":
            self.pool = torch.from_numpy(np.flatnonzero(counts))
        self.done = 0
        self.score = -1.0
        self.waited = 0
        self.best_at = 0  # epochs
        self.best: dict[str, Tensor] = _copied(member)

    @property
    def ended(self) -> bool:
        """All epochs done, or no gain for long enough."""
        return self.done >= self.how.epochs or self.waited >= self.how.patience

    def epoch(self) -> None:
        """One pass over all windows, and perhaps a look at validation."""
        how = self.how
        rng = np.random.default_rng([how.seed, self.done])
        torch.manual_seed(int(rng.integers(2**62)))  # an epoch begun anew is the same one
        self.member.train()
        rate = how.lr * (1 - (1 - how.last_lr) * self.done / max(how.epochs - 1, 1))
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
        count = -(-len(self.windows) // how.batch)
        losses: list[float] = []
        for number, parts in enumerate(self.windows.batches(how.batch, rng)):
            losses += self.learn(parts)
            self.progress.step(
                self.done * count + number + 1, how.epochs * count,
                loss=float(np.mean(losses[-50:] or [0.0])), metric=max(self.score, 0.0),
            )  # fmt: skip
        self.done += 1
        if self.done % how.every == 0 or self.done == how.epochs:
            self.look()

    def learn(self, parts: Sequence[Batch]) -> list[float]:
        """One step on all parts; its loss, or nothing where they ask for nothing."""
        loss = self._loss(parts)
        if loss is None:
            return []
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimiser in self.optimisers:
            optimiser.step()
        return [float(loss.detach())]

    def _loss(self, parts: Sequence[Batch]) -> Tensor | None:
        targets = torch.cat([part.targets[part.targets > 0] for part in parts])
        if not len(targets):
            return None
        drawn = self.pool[torch.randint(len(self.pool), (self.how.negatives,))]
        candidates = torch.unique(torch.cat([targets, drawn]))
        rows = torch.unique(torch.cat([*(part.rows.flatten() for part in parts), candidates]))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            known = torch.where(rows <= self.log.items, rows, 0)  # a query is its text alone
            table = self.member.mixup(known, *self.titles(rows)) * (rows > 0)[:, None]
            states = torch.cat([self._states(part, rows, table) for part in parts])
            if self.member.config.mixup.strategy == "beta":  # other weights on the other side
                table = self.member.mixup(known, *self.titles(rows))
            chosen = F.embedding(torch.searchsorted(rows, candidates), table)
            logits = (states / self.member.config.temperature) @ chosen.T
        logits = logits.float()
        logits = logits - self._log_chance(candidates, len(targets))
        return F.cross_entropy(logits, torch.searchsorted(candidates, targets))

    def _states(self, part: Batch, rows: Tensor, table: Tensor) -> Tensor:
        """After each step (m, d) that has a target; ``table`` holds the vectors of ``rows``."""
        inputs = F.embedding(torch.searchsorted(rows, part.rows), table)
        states: Tensor = self.member.states(inputs, part.kinds, part.gaps)
        return states[part.targets > 0]

    def _log_chance(self, candidates: Tensor, targets: int) -> Tensor:
        """Log of each candidate's chance (c,) to be among this step's."""
        drawn = 1 - (1 - 1 / len(self.pool)) ** self.how.negatives
        positive = 1 - (1 - self.chances[candidates]) ** targets
        return torch.log(1 - (1 - drawn) * (1 - positive))

    def look(self) -> None:
        """Asks validation, if there is any, and keeps the weights that are the best so far."""
        if not len(self.validation):
            return
        self.member.eval()
        found = evaluate(self.log, self.validation, self.member, self.titles)
        score = float(gains(found).mean())
        _log.info(
            "epoch %d: validation HR@10 %.4f NDCG@10 %.4f", self.done, hits(found).mean(), score
        )
        if score > self.score:
            self.score, self.waited, self.best = score, 0, _copied(self.member)
            self.best_at = self.done
        else:
            self.waited += 1

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "member": self.member.state_dict(),
            "best": self.best,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "numbers": [self.done, self.score, self.waited, self.best_at],
        }

    def load(self, state: dict[str, Any]) -> None:
        """From one."""
        self.member.load_state_dict(state["member"])
        self.best = state["best"]
        for optimiser, told in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(told)
        self.done, self.score, self.waited, self.best_at = state["numbers"]


def _key(log: TrainingLog, split: Split, config: SequenceConfig, how: SequenceTraining) -> str:
    """A name for one training: another log, split or setting has another."""
    told = [_RECIPE, log.summary.fingerprint, split.words, config.to_json(), asdict(how)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def counted(log: TrainingLog, ends: NDArray[np.int64]) -> NDArray[np.int32]:
    """Events of each item in the training parts, (n + 1,)."""
    counts = np.zeros(log.items + 1, dtype=np.int32)
    rows = np.asarray(log.rows)
    stretch = 4096
    for at in range(0, log.shoppers, stretch):
        some = slice(at, min(at + stretch, log.shoppers))
        first, last = log.offsets[some.start], log.offsets[some.stop]
        inside = np.zeros(last - first + 1, dtype=np.int32)
        np.add.at(inside, log.offsets[:-1][some] - first, 1)
        np.add.at(inside, ends[some] - first, -1)
        mine = rows[first:last][np.cumsum(inside[:-1]) > 0]
        counts += np.bincount(mine[mine <= log.items], minlength=len(counts)).astype(np.int32)
    return counts


def _copied(member: Member) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in member.state_dict().items()}
