from tensorflow.core.framework import types_pb2

from keras_bert_layers.serving.check.export import Export, shape_of
from keras_bert_layers.serving.check.tensor_fault import dtype_name

# What the server's JSON knows.
REST_DTYPES = {
    getattr(types_pb2, f"DT_{name}")
    for name in "FLOAT DOUBLE INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 BOOL STRING".split()
}


def check_signatures(export: Export) -> None:
    for signature_name, signature in export.signatures.items():
        for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
            for name, tensor in tensors.items():
                where = f"signature {signature_name}, {kind} {name}"
                shape = tensor.tensor_shape
                if not shape.unknown_rank and (not shape.dim or shape.dim[0].size != -1):
                    export.error(
                        where,
                        f"Its shape is {shape_of(tensor)}, and the server's batching joins and splits tensors along a "
                        "first dimension that is the batch: it fails, or answers one client with another's.",
                        "Put the batch first, for instance with keras.ops.moveaxis or one output per item.",
                    )
                if tensor.dtype not in REST_DTYPES:
                    export.error(
                        where,
                        f"Its dtype is {dtype_name(tensor.dtype)}, for which the server's REST interface "
                        "has no JSON: such requests fail.",
                        "Cast it to float32 in the model.",
                    )
