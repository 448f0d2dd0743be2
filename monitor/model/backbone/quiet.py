"""Importing Keras without TensorFlow's remarks about oneDNN, CUDA and its own logging.

TensorFlow 2.21 writes them to file descriptor 2 before TF_CPP_MIN_LOG_LEVEL counts.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|[IW]\d{4} \d\d:\d\d:"
    rb"|E\d{4} .*(cuda|cuInit|TensorRT|computation_placer|factory|DT_HALF)"
)


def import_keras() -> Any:
    """The module `keras`, with its configured backend imported, and nothing said on stderr."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before the import, or it is too late
    with suppress(ImportError):  # or it gets TensorFlow's own SQLite, in which WAL is not safe
        importlib.import_module("pysqlite3.dbapi2")
    with native_noise_held_back():
        import keras
    return keras


@contextmanager
def native_noise_held_back() -> Iterator[None]:
    """Hold what is written to file descriptor 2, and pass on at the end what is no known noise."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        real = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
            held.seek(0)
            rest = b"".join(line for line in held if not NOISE.match(line))
            if rest:
                os.write(2, rest)
