"""What is fuzzed, each with its one permitted error; ``python -m bench.fuzz`` runs more of it.

A target is called with dice, makes one input and says whether it was taken. Any exception that
comes out of it is a failure, and so is an ``AssertionError``: what was taken must be usable.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import orjson

from models.domain import Kind, Recommendation
from models.errors import BadMessage, InvalidFile, InvalidSettings, UnreadableState
from models.recommend.popularity import Popularity
from models.recommend.query_memory import QueryMemory
from stream.contracts.codec import (
    AsOf,
    ShopperEvent,
    decode_product,
    decode_recommendation,
    decode_shopper,
    encode_recommendation,
)
from stream.contracts.fields import EXACT
from stream.contracts.topics import SHOPPER_TOPICS
from stream.files.columns import EVENTS, PRODUCTS, Columns
from stream.importers.run import import_log
from stream.settings import Settings, load
from stream.shoppers.aggregates import Aggregates
from stream.shoppers.state import Applied, ShopperState, loads
from testbed import damage
from testbed.published_logs import WRITERS, lines
from testbed.stand_ins import HashEncoder

NOW: Final = 1_700_000_000_000
Target = Callable[[Random], bool]
_CLICK: Final = {"user_id": "u1", "item_id": "i1", "ts": NOW, "query": "midi", "event_id": "e"}
_PRODUCT: Final = {"item_id": "i1", "title": "Linen midi dress", "ts": NOW, "price": 49.5}
_LIST: Final = {
    "user_id": "u1", "reranked": True, "model": "m", "trigger": "click", "ts": NOW,
    "items": [{"item_id": "i1", "score": 0.5, "reason": "new", "source": "new"}],
    "as_of": {"partition": 0, "offsets": {"clicks": 3}, "ts": NOW},
}  # fmt: skip
_MESSAGES: Final = tuple(
    orjson.dumps(row)
    for row in (_CLICK, _PRODUCT | {"attributes": {"fit": "slim"}, "in_stock": True}, _LIST)
)


def codec(dice: Random) -> bool:
    """Any bytes on any topic: a value or ``BadMessage``."""
    whole = dice.choice(_MESSAGES)
    value: bytes | None = dice.choice((damage.of_bytes, damage.of_json))(dice, whole)
    if dice.random() < 0.01:
        value = None
    key: bytes | None = b"i1" if whole is _MESSAGES[1] else b"u1"
    if dice.random() < 0.1:
        key = dice.choice((b"u2", None, b"", b"\xff", b"\xed\xa0\x80"))
    taken = False
    decoders: tuple[Callable[[], object], ...] = (
        lambda: decode_product(key, value, NOW),
        lambda: decode_shopper(dice.choice(SHOPPER_TOPICS), key, value, NOW),
        lambda: decode_recommendation(key, value),
    )
    for decode in decoders:
        with contextlib.suppress(BadMessage):
            decode()
            taken = True
    return taken


def _states() -> tuple[bytes, ...]:
    full, erased = ShopperState(), ShopperState()
    for n, kind in enumerate((Kind.CLICK, Kind.PURCHASE, Kind.SEARCH)):
        item, query = (None, "hat") if kind is Kind.SEARCH else (f"i{n}", None)
        for state in (full, erased):
            event = ShopperEvent(kind, "u", NOW + n, item, query, event_id=f"e{n}")
            state.apply(SHOPPER_TOPICS[n], n, event)
    erased.apply("erasures", 7, ShopperEvent(None, "u", NOW + 9))
    full.rerank_due = True
    return full.dumps(), erased.dumps(), ShopperState().dumps()


_STATES: Final = _states()
_EMPTY: Final = Recommendation((), reranked=False, model="m")


def state(dice: Random) -> bool:
    """Any bytes on the changelog: ``UnreadableState``, or a state of which every use works."""
    value = dice.choice((damage.of_bytes, damage.of_json))(dice, dice.choice(_STATES))
    try:
        read = loads(value)
    except UnreadableState:
        return False
    assert loads(read.dumps()) == read
    use(read)
    return True


_DERIVED: Final = Aggregates(Popularity(28), QueryMemory(HashEncoder()))


def use(read: ShopperState) -> None:
    """Everything that the processor does with a state, then an event of each kind, and again."""
    for again in range(2):
        assert len(read.history().steps) == len(read.rows)
        as_of = AsOf(0, read.offsets, read.newest_ts)
        encode_recommendation(_EMPTY, user_id="u", trigger="click", as_of=as_of, ts=NOW)
        for kind, topic in zip([*Kind, None], SHOPPER_TOPICS, strict=True):
            offset = read.offsets.get(topic, -1) + 1
            if offset > EXACT:  # as far as any broker counts
                continue
            item = None if kind in (Kind.SEARCH, None) else "i"
            query = "hat" if kind is Kind.SEARCH else None
            event = ShopperEvent(kind, "u", NOW + again, item, query, event_id=f"f{again}")
            if read.apply(topic, offset, event) is Applied.NEW:
                _DERIVED.learn(read, topic, offset, event)
        _DERIVED.learn_all("u", read)
        assert loads(read.dumps()) == read


_TOML: Final = b"""# settings
kafka = "broker:9092"
partitions = 4
deadline = 2.5
session_timeout = 10
rerank = "gate"
sasl_password = "secret"
data_dir = ".weft"
"""


def toml(dice: Random) -> bool:
    """Any bytes in a settings file: settings or ``InvalidSettings``."""
    with _folder() as folder:
        file = folder / "weft.toml"
        file.write_bytes(damage.of_bytes(dice, _TOML))
        try:
            return isinstance(load({}, file), Settings)
        except InvalidSettings:
            return False


_WORDS: Final = (
    "", "1", "0.5", "nan", "inf", "-inf", "1e999", "9" * 5000, "٣", "gate", "edge", "true",
    "\udcff", "\x00", "a" * 5000, "/", "sasl_ssl", " 4 ", "1_0", "\u202e",
)  # fmt: skip
_NAMES: Final = tuple(Settings.__dataclass_fields__)


def environment(dice: Random) -> bool:
    """Any text in any ``WEFT_*``: settings or ``InvalidSettings``; what passes is UTF-8."""
    told = {}
    for _ in range(dice.randrange(1, 4)):
        end = dice.choice(("", "", "_FILE"))
        told[f"WEFT_{dice.choice(_NAMES).upper()}{end}"] = dice.choice(_WORDS)
    told.pop("WEFT_CONFIG", None)
    try:
        read = load(told)
    except InvalidSettings as error:
        str(error).encode()
        return False
    for name in _NAMES:
        str(getattr(read, name)).encode()
    return True


_MAPS: Final = (
    b"type==purchase,user_id=customer_id,item_id=article_id,ts=t_dat:date",
    b'user_id="a,b",ts=at:s,query=words,price==1.5,quantity==2,type=t',
    b"item_id=sku,title=name,ts=at:ms,in_stock==false,attributes=={\"a\":1}",
)  # fmt: skip


def columns(dice: Random) -> bool:
    """Any column map and any row: ``InvalidSettings``, or a row mapped or refused in words."""
    text = damage.of_bytes(dice, dice.choice(_MAPS)).decode("utf-8", "replace")
    row = orjson.loads(damage.of_json(dice, dice.choice(_MESSAGES)))
    try:
        parsed = Columns.parse(text, dice.choice((EVENTS, PRODUCTS)))
        mapper = parsed.mapper(None, ("ts",) if dice.random() < 0.1 else (), "a file")
    except InvalidSettings:
        return False
    if type(row) is not dict:
        return True
    for column in parsed.columns.values():
        row.setdefault(column, dice.choice((*_WORDS, 5, 2**70, 1e300, float("inf"), None, [1])))
    with contextlib.suppress(ValueError):  # in words; the row is set aside
        mapper(row)
    return True


_FILES: Final = {
    "hm": ("transactions_train.csv", "articles.csv"),
    "amazon2014": ("reviews_Beauty_5.json.gz", "meta_Beauty.json.gz"),
    "amazon2023": ("All_Beauty.jsonl.gz", "meta_All_Beauty.jsonl"),
    "retailrocket": ("events.csv", "item_properties_part1.csv"),
    "taobao": ("UserBehavior.csv",),
}


def importers(dice: Random) -> bool:
    """A published log, a file of it damaged: it is imported whole or is an ``InvalidFile``."""
    name = dice.choice(tuple(_FILES))
    with _folder() as folder:
        WRITERS[name](folder)
        paths = [folder / each for each in _FILES[name]]
        hurt = dice.choice(paths)
        hurt.write_bytes(damage.of_bytes(dice, hurt.read_bytes()))
        try:
            told = import_log(name, paths, folder / "out")
        except InvalidFile:
            assert not (folder / "out").exists()
            return False
        assert len(lines(folder / "out" / "events.jsonl.gz")) == told.events
        assert len(lines(folder / "out" / "catalog.jsonl.gz")) == told.items
        return True


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        yield Path(folder)


def _memory() -> str | None:
    """A folder in memory where there is one: thousands of small files wear no disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """``share`` of the inputs that are asked for: files cost more than bytes."""

    name: str
    target: Target
    share: float


ALL: Final = (
    Fuzzed("codec", codec, 1.0),
    Fuzzed("state reader", state, 1.0),
    Fuzzed("settings, TOML", toml, 0.02),
    Fuzzed("settings, environment", environment, 0.05),
    Fuzzed("column maps", columns, 0.1),
    Fuzzed("importers", importers, 0.002),
)


@dataclass(slots=True)
class Outcome:
    """What became of a target's inputs; ``failures`` are (number, error) of the first few."""

    inputs: int = 0
    taken: int = 0
    failed: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)


def run(target: Target, inputs: int, seed: int = 0) -> Outcome:
    """Calls ``target`` so often; each input has dice of its own, so that one is found again."""
    told = Outcome()
    for number in range(inputs):
        dice = Random(seed << 40 | number)
        told.inputs += 1
        try:
            told.taken += target(dice)
        except Exception as error:
            told.failed += 1
            if len(told.failures) < 5:
                told.failures.append((number, f"{type(error).__name__}: {error}"[:300]))
    return told
