"""What was computed of prompts, kept within a bound: a shopper's next event costs its own tokens.

Keyed by content, not by shopper: entries are found by the tokens of a prompt's beginning, at the
ends of its steps. So nothing here knows whose prompt it was; two shoppers with the same beginning
share it, and one whose steps were erased is let go by ``forget`` with the prompt, or at the latest
as the oldest of many.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np

from models.ports import FloatArray
from models.reader_prompt import ReaderPrompt
from models.reader_states import Kept

#: Of the default LLM a token takes 23 kB, a prompt of 150 tokens 3.5 MB.
CACHE_BYTES: Final = 256 << 20

Key = bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One prompt: what is kept of its tokens, and the shopper's vector (d,) at its end."""

    keys: tuple[Key, ...]  # of each step's end
    kept: Kept
    vector: FloatArray


@dataclass(frozen=True, slots=True)
class Found:
    """The longest beginning that is kept: its ``steps``, their number, 0 for none."""

    steps: int = 0
    entry: Entry | None = None

    @property
    def vector(self) -> FloatArray | None:
        """The vector at that step, where the entry ends with it."""
        whole = self.entry is not None and len(self.entry.keys) == self.steps
        return self.entry.vector if self.entry and whole else None


def step_keys(prompt: ReaderPrompt) -> tuple[Key, ...]:
    """A key for each step's end: of all tokens up to it."""
    digest, begin, keys = blake2b(digest_size=16), 0, []
    for end in prompt.ends:
        digest.update(np.array(prompt.tokens[begin : end + 1], dtype=np.int32).tobytes())
        keys.append(digest.digest())
        begin = end + 1
    return tuple(keys)


class PrefixCache:
    """The least recently used go when there are more than ``most`` bytes."""

    def __init__(self, most: int = CACHE_BYTES) -> None:
        self._most = most
        self._bytes = 0
        self._entries: OrderedDict[Key, Entry] = OrderedDict()  # by the last of its keys
        self._holders: dict[Key, Key] = {}  # any step's key: the entry that has it

    @property
    def bytes(self) -> int:
        """What is kept now."""
        return self._bytes

    def find(self, keys: Sequence[Key]) -> Found:
        """The longest beginning of the prompt with these keys; it is the youngest now."""
        for steps in range(len(keys), 0, -1):
            if (holder := self._holders.get(keys[steps - 1])) is not None:
                self._entries.move_to_end(holder)
                return Found(steps, self._entries[holder])
        return Found()

    def keep(self, entry: Entry) -> None:
        """Takes the place of those that are beginnings of it, or the same."""
        for key in entry.keys:
            self._drop(key)
        if entry.kept.bytes > self._most:
            return
        self._entries[entry.keys[-1]] = entry
        self._bytes += entry.kept.bytes
        self._holders.update(dict.fromkeys(entry.keys, entry.keys[-1]))
        while self._bytes > self._most:
            self._drop(next(iter(self._entries)))

    def forget(self, keys: Sequence[Key]) -> None:
        """Drops every entry that begins as the prompt with these keys does, or is part of it."""
        for key in keys:
            while (holder := self._holders.get(key)) is not None:
                self._drop(holder)

    def clear(self) -> None:
        """Drops all."""
        self._entries.clear()
        self._holders.clear()
        self._bytes = 0

    def _drop(self, last: Key) -> None:
        """The entry that ends so, if there is one; its steps may still be those of others."""
        entry = self._entries.pop(last, None)
        if entry is None:
            return
        self._bytes -= entry.kept.bytes
        for key in entry.keys:
            if self._holders.get(key) == last:
                del self._holders[key]
