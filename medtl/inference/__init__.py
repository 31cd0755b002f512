"""A trained detector at work: the bundle, predictions, explanations, batch scoring."""
