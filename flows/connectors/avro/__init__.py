"""Read and write Avro: schemas, decoding, encoding, and what is wrong with a refused record."""
