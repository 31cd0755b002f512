"""Alembic's script folder; `medtl.review.migrate` runs it."""
