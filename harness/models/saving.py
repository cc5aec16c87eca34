"""What the system refuses while a library writes tensors, told as the system tells it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def saving() -> Iterator[None]:
    """Within, a refusal that safetensors words in its own way is the OSError that it was."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        told = re.search(r"os error (\d+)", str(error))
        number = int(told[1]) if told else errno.EIO
        raise OSError(number, os.strerror(number)) from error
