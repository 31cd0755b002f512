"""Did pretraining help on these scans? Starts, numbers of labels and draws, fine-tuned and compared."""
