"""Fine-tune adapters for open language models on HTML generation and compare base with tuned."""

__version__ = "0.1.0"
