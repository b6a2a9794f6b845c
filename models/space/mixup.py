"""Mix-up: an item's one vector out of two sides, what its ID has learnt and what its title says.

The title's side is there for any item the moment it has a title; the ID's side only once a bundle
has trained it. So every strategy says what an item without a trained ID is: the title's side
alone, in the same space. The paper (arXiv 2410.11327) mixes by a weighted average; the other
strategies are ways to choose the weight, or not to need one.

    strategy   the vector of an item with a trained ID
    id         e                                  (nothing for an item without one)
    title      t
    average    unit((1 - a) e + a t), a fixed while training, by class of item after
    count      the same, a = k / (k + the item's events while training)
    beta       the same, a drawn from Beta(.5, .5) for each item and step while training
    gate       the same, a read off e, t and the count by a small network
    concat     unit(W [e; t]), e left out now and then while training
    score      [sqrt(1 - a) e; sqrt(a) t]: a cosine is then the weighted sum of both sides' cosines
    residual   unit(t + g e), where e begins at nothing: the ID learns what the title cannot say

e and t are unit vectors but in ``residual``, where e is as long as the evidence made it. The
title's side is a small network over the title's vector, and to that the sum of its words' own
vectors (models/space/words.py): what a title means, and what it says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

STRATEGIES: Final = (
    "id", "title", "average", "count", "beta", "gate", "concat", "score", "residual",
)  # fmt: skip

#: Classes of items by their events while training, for a weight of the title of each class's own:
#: the least events of a class. Without any the title stands alone, whatever the class.
CLASSES: Final = {"cold": 1, "young": 5, "warm": 20}
#: Events at which an ID counts as much as the title, strategy ``count``.
_HALF_WAY: Final = 8.0
#: How long the words' part of a title begins beside the vector's, which is 1: a cosine of two
#: titles is then 2/3 that of their words: untrained retrieval found most so (docs/log.md, 18).
_WORDS_BEGIN: Final = 1.5
#: Share of the items whose ID is left out of a step, so that the title's side stands on its own.
_ID_DROPOUT: Final = {"concat": 0.25, "residual": 0.1, "gate": 0.1}


@dataclass(frozen=True, slots=True)
class MixUpConfig:
    """``title_dim``: length of a title vector; ``dim``: d of each side; ``a``: the title's weight.

    ``words``: so many words have vectors of their own, the most at hand while nothing is trained;
    ``hidden`` is the width of the title's network, 0 for a plain linear map. ``zero_shot``: the
    title's side begins as the title vectors' own principal components and learns from there, so
    that a small log does not have to find out anew what titles are alike.
    """

    strategy: str = "average"
    title_dim: int = 384
    dim: int = 128
    hidden: int = 256
    a: float = 0.5
    zero_shot: bool = False
    words: int = 0

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ValueError(f"no mix-up strategy {self.strategy!r}: {', '.join(STRATEGIES)}")

    @property
    def out_dim(self) -> int:
        """Length of an item's vector: both sides stay apart in ``score``."""
        return 2 * self.dim if self.strategy == "score" else self.dim


class MixUp(nn.Module):
    """Item vectors of ``items`` trained IDs; row 0 stands for an item without one.

    ``counts`` (items + 1,) are the events of each while training, 0 where there were none: such an
    ID has learnt nothing and is left out.
    """

    counts: Tensor
    shares: Tensor

    def __init__(self, config: MixUpConfig, items: int, counts: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        d = config.dim
        self.ids: nn.Embedding | None = None
        if config.strategy != "title":
            # sparse: a step's gradient is that of its own items, whatever the catalogue's size
            self.ids = nn.Embedding(items + 1, d, sparse=True)
            nn.init.normal_(self.ids.weight, std=0.0 if config.strategy == "residual" else 0.02)
        self.title = _TitleSide(config) if config.strategy != "id" else None
        self.gate = nn.Sequential(nn.Linear(2 * d + 1, 32), nn.GELU(), nn.Linear(32, 1))
        self.concat = nn.Linear(2 * d, d)
        if config.strategy != "gate":
            self.gate = nn.Identity()  # type: ignore[assignment]
        if config.strategy != "concat":
            self.concat = nn.Identity()  # type: ignore[assignment]
        self.strength = nn.Parameter(torch.tensor(1.0)) if config.strategy == "residual" else None
        self.register_buffer("counts", torch.zeros(items + 1) if counts is None else counts.float())
        # the title's weight by class, where it is fixed: validation may move it after training
        self.register_buffer("shares", torch.full((len(CLASSES),), config.a))

    @torch.no_grad()
    def begin_with(self, titles: Tensor) -> None:
        """Has the title's side begin as the principal components of ``titles`` (k, t).

        Not centred: a cosine of two titles is then kept as well as d numbers can. Words begin as
        random directions, so that the words which two titles share bring them together (random
        indexing: Kanerva et al. 2000).
        """
        side = self.title
        if side is None or side.straight is None:
            return
        _, _, components = torch.linalg.svd(titles, full_matrices=False)
        some = components[: self.config.dim]
        side.straight.weight.zero_()
        side.straight.weight[: len(some)] = some
        if side.words is not None:
            nn.init.normal_(side.words.weight[1:], std=_WORDS_BEGIN / self.config.dim**0.5)

    @torch.no_grad()
    def weigh(self, words: Tensor) -> None:
        """Sets how much each word of a title counts, (words,) from number 1 on; else all alike."""
        if self.title is not None and self.title.words is not None:
            self.title.weights[1:] = words[: len(self.title.weights) - 1]

    def forward(self, rows: Tensor, titles: Tensor, words: Tensor | None = None) -> Tensor:
        """Unit vectors (k, out_dim) of ``rows`` (k,), whose title vectors are ``titles`` (k, t).

        ``words`` (k, w) are the numbers of the titles' words, 0 for none. Where neither side is
        known (no trained ID, an all-zero title) the vector is zero.
        """
        strategy = self.config.strategy
        t = None
        if self.title is not None:
            t = F.normalize(self.title(titles, words).float(), dim=-1) * _present(titles)
        if self.ids is None:
            assert t is not None
            return t
        known = (self.counts[rows] > 0).float()[:, None]
        raw = self.ids(rows)
        if t is None:
            return F.normalize(raw, dim=-1) * known
        if self.training and (dropout := _ID_DROPOUT.get(strategy)):
            known = known * (torch.rand_like(known) >= dropout).float()
        return self._mixed(rows, raw, t, known)

    def _mixed(self, rows: Tensor, raw: Tensor, t: Tensor, known: Tensor) -> Tensor:
        strategy = self.config.strategy
        if strategy == "residual":
            assert self.strength is not None
            return F.normalize(t + self.strength * raw * known, dim=-1)
        e = F.normalize(raw, dim=-1) * known
        if strategy == "concat":
            return F.normalize(self.concat(torch.cat([e, t], dim=-1)).float(), dim=-1)
        a = self._weight(rows, e, t)
        a = torch.where(known > 0, a, torch.ones_like(a))
        a = torch.where(t.abs().sum(-1, keepdim=True) > 0, a, torch.zeros_like(a))
        if strategy == "score":
            return F.normalize(torch.cat([(1 - a).sqrt() * e, a.sqrt() * t], dim=-1), dim=-1)
        return F.normalize((1 - a) * e + a * t, dim=-1)

    def _weight(self, rows: Tensor, e: Tensor, t: Tensor) -> Tensor:
        """The title's weight a (k, 1) of items with a trained ID."""
        strategy, count = self.config.strategy, self.counts[rows][:, None]
        if strategy == "count":
            return _HALF_WAY / (_HALF_WAY + count)
        if strategy == "beta" and self.training:
            half = torch.full_like(count, 0.5)
            return torch.distributions.Beta(half, half).sample()
        if strategy == "gate":
            seen = torch.cat([e, t, torch.log1p(count)], dim=-1)
            return torch.sigmoid(self.gate(seen).float())
        if self.training:
            return torch.full_like(count, self.config.a)
        least = torch.tensor(list(CLASSES.values())[1:], device=count.device)
        return self.shares[torch.bucketize(count, least, right=True)]


class _TitleSide(nn.Module):
    """Title vectors (k, t) and the numbers of their words (k, w) to (k, d)."""

    weights: Tensor

    def __init__(self, config: MixUpConfig) -> None:
        super().__init__()
        t, d, hidden = config.title_dim, config.dim, config.hidden
        straight = config.zero_shot or not hidden
        self.straight = nn.Linear(t, d, bias=not config.zero_shot) if straight else None
        last = nn.Linear(hidden, d) if hidden else None
        self.bent = nn.Sequential(nn.Linear(t, hidden), nn.GELU(), last) if last else None
        if config.zero_shot and last is not None:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.words: nn.EmbeddingBag | None = None
        if config.words:
            # sparse, as the IDs are; a word that nothing has trained says nothing
            self.words = nn.EmbeddingBag(
                config.words + 1, d, mode="sum", sparse=True, padding_idx=0
            )
            nn.init.zeros_(self.words.weight)
            self.register_buffer("weights", torch.ones(config.words + 1))

    def forward(self, titles: Tensor, words: Tensor | None = None) -> Tensor:
        ways: list[Tensor] = [way(titles) for way in (self.straight, self.bent) if way is not None]
        if self.words is not None and words is not None:
            weights = F.normalize(self.weights[words] * (words > 0), dim=-1)
            ways.append(self.words(words, per_sample_weights=weights))
        return torch.stack(ways).sum(0)


def _present(titles: Tensor) -> Tensor:
    """1 where there is a title (k, 1), 0 where the vector is all zero."""
    return (titles.abs().sum(-1, keepdim=True) > 0).float()
