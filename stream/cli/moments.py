"""Times as they are written on a command line."""

from __future__ import annotations

from datetime import UTC, datetime

import click


def moment(told: str | None) -> int | None:
    """Epoch ms of a date, a date and time, or epoch ms."""
    if told is None:
        return None
    if told.isdigit() and len(told) > 8:
        return int(told)
    try:
        at = datetime.fromisoformat(told)
    except ValueError:
        raise click.UsageError(f"{told!r} is no time: write 2020-09-22, or epoch ms") from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return int(at.timestamp() * 1000)
