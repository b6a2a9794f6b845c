"""Adapters of the item index: Qdrant Edge and a Qdrant server."""
