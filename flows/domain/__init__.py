"""The core: batches in, batches out. No Kafka, no database, no clock, no environment."""
