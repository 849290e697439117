import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import Message

from keras_bert_layers.serving.serving_error import InvalidRequestError, ServingError, invalid_response


@dataclasses.dataclass(frozen=True)
class ServedSignature:
    """What a server says that its signature takes and gives; what is sent and what comes back is compared with it.

    Args:
        inputs, outputs: the specification of each tensor.
        where: URL and model, for errors.
    """

    inputs: dict[str, tf.TensorSpec]
    outputs: dict[str, tf.TensorSpec]
    where: str

    @classmethod
    def from_message(cls, definition: Message, where: str, wanted: Collection[str] | None) -> "ServedSignature":
        """Reads TensorFlow's `SignatureDef`.

        Args:
            definition: the message.
            where: URL and model, for errors.
            wanted: the outputs that will be asked for, None for all.

        Raises:
            InvalidResponseError: if it is none.
            InvalidRequestError: if the signature has no such output.
        """
        try:
            inputs, outputs = (
                {name: _specification(tensor) for name, tensor in tensors.items()}
                for tensors in (definition.inputs, definition.outputs)
            )
        except (KeyError, TypeError, ValueError):
            inputs, outputs = {}, {}
        # Outside, so that what the server said is no part of the error.
        if not inputs or not outputs:
            raise invalid_response(where, "metadata that describe no signature")
        if not set(wanted or ()) <= set(outputs):
            raise InvalidRequestError(
                f"Expected `outputs` to be of those that the signature of {where} has. Received: outputs={wanted!r}. "
                "Leave `outputs` out to see all of them.",
                "INVALID_ARGUMENT",
            )
        return cls(inputs, outputs, where)

    def cast(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A batch of inputs with the signature's dtypes.

        Raises:
            InvalidRequestError: for other names, shapes or dtypes than those of the signature.
        """
        if set(inputs) != set(self.inputs):
            raise self._refused(f"inputs named {sorted(self.inputs)}", f"inputs named {sorted(inputs)}")
        return {name: self._cast(name, array) for name, array in inputs.items()}

    def _cast(self, name: str, array: np.ndarray) -> np.ndarray:
        spec = self.inputs[name]
        expected, received = f"the input {name!r} as {_form(spec)}", f"{name}.shape={array.shape}"
        if array.ndim == 1 and spec.shape.rank == 2 and spec.shape[1] == 1:
            # Of keras.Input((1,)), which takes [batch] in Keras too.
            array = array[:, None]
        if not spec.shape.is_compatible_with(array.shape):
            raise self._refused(expected, received)
        dtype, known = np.dtype(spec.dtype.as_numpy_dtype), array.dtype
        if known == dtype:
            return array
        is_text = known.kind == "O"
        received = f"{name}.dtype={'string' if is_text else known}"
        castable = np.can_cast(known, dtype, "same_kind") or known.kind + dtype.kind == "iu"
        if is_text or dtype.kind == "O" or not castable:
            raise self._refused(expected, received)
        with np.errstate(over="ignore", invalid="ignore"):
            cast = array.astype(dtype)
        whole = known.kind in "iu" and dtype.kind in "iu"
        if not (np.array_equal(cast, array) if whole else np.array_equal(np.isinf(cast), np.isinf(array))):
            raise self._refused(expected, f"{received} with numbers that {dtype} does not hold")
        return cast

    def _refused(self, expected: str, received: str) -> ServingError:
        return InvalidRequestError(
            f"Expected {expected}, which the signature of {self.where} takes. Received: {received}.", "INVALID_ARGUMENT"
        )

    def check_names(self, received: Collection[str], expected: Collection[str]) -> None:
        """Compares the names of the outputs that came with those that were asked for."""
        if set(received) != set(expected):
            raise invalid_response(self.where, f"{len(received)} outputs that are not the {len(expected)} asked for")

    def check_output(self, name: str, dtype: Any, shape: Sequence[int], rows: int) -> None:
        """Compares an output, before it is made, with the signature, and its first dimension with the batch's.

        Args:
            name: the output's name.
            dtype: its dtype, None where the values are none of the signature's dtype.
            shape: its shape.
            rows: how many rows were sent.

        Raises:
            InvalidResponseError: if they differ.
        """
        spec = self.outputs[name]
        fits = dtype == spec.dtype and bool(shape) and shape[0] == rows and min(shape) >= 0
        if not fits or not spec.shape.is_compatible_with(shape):
            values = "values of another dtype" if dtype is None else tf.as_dtype(dtype).name
            # Not its name, which is the server's word.
            raise invalid_response(
                self.where, f"an output of {values} {list(shape)} for {rows} inputs, in place of {_form(spec)}"
            )


def _specification(tensor: Any) -> tf.TensorSpec:
    dtype = tf.as_dtype(tensor.dtype)
    # There are some that no request can hold.
    np.dtype(dtype.as_numpy_dtype)
    shape = tf.TensorShape(tensor.tensor_shape if tensor.HasField("tensor_shape") else None)
    if any(dim.size < -1 for dim in tensor.tensor_shape.dim):
        raise ValueError("a negative size")
    return tf.TensorSpec(shape, dtype)


def _form(spec: tf.TensorSpec) -> str:
    return f"{spec.dtype.name} {spec.shape.as_list() if spec.shape.rank is not None else 'of any shape'}"
