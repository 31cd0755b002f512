"""Files in, dataset out: reading scans, the one preprocessing path, the memory-mapped dataset folder."""
