"""Every error that Weft raises by intent, as one tree; each leaf knows its outcome.

WeftError
├── RetryLater            try again by itself, taking no new work until it succeeds
│   ├── BrokerUnavailable
│   └── IndexUnavailable
├── BadMessage            the message goes to dead-letters, the rest goes on
│   ├── MalformedMessage      not UTF-8, not JSON, nested too deeply, not an object
│   ├── InvalidField          a field is missing, of the wrong type or out of its range
│   ├── OversizedMessage      over 256 KiB
│   └── WrongPartition        the key's partition is another one
├── Degraded              the list goes out without the part that failed
│   └── RerankerFailed
└── Fatal                 the process stops with the reason
    ├── InvalidSettings
    ├── MissingTopic
    ├── UnequalPartitions
    ├── MissingWeights
    ├── DamagedWeights
    ├── BundleInvalid         a trained bundle is damaged, hostile, or does not fit
    ├── IndexFull
    ├── IndexIncompatible
    ├── IndexInUse
    ├── UnreadableState
    ├── UnsafeChangelog       shoppers' states were deleted from it, or would be
    └── InvalidFile           a file named on the command line

A message says what is wrong and what to do next; never a secret, never a shopper's id.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Outcome(StrEnum):
    """What the processors do about an error."""

    RETRY = "retry"
    DEAD_LETTER = "dead-letter"
    DEGRADE = "degrade"
    STOP = "stop"


class WeftError(Exception):
    """The root. ``outcome`` is set by each branch."""

    outcome: ClassVar[Outcome]


class RetryLater(WeftError):
    """The outside is away for now; nothing is lost by waiting."""

    outcome = Outcome.RETRY


class BrokerUnavailable(RetryLater):
    """No broker answers at the address."""


class IndexUnavailable(RetryLater):
    """The item index does not answer, or not in time."""


class BadMessage(WeftError):
    """One message that cannot be used."""

    outcome = Outcome.DEAD_LETTER


class MalformedMessage(BadMessage):
    """The bytes are not a JSON object in UTF-8."""


class InvalidField(BadMessage):
    """A field is missing, of the wrong type, or out of its range."""


class OversizedMessage(BadMessage):
    """The message is longer than the contract allows."""


class WrongPartition(BadMessage):
    """The record lies in a partition that its key does not hash to."""


class Degraded(WeftError):
    """A part that improves a list failed; the list goes out without it."""

    outcome = Outcome.DEGRADE


class RerankerFailed(Degraded):
    """The LLM could not score."""


class Fatal(WeftError):
    """Going on would lose or corrupt something."""

    outcome = Outcome.STOP


class InvalidSettings(Fatal):
    """A setting is unknown, of the wrong type or out of its range."""


class MissingTopic(Fatal):
    """A topic is not there and may not be created."""


class UnequalPartitions(Fatal):
    """Topics that must be partitioned alike are not."""


class MissingWeights(Fatal):
    """A model's weights are nowhere to be found."""


class DamagedWeights(Fatal):
    """A model's weights are not the ones that the checksum names."""


class BundleInvalid(Fatal):
    """A bundle is damaged, of an unknown format, or does not fit this encoder or LLM."""


class IndexFull(Fatal):
    """The index cannot write: the disk is full."""


class IndexIncompatible(Fatal):
    """The index was written by another version, encoder or dimension."""


class IndexInUse(Fatal):
    """Another process has the embedded index's folder open."""


class UnreadableState(Fatal):
    """A shopper's state was written by a version that this one does not know."""


class UnsafeChangelog(Fatal):
    """The changelog's beginning was deleted, or its topic is one from which states are deleted."""


class InvalidFile(Fatal):
    """A file named on the command line cannot be read as asked."""
