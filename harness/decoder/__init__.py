"""A decoder's training step written out: forward, loss and backward without an autograd graph.

For the families that it knows (llama, falcon, gemma 3) with plain LoRA. What it computes is what
transformers' classes with PEFT's layers compute; the tests hold it to them.
"""
