"""Weft under faults on a real Kafka: what is lost, doubled or stale is counted, not presumed."""
