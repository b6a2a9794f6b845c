"""From two files to all that a replay needs, made once in a work folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.atomic_folder import Say
from models.ports import TitleEncoder
from models.training.data.log import TrainingLog
from models.training.run import prepared
from stream.contracts.declaration import EARLIEST
from stream.contracts.topics import TopicNames
from stream.files.columns import Columns
from stream.files.publish import Entry, event_entries, product_entries
from stream.files.row_file import RowFile
from stream.files.training_rows import sources
from stream.replay.questions import protocols
from stream.replay.questions.event_store import Spool, spooled
from stream.replay.questions.protocols import Asked
from stream.settings import Settings

#: The ts of products whose file names none, the least there is: they are there from the start.
UNDATED: Final = EARLIEST


@dataclass(frozen=True, slots=True)
class Live:
    """One way to serve: a bundle's folder ("": zero-shot) and what decides the LLM's weight."""

    name: str
    bundle: str
    rerank: str  # gate, always, never


@dataclass(frozen=True, slots=True)
class Request:
    """What to replay and how; see ``weft replay --help``. Times are epoch ms."""

    events: Path
    catalog: Path
    settings: Settings
    report: Path
    lives: tuple[Live, ...]
    baselines: tuple[str, ...] = ()
    protocol: str = "prequential"
    first: int | None = None
    until: int | None = None
    new_only: bool = False
    shoppers: int = 0
    jobs: int = 1
    seed: int = 0
    command: str = ""
    title: str = ""
    columns: Columns | None = None  # of the log, and of the catalogue
    catalog_columns: Columns | None = None

    @property
    def work(self) -> Path:
        """Where a replay that is killed goes on from."""
        return self.report / ".work"

    @property
    def asked_in(self) -> Path:
        """Where the answers to these very questions are kept: other options have another place."""
        return self.work / f"asked-{self.mark}"

    @property
    def mark(self) -> str:
        """A name for everything that decides an answer, beside who answers and the files."""
        told = (
            self.protocol, self.first, self.until, self.new_only, self.shoppers,
            self.seed, str(self.columns), str(self.catalog_columns), self._serving(),
        )  # fmt: skip
        return hashlib.sha256(repr(told).encode()).hexdigest()[:12]

    def _serving(self) -> tuple[str, ...]:
        """The settings that decide a list."""
        names = ("index", "candidates", "bought", "rerank_weight", "popularity", "popularity_days",
                 "llm", "encoder", "encoder_type")  # fmt: skip
        return tuple(str(getattr(self.settings, name)) for name in names)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The log in both orders, what is asked of it, and the catalogue's records by time."""

    log: TrainingLog
    spool: Spool
    asked: Asked
    products: Sequence[Entry]
    set_aside: int

    @property
    def dated(self) -> bool:
        """Whether a product enters while the log runs."""
        return bool(self.products) and self.products[-1].ts > UNDATED

    @property
    def enters(self) -> NDArray[np.int64] | None:
        """When each row (1 + n,) enters (epoch ms); None where all are there from the start."""
        if not self.dated:
            return None
        rows = {item_id: row for row, item_id in enumerate(self.log.item_ids, 1)}
        found = np.full(len(rows) + 1, UNDATED, dtype=np.int64)
        for entry in reversed(self.products):  # the earliest of an item counts
            found[rows[(entry.record.key or b"").decode()]] = entry.ts
        return found

    def taking_part(self, job: int = 0, jobs: int = 1, *, some: bool = False
                    ) -> NDArray[np.bool_] | None:  # fmt: skip
        """The records (n,) of the shoppers whose lists are made (None: all).

        With ``some`` only those who are asked; of these a job has every ``jobs``-th, by hash.
        """
        if not some and jobs == 1:
            return None
        users = np.asarray(self.spool.users)
        mine: NDArray[np.bool_] = users % np.uint64(jobs) == job
        if some:
            mine &= np.isin(users, self.log.users[self.asked.baskets.shoppers])
        return mine


def prepare(request: Request, encoder: TitleEncoder, say: Say) -> Prepared:
    """Reads what was not read before. Raises ``InvalidFile``."""
    aside: list[int] = []  # rows that could not be used, a file
    told = sources(
        request.catalog, request.events, lambda _rows: None, request.catalog_columns,
        request.columns,
    )  # fmt: skip
    _forget_others(request.work, told.key)
    log = prepared(request.work / "log", told, encoder, say)
    names = TopicNames()

    def entries() -> Iterator[Entry]:
        with RowFile(request.events, columns=request.columns) as rows:
            yield from event_entries(rows, names)
            aside.append(rows.aside.count)

    spool = spooled(request.work / "spool", told.key, entries, say)
    with RowFile(request.catalog, columns=request.catalog_columns) as rows:
        products = list(product_entries(rows, names, undated=UNDATED))
        aside.append(rows.aside.count)
    products.sort(key=lambda entry: entry.ts)
    trained_until, held_out = _trained_on(request, say)
    asked = protocols.cut(
        log, request.protocol, request.first, request.until, new_only=request.new_only,
        trained_until=trained_until,
    )  # fmt: skip
    asked = replace(asked, held_out_categories=held_out)
    asked = protocols.sampled(asked, log, request.shoppers)
    return Prepared(log, spool, asked, products, sum(aside))


def _forget_others(work: Path, key: str) -> None:
    """Deletes what was answered about other files."""
    mark = work / "files.json"
    work.mkdir(parents=True, exist_ok=True)
    known = json.loads(mark.read_text("utf-8")) if mark.is_file() else None
    if known == {"key": key}:
        return  # several jobs come here at once, after their parent wrote it
    for folder in work.glob("asked-*") if known else ():
        shutil.rmtree(folder)
    mark.write_text(json.dumps({"key": key}), "utf-8")


def _trained_on(request: Request, say: Say) -> tuple[int, frozenset[str]]:
    """The newest event that any bundle of the replay has learnt (epoch ms), 0 without a bundle.

    And the categories that the training of any of them left out.
    """
    from models.bundle.files import read_manifest

    newest, held_out = 0, set[str]()
    for live in request.lives:
        if live.bundle:
            split = read_manifest(Path(live.bundle)).told.split
            if (told := split.get("trained_until")) is None:
                say(f"{live.name} does not say until when it learnt: mind that --from is later")
            newest = max(newest, int(told or 0))
            held_out.update(split.get("held_out_categories", ()))
    return newest, frozenset(held_out)
