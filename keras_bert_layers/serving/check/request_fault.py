from collections.abc import Mapping

from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from keras_bert_layers.serving.check.export import shape_of
from keras_bert_layers.serving.check.tensor_fault import dtype_name, tensor_fault


def request_fault(
    signature: meta_graph_pb2.SignatureDef | None, name: str, inputs: Mapping[str, tensor_pb2.TensorProto]
) -> str | None:
    """What is wrong with a request."""
    if signature is None:
        return f"There is no signature {name!r}."
    if set(inputs) != set(signature.inputs):
        return f"It gives {sorted(inputs)} to {name!r}, which takes {sorted(signature.inputs)}."
    batches = set()
    for key, tensor in inputs.items():
        expected = signature.inputs[key]
        shape = [dim.size for dim in tensor.tensor_shape.dim]
        if tensor.dtype != expected.dtype:
            return f"Its input {key!r} is {dtype_name(tensor.dtype)}."
        dims = expected.tensor_shape.dim
        if not expected.tensor_shape.unknown_rank and (
            len(shape) != len(dims) or any(d.size not in (-1, size) for d, size in zip(dims, shape, strict=True))
        ):
            return f"Its input {key!r} has the shape {shape}, and {shape_of(expected)} is expected."
        if fault := tensor_fault(tensor):
            return f"Its input {key!r} has {fault}."
        batches.add(shape[0] if shape else None)
    return "Its inputs have batches of different sizes." if len(batches) > 1 else None
