"""Records as Avro: schemas, decoding, encoding."""
