"""The decoders of the known families (llama, falcon, gemma 3) with LoRA: fused forward/backward.

Forward and backward are written by hand, without an autograd graph, over packed sequences with
block-diagonal attention. What they compute is what transformers' classes with PEFT's layers
compute; the tests hold them to it. Training and inference share what is here.
"""
