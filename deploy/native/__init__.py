"""Real Apache Kafka and TimescaleDB for one checkout, without Docker."""
