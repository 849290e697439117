"""What TensorFlow knows of its own operations."""

# No public function tells it without a node in a graph.
from tensorflow.python.framework import op_def_registry


def is_stateful(operation: str) -> bool | None:
    """Whether an operation depends on, or changes, more than its inputs and outputs.

    Args:
        operation: its name.

    Returns:
        None for an operation that this TensorFlow does not have, and so cannot run.

    Example:

    >>> is_stateful("MatMul"), is_stateful("WriteFile"), is_stateful("NoSuchOperation")
    (False, True, None)
    """
    definition = op_def_registry.get(operation)
    return None if definition is None else definition.is_stateful
