"""What an adapter of the item index gives, and whose an index is.

A worker has one index, or while it switches bundles two: of the zero-shot space, or of a bundle.
``stream.index.registry`` names the adapters.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from models.ports import ItemIndex
from stream.findings import Finding
from stream.index.points import Position
from stream.settings import Settings

#: What follows the name of a zero-shot index in the name of a bundle's.
SUFFIX: Final = r"(?:-([0-9a-f]{12}))?"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose an index is: it holds the products of one prefix on one cluster, for one group.

    Workers of a group share what is shared. Two groups of a shop do not: each switches bundles and
    clears old indexes away by a control topic of its own. ``cluster`` is the broker's id, "" for
    the embedded one, which has another at each start, None where no broker told it.
    """

    cluster: str | None
    prefix: str
    group: str


@dataclass(frozen=True, slots=True)
class IndexHome:
    """Where a worker's indexes are, and whose. ``folder`` is the zero-shot one's, if not usual."""

    settings: Settings
    folder: Path | None = None
    cluster: str | None = ""

    @property
    def owner(self) -> Owner:
        """Whose the indexes are."""
        return Owner(self.cluster, self.settings.topic_prefix, self.settings.group)

    def name(self, bundle: str = "") -> str:
        """Of a bundle's index, "" is the zero-shot space."""
        told = self.settings
        base = told.collection or f"{told.group}-{told.topic_prefix}items"  # as the changelog's
        return f"{base}-{bundle}" if bundle else base

    def path(self, bundle: str = "") -> Path:
        """Of a bundle's index, where that is a folder."""
        home = self.folder or self.settings.data_dir / "index" / self.name()
        return home.with_name(f"{home.name}-{bundle}") if bundle else home


class PositionKeeper(Protocol):
    """An index that keeps its place in the products topic beside its items."""

    def position(self) -> Position | None:
        """The place kept last; None in a new index."""

    def keep_position(self, position: Position) -> None:
        """Flushes the items, then keeps the place."""

    def clear(self) -> None:
        """Removes items and place."""


@runtime_checkable
class OwnIndex(ItemIndex, PositionKeeper, Protocol):
    """An index that one worker has to itself, and fills from all of the products topic."""


@runtime_checkable
class SharedIndex(ItemIndex, Protocol):
    """An index that all workers of a group fill together.

    ``identity`` is made with it: a consumer group named by it reads the products topic anew when
    the index is new.
    """

    identity: str


class IndexAdapter(Protocol):
    """One kind of index. Its indexes are ``SharedIndex`` where ``shared``, else ``OwnIndex``.

    Nothing here touches an index of another owner.
    """

    @property
    def shared(self) -> bool:
        """Whether workers share an index."""

    def open(self, home: IndexHome, bundle: str, space: str, dim: int) -> ItemIndex:
        """The index of a bundle for vectors (dim,) of ``space``, made where it is missing.

        Raises ``IndexUnavailable`` (retry), ``IndexInUse``, ``IndexIncompatible``, ``IndexFull``,
        ``InvalidSettings``.
        """

    def known(self, home: IndexHome) -> set[str]:
        """The bundles that have an index; "" is the zero-shot space. Raises as ``open``."""

    def drop(self, home: IndexHome, bundle: str) -> None:
        """Deletes a bundle's index. Raises as ``open``, ``IndexInUse`` while a worker has it."""

    def examine(self, home: IndexHome, timeout: float) -> Finding:
        """What `weft doctor` says; changes nothing. May raise as ``open``."""
