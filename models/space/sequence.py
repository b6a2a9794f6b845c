"""The sequence model: what a shopper looks for next, as one vector in the space of the items.

Causal self-attention over the mixed vectors of the steps (SASRec, Kang and McAuley 2018,
arXiv 1808.09781), with how each was reached and how long after the one before as further inputs. A
shopper's vector and an item's are unit vectors of one space, so that the index's cosine is the
model's score.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from models.domain import KIND_NUMBERS, Kind
from models.space.mixup import MixUp, MixUpConfig
from models.space.recency import DECAY

#: Upper ends in seconds of the buckets of time between a step and the one before it.
_GAPS: Final = (60, 600, 3_600, 21_600, 86_400, 259_200, 604_800, 2_592_000, 7_776_000, 31_536_000)
#: Buckets: 0 pads, 1 is a first step, 2 and on are ``_GAPS`` and what is longer.
GAP_BUCKETS: Final = len(_GAPS) + 3


def gap_buckets(ts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bucket (l,) of the time between each of the ``ts`` (l,), epoch ms, and the one before."""
    if len(ts) == 0:
        return np.zeros(0, dtype=np.int64)
    seconds = np.diff(ts) / 1000
    later = np.searchsorted(np.array(_GAPS), seconds, side="left") + 2
    return np.concatenate([[1], later]).astype(np.int64)


@dataclass(frozen=True, slots=True)
class SequenceConfig:
    """Sizes of the model. ``members``: so many are trained apart and searched as one vector.

    ``length``: the newest steps that are read; ``kinds``: the kinds' numbers lie below it;
    ``temperature``: of the softmax while training.
    With ``mixup.zero_shot`` the model begins as the zero-shot retriever, the recency-weighted mean
    (models/space/recency.py), to which attention adds what it learns.
    """

    mixup: MixUpConfig = field(default_factory=MixUpConfig)
    layers: int = 2
    heads: int = 2
    length: int = 20
    kinds: int = KIND_NUMBERS
    dropout: float = 0.4
    temperature: float = 0.07
    members: int = 1

    @property
    def dim(self) -> int:
        """D of the space: the members' vectors, side by side."""
        return self.members * self.mixup.out_dim

    def number(self, kind: Kind) -> int:
        """The number that a step of ``kind`` is read by: one that came later is read as a click."""
        return kind.number if kind.number < self.kinds else Kind.CLICK.number

    def to_json(self) -> dict[str, Any]:
        """For a manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> SequenceConfig:
        """The reverse. Raises ``TypeError`` or ``ValueError`` for what is no configuration."""
        return cls(**{**told, "mixup": MixUpConfig(**told["mixup"])})


class _Block(nn.Module):
    """Attention and a feed-forward network, both behind a norm (pre-norm)."""

    def __init__(self, d: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.between = nn.LayerNorm(d)
        self.feed = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, x: Tensor, visible: Tensor, *, newest: bool = False) -> Tensor:
        """(b, l, d) to the same, or the ``newest`` step's (b, 1, d); ``visible`` (b, 1, l, l)."""
        b, length, d = x.shape
        q, k, v = (
            part.view(b, length, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.before(x)).chunk(3, -1)
        )
        if newest:
            q, x, visible, length = q[:, :, -1:], x[:, -1:], visible[:, :, -1:], 1
        dropout = self.dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, dropout_p=dropout)
        seen = seen.transpose(1, 2).reshape(b, length, d)
        x = x + F.dropout(self.out(seen), self.dropout, self.training)
        return x + F.dropout(self.feed(self.between(x)), self.dropout, self.training)


class _Recency(nn.Module):
    """The recency-weighted mean of the steps so far; decay and kinds' weights are learnt."""

    def __init__(self, kinds: int) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.tensor(DECAY).logit())
        self.kinds = nn.Parameter(torch.zeros(kinds))  # logarithms
        self.gain = nn.Parameter(torch.tensor(0.1))  # of what attention adds

    def forward(self, inputs: Tensor, kinds: Tensor, causal: Tensor) -> Tensor:
        """(b, l, d) to unit (b, l, d); ``causal`` (l, l) is true up to each place itself."""
        places = torch.arange(inputs.shape[1], device=inputs.device)
        ages = (places[:, None] - places).clamp(min=0)
        weights = torch.sigmoid(self.decay) ** ages * causal
        own = self.kinds.exp()[kinds] * (kinds > 0)
        return F.normalize((weights * own[:, None, :]) @ inputs, dim=-1)


class Member(nn.Module):
    """One mix-up and one network over it."""

    def __init__(self, config: SequenceConfig, items: int, counts: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        d = config.mixup.out_dim
        self.mixup = MixUp(config.mixup, items, counts)
        self.places = nn.Embedding(config.length, d)
        self.kinds = nn.Embedding(config.kinds, d, padding_idx=0)
        self.gaps = nn.Embedding(GAP_BUCKETS, d, padding_idx=0)
        for table in (self.kinds, self.gaps):
            nn.init.zeros_(table.weight)
        nn.init.normal_(self.places.weight, std=0.02)
        self.blocks = nn.ModuleList(
            _Block(d, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(d)
        self.recency: _Recency | None = _Recency(config.kinds) if config.mixup.zero_shot else None

    def states(
        self, inputs: Tensor, kinds: Tensor, gaps: Tensor, *, newest: bool = False
    ) -> Tensor:
        """What is looked for after each step: unit (b, l, out_dim); (b, 1, out_dim): the newest.

        ``inputs`` (b, l, out_dim) are the steps' vectors, padded at the left; ``kinds`` and
        ``gaps`` (b, l) are 0 there. The newest step always has the last place.
        """
        _, length, d = inputs.shape
        x = inputs * math.sqrt(d) + self.places.weight[-length:]
        x = F.dropout(x + self.kinds(kinds) + self.gaps(gaps), self.config.dropout, self.training)
        causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        itself = torch.eye(length, dtype=torch.bool, device=x.device)  # or padding sees nothing
        visible = (causal & (kinds > 0)[:, None, :]) | itself
        for number, block in enumerate(self.blocks, 1):
            x = block(x, visible[:, None], newest=newest and number == len(self.blocks))
        found = self.norm(x).float()
        if self.recency is not None:
            mean = self.recency(inputs.float(), kinds, causal)[:, -found.shape[1] :]
            found = mean + self.recency.gain * F.normalize(found, dim=-1)
        return self._split_unit(found)

    def _split_unit(self, x: Tensor) -> Tensor:
        """Unit length; with ``score`` each side has its own, by the weight that it scores with."""
        if self.config.mixup.strategy != "score":
            return F.normalize(x, dim=-1)
        e, t = x.chunk(2, -1)
        a = self.config.mixup.a
        sides = [(1 - a) ** 0.5 * F.normalize(e, dim=-1), a**0.5 * F.normalize(t, dim=-1)]
        return torch.cat(sides, dim=-1)


class SequenceModel(nn.Module):
    """All members, searched as one: the cosine of their vectors side by side is the mean of theirs.

    That is an ensemble which costs one search (of ``members`` times the length).
    """

    def __init__(self, config: SequenceConfig, items: int, counts: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(Member(config, items, counts) for _ in range(config.members))

    def item_vectors(self, rows: Tensor, titles: Tensor, words: Tensor | None = None) -> Tensor:
        """Unit (k, d) of ``rows`` (k,) with title vectors ``titles`` (k, t) and ``words`` (k, w).

        Row 0 is an item without a trained ID. Zero where nothing is known of the item.
        """
        sides = [
            member.mixup(rows, titles, words)  # type: ignore[operator]
            for member in self.members
        ]
        return F.normalize(torch.cat(sides, dim=-1), dim=-1)

    def shopper_vectors(self, inputs: Tensor, kinds: Tensor, gaps: Tensor) -> Tensor:
        """Unit (b, d): what is looked for after the last step. Arguments as ``Member.states``."""
        return self.states(inputs, kinds, gaps, newest=True)[:, -1]

    def states(
        self, inputs: Tensor, kinds: Tensor, gaps: Tensor, *, newest: bool = False
    ) -> Tensor:
        """Unit (b, l, d), after each step, or (b, 1, d) after the newest."""
        parts = inputs.chunk(len(self.members), -1)
        found = [
            member.states(F.normalize(part, dim=-1), kinds, gaps, newest=newest)  # type: ignore[operator]
            for member, part in zip(self.members, parts, strict=True)
        ]
        return F.normalize(torch.cat(found, dim=-1), dim=-1)
