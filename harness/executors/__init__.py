"""Executors carry out a list of jobs, here or elsewhere, and say how each ended."""
