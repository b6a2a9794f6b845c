"""What a record of each topic holds: declaration, codec, schemas, partitioner."""
