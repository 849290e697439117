import math

import tensorflow as tf

from keras_bert_layers.serving.check.export import Export, shape_of
from keras_bert_layers.serving.server_limits import MAX_MESSAGE_BYTES


def check_response_size(export: Export) -> None:
    card = export.card
    largest = max(card.get("allowed_batch_sizes", ()), default=1)
    for signature_name, signature in export.signatures.items():
        size = 0
        golden = card.get("golden", {}).get(signature_name, {}).get("outputs", {})
        for name, tensor in signature.outputs.items():
            shape = shape_of(tensor)[1:]
            seen = golden.get(name, {}).get("shape", [])[1:]
            if len(seen) == len(shape):
                # What is longest: the sequence, where the card says it, or what the golden example had.
                shape = [one or other for one, other in zip(shape, seen, strict=True)]
                if len(shape) > 1 and tensor.tensor_shape.dim[1].size == -1:
                    shape[0] = max(shape[0] or 0, card.get("sequence_length") or 0)
            items = math.prod(dim or 1 for dim in shape)
            size += largest * items * max(tf.as_dtype(tensor.dtype).size, 1)
        if size > MAX_MESSAGE_BYTES:
            export.warning(
                f"signature {signature_name}",
                f"A batch of {largest} answers with {size / 2**20:.1f} MB, and gRPC clients receive at most 4 MB: "
                "they get RESOURCE_EXHAUSTED.",
                "Ask for the outputs that you need (output_filter), send smaller batches, export fewer or combined "
                "layers, or raise the client's limit: `Client(url, max_response_bytes=...)`.",
            )
