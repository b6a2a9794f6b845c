"""What tests and benches stand on: a real Kafka, damaged inputs, waiting. In no wheel."""
