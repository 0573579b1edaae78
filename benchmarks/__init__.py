"""Races the compiler against other runtimes: `python benchmarks/run.py SUITE`."""
