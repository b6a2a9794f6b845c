"""Writes a catalogue and a log of any length as the arrays that ``log.py`` reads.

Events are grouped by shopper without holding all of them: they are written to parts by a hash of
the shopper, and each part is sorted apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.domain import Item, Kind
from models.errors import InvalidFile
from models.ports import FloatArray
from models.space.words import LENGTH, Vocabulary
from models.training.data.log import Logged, Summary, TrainingLog, user_hash

#: Shoppers are grouped part by part: a part of the events is held in memory at once.
_PARTS: Final = 64
_CHUNK: Final = 100_000  # events gathered before they are written
_ENCODE: Final = 2048  # texts a call of the encoder
#: Distinct queries beyond this are left out: their vectors are held like items'.
MOST_QUERIES: Final = 500_000
_SEARCH: Final = Kind.SEARCH.number
_LED: Final = 255  # a search that stands for the query of the click after it; only while grouping
_OF_ITEM: Final = np.isin(np.arange(256), [kind.number for kind in Kind if kind.of_item])
_RAW: Final = np.dtype([("user", "<u8"), ("row", "<i4"), ("kind", "u1"), ("ts", "<i8")])

Encode = Callable[[list[str]], FloatArray]


def prepare(
    folder: Path, items: Iterable[Item], events: Iterable[Logged], encode: Encode
) -> TrainingLog:
    """Writes the arrays into ``folder`` (empty) and opens it. Memory: the ids, one part of events.

    Events need not be sorted: each shopper's are, by ts, those of one ts in the order they came.
    An event of an item that the catalogue does not have is left out and counted. Of items with
    one id the first counts. Raises ``InvalidFile`` where nothing is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "texts.bin").open("wb") as texts:
        ends = [0]
        rows: dict[str, int] = {}
        encoded: list[str] = []
        for item in items:
            if item.item_id not in rows:
                rows[item.item_id] = len(rows) + 1
                ends.append(ends[-1] + texts.write(_json(_told(item))))
                encoded.append(item.text)
        grouping = _Grouping(folder, rows)
        grouping.add(events)
        for query in grouping.queries:
            ends.append(ends[-1] + texts.write(_json(query)))
        encoded += grouping.queries
    np.save(folder / "text_ends.npy", np.array(ends, dtype=np.int64))
    vocabulary = Vocabulary.of(encoded[: len(rows)])
    known = {"words": vocabulary.words, "weights": vocabulary.weights}
    (folder / "vocabulary.json").write_text(json.dumps(known), "utf-8")
    _number_all(folder / "words.npy", encoded, vocabulary)
    title_dim = _encode_all(folder / "titles.npy", encoded, encode)
    counts, shoppers, events_kept, first, last = grouping.finish()
    np.save(folder / "counts.npy", counts)
    summary = Summary(
        len(rows),
        len(grouping.queries),
        shoppers,
        events_kept,
        first,
        last,
        grouping.unknown,
        title_dim,
        _fingerprint(folder),
    )
    (folder / "summary.json").write_text(json.dumps(asdict(summary), indent=2), "utf-8")
    return TrainingLog(folder)


class _Grouping:
    """Events by shopper without holding all of them: written to parts by hash, sorted apart."""

    def __init__(self, folder: Path, rows: dict[str, int]) -> None:
        self._folder = folder
        self._rows = rows
        self._queries: dict[str, int] = {}
        self.unknown = 0

    @property
    def queries(self) -> list[str]:
        return list(self._queries)

    def add(self, events: Iterable[Logged]) -> None:
        gathered: list[tuple[int, int, int, int]] = []
        for event in events:
            gathered += self._lines(event)
            if len(gathered) >= _CHUNK:
                self._spill(gathered)
                gathered = []
        self._spill(gathered)

    def _lines(self, event: Logged) -> Iterator[tuple[int, int, int, int]]:
        user = user_hash(event.user_id)
        if event.query and event.query.strip() and (query := self._query(event.query)):
            yield user, query, _SEARCH if event.kind is Kind.SEARCH else _LED, event.ts
        if event.item_id is not None:
            row = self._rows.get(event.item_id, 0)
            if row:
                yield user, row, event.kind.number, event.ts
            else:
                self.unknown += 1

    def _query(self, text: str) -> int:
        """The query's row; 0 when there are too many."""
        if text not in self._queries:
            if len(self._queries) >= MOST_QUERIES:
                return 0
            self._queries[text] = len(self._rows) + 1 + len(self._queries)
        return self._queries[text]

    def _spill(self, gathered: list[tuple[int, int, int, int]]) -> None:
        raw = np.array(gathered, dtype=_RAW)
        parts = raw["user"] % _PARTS
        for part in np.unique(parts):
            with self._part(int(part)).open("ab") as file:
                raw[parts == part].tofile(file)

    def _part(self, part: int) -> Path:
        return self._folder / f"part-{part}.raw"

    def finish(self) -> tuple[NDArray[np.int32], int, int, int, int]:
        """Writes the arrays: (counts, shoppers, events, first ts, last ts)."""
        files = [self._part(p) for p in range(_PARTS) if self._part(p).exists()]
        if not files:
            raise InvalidFile(
                "nothing can be learnt: the log has no event of an item that the catalogue has "
                f"({self.unknown} of other items); do both files belong together?"
            )
        total = sum(len(_sorted(file)) for file in files)
        outs = {
            "rows": _new(self._folder / "rows.npy", np.int32, (total,)),
            "kinds": _new(self._folder / "kinds.npy", np.uint8, (total,)),
            "ts": _new(self._folder / "ts.npy", np.int64, (total,)),
        }
        counts = np.zeros(len(self._rows) + 1, dtype=np.int32)
        lengths: list[NDArray[np.int64]] = []
        users: list[NDArray[np.uint64]] = []
        at = 0
        for file in files:
            raw = _sorted(file)
            for name, out in zip(("row", "kind", "ts"), outs.values(), strict=True):
                out[at : at + len(raw)] = raw[name]
            items = raw["row"][raw["row"] <= len(self._rows)]
            counts += np.bincount(items, minlength=len(counts)).astype(np.int32)
            distinct, times = np.unique(raw["user"], return_counts=True)
            users.append(distinct)
            lengths.append(times)
            at += len(raw)
            file.unlink()
        sizes = np.concatenate(lengths) if lengths else np.zeros(0, dtype=np.int64)
        np.save(self._folder / "offsets.npy", np.concatenate([[0], np.cumsum(sizes)]))
        np.save(self._folder / "users.npy", np.concatenate(users))
        first, last = int(outs["ts"].min()), int(outs["ts"].max())
        for out in outs.values():
            out.flush()
        return counts, len(sizes), total, first, last


def _sorted(file: Path) -> Any:
    """The raw events of a part by shopper and ts, without the searches that were said already."""
    raw = np.fromfile(file, dtype=_RAW)
    raw = raw[np.lexsort((raw["ts"], raw["user"]))]  # stable

    def same(back: int) -> NDArray[np.bool_]:
        """Whether the row so far back is the same shopper's search for the same."""
        found = np.zeros(len(raw), dtype=bool)
        now, then = raw[back:], raw[:-back]
        found[back:] = (now["user"] == then["user"]) & (now["row"] == then["row"])
        return found

    led, item = raw["kind"] == _LED, np.zeros(len(raw), dtype=bool)
    item[1:] = _OF_ITEM[raw["kind"][:-1]]
    said = led & (same(1) | (item & np.roll(led, 2) & same(2)))
    raw = raw[~said]
    raw["kind"][raw["kind"] == _LED] = _SEARCH
    return raw


def _encode_all(file: Path, texts: list[str], encode: Encode) -> int:
    """Title vectors (1 + texts, t) as float16; each distinct text of a stretch is encoded once."""
    out: np.memmap[Any, np.dtype[np.float16]] | None = None
    for start in range(0, len(texts), _ENCODE):
        some = texts[start : start + _ENCODE]
        distinct = sorted({text for text in some if text.strip()}, key=len)
        vectors = encode(distinct) if distinct else np.zeros((0, 1), dtype=np.float32)
        if out is None and len(distinct):
            out = _new(file, np.float16, (1 + len(texts), vectors.shape[1]))
        place = {text: row for row, text in enumerate(distinct)}
        for offset, text in enumerate(some):
            if text in place and out is not None:
                out[1 + start + offset] = vectors[place[text]]
    if out is None:  # no text anywhere
        out = _new(file, np.float16, (1 + len(texts), 1))
    out.flush()
    return int(out.shape[1])


def _number_all(file: Path, texts: list[str], vocabulary: Vocabulary) -> None:
    """The words (1 + texts, w) of all texts."""
    out = _new(file, np.int32, (1 + len(texts), LENGTH))
    for start in range(0, len(texts), _ENCODE):
        numbers = vocabulary.numbers(texts[start : start + _ENCODE])
        out[1 + start : 1 + start + len(numbers)] = numbers
    out.flush()


def _told(item: Item) -> dict[str, Any]:
    """The fields that a text may need."""
    fields: dict[str, Any] = {"item_id": item.item_id, "title": item.title, "ts": item.ts}
    for name in ("category", "brand", "colour", "price", "currency"):
        if (value := getattr(item, name)) is not None:
            fields[name] = value
    if item.attributes:
        fields["attributes"] = dict(item.attributes)
    return fields


def _fingerprint(folder: Path) -> str:
    """One sum over what was learnt from: ids and texts, and the events."""
    whole = hashlib.sha256()
    for name in ("texts.bin", "offsets.npy", "rows.npy", "kinds.npy", "ts.npy"):
        with (folder / name).open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode()


def _new(file: Path, kind: Any, shape: tuple[int, ...]) -> Any:
    if 0 in shape:  # cannot be mapped
        np.save(file, np.zeros(shape, dtype=kind))
        return np.load(file)
    return np.lib.format.open_memmap(file, mode="w+", dtype=kind, shape=shape)
