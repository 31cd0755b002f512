"""Learning a detector from few labels on top of an encoder."""
