import hashlib
import math

import numpy as np
import tensorflow as tf

from keras_bert_layers.serving.check.export import EXPORT_AGAIN, Export
from keras_bert_layers.serving.export_files import VARIABLES

# Smaller weights may be equal by chance.
SMALLEST_WEIGHT = 16
# Functions hold copies of small constants.
SMALLEST_CONSTANT_BYTES = 65536
_VARIABLE_OPERATIONS = {"VarHandleOp", "Variable", "VariableV2"}


def check_weights(export: Export) -> None:
    index = export.directory / f"{VARIABLES}.index"
    weights = _Weights()
    if index.exists():
        try:
            _read_variables(export, weights)
        # TensorFlow's reader has an exception of its own for each way in which a file can be damaged.
        except Exception as error:
            export.refuse(
                "variables/",
                f"The weights cannot be read ({type(error).__name__}), and the server cannot load them.",
                EXPORT_AGAIN,
            )
            return
    elif any(node.op in _VARIABLE_OPERATIONS for _, node in export.nodes()):
        export.refuse(
            index.name,
            "There is no such file in variables/, and the graph has variables: every request fails.",
            EXPORT_AGAIN,
        )
        return
    for where, tensor in export.constants():
        if tf.as_dtype(tensor.dtype).is_floating and len(tensor.tensor_content) >= SMALLEST_CONSTANT_BYTES:
            weights.look(f"constant {where}", tf.make_ndarray(tensor))
    if weights.infinite:
        export.error(
            "variables/",
            f"{len(weights.infinite)} weights hold NaN or infinite values, the first is {weights.infinite[0]}: so will "
            "the answers.",
            "Find the step of the training that went wrong, and export weights from before it.",
        )
    if weights.twice:
        name, other, _ = weights.twice[0]
        size = sum(count for _, _, count in weights.twice)
        export.error(
            "variables/",
            f"{len(weights.twice)} weights ({size / 1e6:.1f} MB) are stored twice, as {other} and {name}: the server "
            "loads and holds both.",
            "Export with `keras_bert_layers.export_saved_model` and not with Keras's `model.export`.",
        )


class _Weights:
    def __init__(self) -> None:
        self.twice: list[tuple[str, str, int]] = []
        self.infinite: list[str] = []
        self._seen: dict[bytes, str] = {}

    def look(self, name: str, value: np.ndarray) -> None:
        if tf.as_dtype(value.dtype).is_floating and not np.isfinite(value).all():
            self.infinite.append(name)
        if value.size < SMALLEST_WEIGHT or (value == value.flat[0]).all():
            return
        content = np.ascontiguousarray(value)
        key = hashlib.blake2b(content.view(np.uint8).data, digest_size=16).digest() + repr(value.shape).encode()
        if key in self._seen:
            self.twice.append((name, self._seen[key], value.nbytes))
        self._seen.setdefault(key, name)


def _read_variables(export: Export, weights: _Weights) -> None:
    reader = tf.train.load_checkpoint(str(export.directory / VARIABLES))
    dtypes = reader.get_variable_to_dtype_map()
    shapes = reader.get_variable_to_shape_map()
    numbers = [name for name, dtype in dtypes.items() if dtype not in (tf.string, tf.variant, tf.resource)]
    claimed = sum(math.prod(shapes[name]) * dtypes[name].size for name in numbers)
    stored = sum(path.stat().st_size for path in (export.directory / VARIABLES).parent.glob("variables.data-*"))
    if claimed > stored:
        raise ValueError(f"the index speaks of {claimed} bytes, and there are {stored}")
    for name in sorted(shapes):
        if dtypes[name] not in (tf.variant, tf.resource):
            value = reader.get_tensor(name)
            if name in numbers:
                weights.look(name, value)
