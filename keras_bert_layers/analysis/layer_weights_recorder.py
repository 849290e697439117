import os
from typing import Any

import keras
import tensorflow as tf

from keras_bert_layers.analysis.layer_weights import find_learned, layer_weights
from keras_bert_layers.analysis.optional_package import import_optional


class LayerWeightsRecorder(keras.callbacks.Callback):
    """Records after each epoch which weights a `"weighted"` combination has learned.

    It adds to the epoch's logs, and so to what `fit` returns as `history`, `layer_weights/layer_00` and so on (the
    weights, which sum to 1; a layer that was selected twice counts with the sum), `layer_weights/scale` (gamma) and
    `layer_weights/expected_layer` (the centre of gravity of Tenney et al. 2019). With `log_dir` it writes the same
    numbers as TensorBoard scalars, the epoch being the step as in `keras.callbacks.TensorBoard`.

    Args:
        log_dir: directory for TensorBoard; None writes nothing.

    Raises:
        ValueError: when training starts, if the model has not exactly one encoder with `combine="weighted"`.
        ImportError: with `log_dir`, without TensorBoard.
        TypeError: for a `log_dir` that is not a path.

    Example:

    ```python
    history = model.fit(dataset, epochs=3, callbacks=[kbl.analysis.LayerWeightsRecorder("logs")])
    history.history["layer_weights/expected_layer"]
    ```
    """

    def __init__(self, log_dir: str | os.PathLike[str] | None = None):
        super().__init__()
        if log_dir is not None and not isinstance(log_dir, (str, os.PathLike)):
            raise TypeError(f"Expected `log_dir` to be None or a directory. Received: log_dir={log_dir!r}.")
        self.log_dir = log_dir
        self._writer: Any = None
        if log_dir is not None:
            # `tf.summary.scalar` is TensorBoard's.
            import_optional("tensorboard", "tensorboard")

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Finds the encoder and opens TensorBoard's file."""
        find_learned(self.model, ("weighted",))
        if self.log_dir is not None:
            self._writer = tf.summary.create_file_writer(os.fspath(self.log_dir))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the weights to the logs and writes them."""
        learned = layer_weights(find_learned(self.model, ("weighted",)))
        values = {"scale": learned.scale, "expected_layer": learned.expected_layer}
        for layer, weight in zip(learned.layers, learned.weights, strict=True):
            name = f"layer_{layer:02d}"
            values[name] = values.get(name, 0.0) + float(weight)
        if logs is not None:
            logs.update({f"layer_weights/{name}": value for name, value in values.items()})
        if self._writer is not None:
            with self._writer.as_default(step=epoch):
                for name, value in values.items():
                    tf.summary.scalar(f"layer_weights/{name}", value)
            self._writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes TensorBoard's file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
