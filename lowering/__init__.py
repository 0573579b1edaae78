"""The passes, one per file, and `pipelines.py`, which names them in order with their reasons."""
