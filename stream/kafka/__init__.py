"""What every room needs of Kafka: admin, delivery, reading to the end."""
