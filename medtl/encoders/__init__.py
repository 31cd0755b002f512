"""Networks that turn scans into embeddings: the table of encoders, their files, foreign weights."""
