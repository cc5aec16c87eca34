"""Scoring and comparing without a model: any system's answers from a file, or a run's stored ones.

Nothing here imports torch.
"""
