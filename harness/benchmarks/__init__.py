"""Benchmarks: ours and what a user could take instead, on the same input in the same run."""
