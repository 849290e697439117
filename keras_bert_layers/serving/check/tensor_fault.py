"""What a tensor in a file says of itself, compared with what it holds, before anything is made of it."""

import math

import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

# A tensor may hold fewer values than its shape says, the last of which is repeated. Real exports repeat none.
MAX_REPEATED_BYTES = 64 * 1024 * 1024
_FIELDS = {
    "half_val": (tf.float16, tf.bfloat16),
    "float_val": (tf.float32,),
    "double_val": (tf.float64,),
    "int_val": (
        tf.int32,
        tf.int16,
        tf.int8,
        tf.uint16,
        tf.uint8,
        tf.qint8,
        tf.quint8,
        tf.qint16,
        tf.quint16,
        tf.qint32,
    ),
    "int64_val": (tf.int64,),
    "uint32_val": (tf.uint32,),
    "uint64_val": (tf.uint64,),
    "bool_val": (tf.bool,),
    "string_val": (tf.string,),
}
_FIELD_OF = {dtype.as_datatype_enum: field for field, dtypes in _FIELDS.items() for dtype in dtypes}


def is_dtype(number: int) -> bool:
    """Whether a number of the enum DataType is that of a dtype."""
    return number != types_pb2.DT_INVALID and number in types_pb2.DataType.values()


def dtype_name(number: int) -> str:
    return types_pb2.DataType.Name(number) if is_dtype(number) else f"no dtype ({number})"


def tensor_fault(tensor: tensor_pb2.TensorProto) -> str | None:
    """What keeps a tensor from being one: its values and its shape do not fit.

    Args:
        tensor: of any dtype; of those that are no numbers, truths or strings nothing is said.

    Returns:
        None, or what it has, as the end of a sentence. Nothing of the size that it claims is made.

    Example:

    >>> tensor = tf.make_tensor_proto([1.0, 2.0])
    >>> tensor_fault(tensor)
    >>> tensor.tensor_shape.dim[0].size = 2**62
    >>> tensor_fault(tensor)
    'not the 4611686018427387904 values that its shape says'
    """
    sizes = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        return f"the shape {sizes}, which is that of no tensor"
    count = math.prod(sizes)
    if (field := _FIELD_OF.get(tensor.dtype)) is None:
        return None
    # A string has no size of its own, and 24 bytes in memory.
    size = tf.as_dtype(tensor.dtype).size or 24
    if tensor.tensor_content:
        fits = field != "string_val" and len(tensor.tensor_content) == count * size
    else:
        given = len(getattr(tensor, field))
        fits = given == count or (given < count and count * size <= MAX_REPEATED_BYTES)
    return None if fits else f"not the {count} values that its shape says"
