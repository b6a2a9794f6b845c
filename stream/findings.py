"""What a look at one part found; `weft doctor` collects these."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """``LATER``: not there yet, but Weft sees to it by itself."""

    OK = "ok"
    LATER = "later"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One part: how it stands, and where it is missing what to do."""

    part: str
    status: Status
    words: str
