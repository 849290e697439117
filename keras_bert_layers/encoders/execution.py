"""What will run the graph that is built now: some operations have forms that are fast on one executor alone."""

import contextlib
import contextvars
from collections.abc import Iterator

import tensorflow as tf

from keras_bert_layers.keras_compatibility import compiled_by_xla, onednn_is_on

_target: contextvars.ContextVar[str | None] = contextvars.ContextVar("target", default=None)


@contextlib.contextmanager
def graph_for(target: str) -> Iterator[None]:
    """Graphs built inside this context are for `"cpu"` or `"gpu"`, whatever devices this machine has."""
    token = _target.set(target)
    try:
        yield
    finally:
        _target.reset(token)


def is_cpu_inference_graph(training: bool) -> bool:
    """Whether what is built now is an inference graph that TensorFlow's own executor runs on CPU."""
    if training or tf.executing_eagerly() or compiled_by_xla():
        return False
    target = _target.get()
    return not tf.config.list_physical_devices("GPU") if target is None else target == "cpu"


def fused_by_onednn() -> bool:
    """Whether oneDNN will fuse what is built now: if it is on here, and always in an export for CPU.

    An export runs on a server: what is on in the machine that makes it says nothing (docs/processors.md).
    """
    return _target.get() == "cpu" or onednn_is_on()
