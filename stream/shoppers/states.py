"""The states of the shoppers whose partitions are held: the newest record of each.

Nothing here is ahead of the changelog. A state comes in when its record was read from there, or
when the broker has it (``put``), so what a batch changed that was dropped was never here.

A record that was read is checked once, when it is first looked at: by an event of its shopper or in
its turn, whichever is first. From then on it is ours, as what this worker wrote. The states used
last are kept as objects, so that an event costs no parsing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, MutableMapping
from itertools import chain
from typing import Final

from stream.shoppers.state import ShopperState, loads

#: Bytes of the records whose states are kept as objects; an object takes five times as much.
LIVE_BYTES: Final = 32 << 20

Records = MutableMapping[bytes, bytes]


class States(Mapping[bytes, bytes]):
    """Records by key. A state that comes out of here is shared: change a ``copy`` of it.

    ``kept`` are records by partition that this program wrote. Belongs to one thread at a time.
    """

    def __init__(
        self, kept: Mapping[int, Records] | None = None, live_bytes: int = LIVE_BYTES
    ) -> None:
        self._kept: dict[int, Records] = dict(kept or {})
        self._unread: dict[int, Records] = {}
        self._live: OrderedDict[bytes, tuple[ShopperState, int]] = OrderedDict()
        self._live_bytes = 0
        self._most = live_bytes
        #: The partition of each shopper who is owed a reranked list, the longest owed first.
        self.owed: dict[bytes, int] = {}

    # -- one shopper -------------------------------------------------------------------

    def holds(self, partition: int, key: bytes) -> bool:
        """Whether there is a record of the shopper in that very partition."""
        return key in self._kept.get(partition, ()) or key in self._unread.get(partition, ())

    def admit(self, partition: int, key: bytes) -> ShopperState | None:
        """The state of a record that was read and not looked at yet; None where there is none.

        Raises ``UnreadableState``.
        """
        unread = self._unread.get(partition)
        if not unread or (data := unread.get(key)) is None:
            return None
        state = self._admitted(partition, key, data)
        del unread[key]
        self._keep(key, state, len(data))
        return state

    def newest(self, partition: int, key: bytes) -> ShopperState:
        """The shopper's state, once admitted; an empty one where there is no record."""
        if (known := self._live.get(key)) is not None:
            self._live.move_to_end(key)
            return known[0]
        data = self._kept[partition].get(key) if partition in self._kept else None
        state = loads(data, ours=True)
        if data is not None:
            self._keep(key, state, len(data))
        return state

    def put(self, partition: int, key: bytes, state: ShopperState, data: bytes) -> None:
        """The state whose record ``data`` the broker has; ``state`` is not changed any more."""
        self._kept.setdefault(partition, {})[key] = data
        self._keep(key, state, len(data))
        if state.rerank_due:
            self.owed.setdefault(key, partition)
        else:
            self.owed.pop(key, None)

    def _admitted(self, partition: int, key: bytes, data: bytes) -> ShopperState:
        state = loads(data)
        self._kept.setdefault(partition, {})[key] = data
        if state.rerank_due:
            self.owed[key] = partition
        return state

    def _keep(self, key: bytes, state: ShopperState, size: int) -> None:
        if (before := self._live.pop(key, None)) is not None:
            self._live_bytes -= before[1]
        self._live[key] = state, size
        self._live_bytes += size
        while self._live_bytes > self._most:
            _, (_, left) = self._live.popitem(last=False)
            self._live_bytes -= left

    # -- all of them -------------------------------------------------------------------

    def admit_any(self) -> tuple[int, bytes, ShopperState] | None:
        """(partition, key, state) of some record that was not looked at yet; None: all were.

        Raises ``UnreadableState``.
        """
        while self._unread:
            partition, unread = next(iter(self._unread.items()))
            if unread:
                key, data = unread.popitem()
                return partition, key, self._admitted(partition, key, data)
            del self._unread[partition]
        return None

    def restored(self, read: Mapping[int, dict[bytes, bytes]]) -> None:
        """Adds what was ``read`` of each partition held now, and forgets the other partitions.

        All of it counts as not looked at yet. For a thread beside the event loop: it takes a second
        a million shoppers, in steps that let the loop have its turns.
        """
        self.forget_objects()
        both = self._kept, self._unread
        gone = [records.pop(p) for records in both for p in records.keys() - read.keys()]
        for partition, newer in read.items():
            held = self._kept.pop(partition, {})
            unread = self._unread.pop(partition, {})
            if held or unread:
                for key, data in chain(unread.items(), newer.items()):
                    held[key] = data
            self._unread[partition] = held or newer
        for records in gone:
            while records:  # freed at once, a million would keep the loop waiting
                records.popitem()

    def forget_objects(self) -> None:
        """Drops what is derived from the records: objects, and who is owed a list."""
        self.owed.clear()
        self._live_bytes = 0
        while self._live:
            self._live.popitem()

    def __getitem__(self, key: bytes) -> bytes:
        for records in chain(self._kept.values(), self._unread.values()):
            if (data := records.get(key)) is not None:
                return data
        raise KeyError(key)

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(chain(self._kept.values(), self._unread.values()))

    def __len__(self) -> int:
        # copies: it may be asked for beside ``restored``
        return sum(map(len, [*self._kept.values(), *self._unread.values()]))
