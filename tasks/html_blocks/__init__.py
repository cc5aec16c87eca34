"""The embedded task: pages and fragments composed from a seed (see generator.py)."""
