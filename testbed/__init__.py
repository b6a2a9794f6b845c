"""What tests and benches both stand on: a real Kafka, damaged inputs, waiting. It is in no wheel."""
