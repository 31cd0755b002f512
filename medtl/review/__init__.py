"""Readers' verdicts: stored, and given back as labels."""
