"""Benchmarks of the connector against ordinary ways to write it: `python -m benchmarks`."""
