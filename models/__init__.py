"""What a recommendation is: synchronous and pure; no Kafka, no network, no clock of its own."""
