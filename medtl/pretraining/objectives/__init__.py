"""Self-supervised objectives, one file per paper."""
