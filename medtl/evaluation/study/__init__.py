"""Did pretraining help? From test logits of many fine-tunings to curves, differences, sentences and a page."""
