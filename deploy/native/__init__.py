"""Run real Apache Kafka and TimescaleDB for one checkout without Docker: `python -m deploy.native
--help`.
"""
