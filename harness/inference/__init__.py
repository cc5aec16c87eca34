"""Answers of a loaded model. The package itself is `harness.inference(text, model, tokenizer)`.

A package and a function cannot both be the attribute `inference` of `harness`: importing any
module in here would put the package in the function's place. So the package can be called.
"""

import sys
from types import ModuleType
from typing import Any


class _Inference(ModuleType):
    def __call__(
        self,
        text: str,
        model: Any,
        tokenizer: Any = None,
        max_input_tokens: int = 1000,
        max_output_tokens: int = 100,
    ) -> str:
        """See harness.inference.one_prompt.inference."""
        from harness.inference.one_prompt import inference

        return inference(text, model, tokenizer, max_input_tokens, max_output_tokens)


sys.modules[__name__].__class__ = _Inference
