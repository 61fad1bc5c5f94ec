"""`feedrank embeddings`: vectors of items, learned from who engaged with what."""
