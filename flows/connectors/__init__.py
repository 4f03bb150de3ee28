"""The edge: topics, tables and schemas. Knows `domain`, and neither a flow nor the runtime."""
