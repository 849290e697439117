from typing import Any

import keras
import tensorflow as tf
from keras import KerasTensor

from keras_bert_layers.keras_compatibility import (
    called_on_placeholders,
    check_saved_dtype,
    refuse_legacy_tensors,
    set_implicit_mask,
)

WORD_POOLING_MODES = ("first", "last", "mean", "max")


@keras.saving.register_keras_serializable(package="keras_bert_layers")
class WordPooling(keras.layers.Layer):
    r"""Pools the states of each word's pieces into one state for the word.

    For the states \(h_1 \dots h_n\) of the n pieces of a word that stand in the row:

    | mode | output |
    |---|---|
    | `"first"` | \(h_1\) (Devlin et al. 2019, section 5.3, for tagging) |
    | `"last"` | \(h_n\) |
    | `"mean"` | \(\frac1n \sum_t h_t\) |
    | `"max"` | the largest value of each dimension |

    Row by row, word w of the output is the word that `word_ids` calls w, and there are as many words as the sequence
    has tokens: no row needs more, and XLA needs a shape that does not depend on the texts. Where a row has no piece of
    word w (it has fewer words, truncation cut the word off, or nothing is left of it, as of a lone accent), the state
    is zero and `word_mask` is false. A word cut in two by truncation is pooled from the pieces that are left. It
    computes in float32 whatever the policy, and casts once at the end.

    The word states carry the word mask as Keras's implicit mask, so that layers, losses and metrics after it count the
    words that are there and no others. `align_labels` makes labels of the same shape.

    Args:
        mode: one of the modes above.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Call arguments:
        inputs: float tensor `[batch, sequence, hidden]`; or `[batch, K, sequence, hidden]`, as `combine="stack"` gives;
            or a list of K tensors `[batch, sequence, hidden]`, as `combine=None` gives.
        word_ids: integer tensor `[batch, sequence]`: the number of each token's word, from 0, and -1 on [CLS], [SEP]
            and padding, as `BertPreprocessor` makes it and as `word_ids()` of Hugging Face's tokenizers says. The words
            of both texts of a pair count from 0: say which text is meant, the second for example with
            `keras.ops.where(ids["input_type_ids"] == 1, ids["word_ids"], -1)`.

    Returns:
        A dict:

        | key | shape | what |
        |---|---|---|
        | `word_outputs` | `[batch, words, hidden]` | the words' states in the compute dtype; in the form of `inputs`, with words for tokens |
        | `word_mask` | `[batch, words]` bool | true on the words that are there |

    Raises:
        ValueError: for an unknown mode, and for inputs or word ids of other shapes.

    Example:

    >>> states = keras.ops.reshape(keras.ops.arange(8.0), (1, 4, 2))
    >>> words = WordPooling("mean")(states, [[-1, 0, 0, 1]])
    >>> words["word_outputs"].numpy().tolist()
    [[[3.0, 4.0], [6.0, 7.0], [0.0, 0.0], [0.0, 0.0]]]
    >>> words["word_mask"].numpy().tolist()
    [[True, True, False, False]]
    """  # noqa: E501

    def __init__(self, mode: str, **kwargs: Any):
        # Keras casts inputs before `call`: with a 16-bit policy the states would be rounded first.
        super().__init__(autocast=False, **kwargs)
        if mode not in WORD_POOLING_MODES:
            raise ValueError(f"Expected `mode` to be one of {', '.join(WORD_POOLING_MODES)}. Received: mode={mode!r}.")
        self.mode = mode
        self.supports_masking = True

    def __call__(self, inputs: Any, word_ids: Any, **kwargs: Any) -> Any:
        refuse_legacy_tensors(self, [inputs, word_ids])
        if not isinstance(word_ids, KerasTensor):
            word_ids = tf.convert_to_tensor(word_ids)
        is_integer = "int" in keras.backend.standardize_dtype(word_ids.dtype) or called_on_placeholders()
        if not is_integer or len(word_ids.shape) != 2:
            raise ValueError(
                "WordPooling expects `word_ids` to be integers [batch, sequence]. "
                f"Received: word_ids of dtype {keras.backend.standardize_dtype(word_ids.dtype)} and shape "
                f"{tuple(word_ids.shape)}. Give it the word ids that BertPreprocessor makes on request."
            )
        is_list = isinstance(inputs, (list, tuple))
        if isinstance(inputs, dict) or (is_list and not inputs):
            raise ValueError(
                "WordPooling expects a tensor [batch, sequence, hidden] or a list of them. "
                f"Received: inputs={inputs!r}. Give it features['encoder_outputs'] of an encoder."
            )
        shapes = [tuple(state.shape) for state in (inputs if is_list else [inputs])]
        if any(
            len(shape) not in ((3,) if is_list else (3, 4))
            or any(
                None not in sizes and sizes[0] != sizes[1]
                for sizes in zip((shape[0], shape[-2]), word_ids.shape, strict=True)
            )
            for shape in shapes
        ):
            raise ValueError(
                "WordPooling expects a tensor [batch, sequence, hidden], [batch, K, sequence, hidden] for K stacked "
                "layers or a list of K tensors [batch, sequence, hidden], and word ids [batch, sequence]. "
                f"Received: inputs of shape {shapes if is_list else shapes[0]}, word ids of shape "
                f"{tuple(word_ids.shape)}."
            )
        outputs = super().__call__(inputs, word_ids, **kwargs)
        # Keras gives `compute_mask` the first argument alone, and this mask comes from the second.
        for states in keras.tree.flatten(outputs["word_outputs"]):
            set_implicit_mask(states, outputs["word_mask"])
        return outputs

    def call(self, inputs: Any, word_ids: Any) -> dict[str, Any]:
        batch, sequence = tf.unstack(tf.shape(word_ids))
        # Compared in their own dtype: as an int32, 2**32 would be 0.
        valid = (word_ids >= 0) & (word_ids < tf.cast(sequence, word_ids.dtype))
        word_ids = tf.cast(word_ids, "int32")
        # Each token's word, numbered across the batch. Segment operations leave negative numbers out.
        segments = tf.where(valid, tf.range(batch)[:, None] * sequence + word_ids, -1)
        counts = tf.math.unsorted_segment_sum(
            tf.ones_like(segments, "float32"), segments, num_segments=batch * sequence
        )
        counts = tf.reshape(counts, [batch, sequence])
        word_mask = tf.ensure_shape(counts > 0, word_ids.shape)
        if self.mode in ("first", "last"):
            positions = tf.broadcast_to(tf.range(sequence), [batch, sequence])
            reduce = tf.math.unsorted_segment_min if self.mode == "first" else tf.math.unsorted_segment_max
            positions = tf.reshape(reduce(positions, segments, num_segments=batch * sequence), [batch, sequence])
            # The position does not matter where there is no word: its state becomes zero below.
            positions = tf.where(word_mask, positions, 0)

        def pool(states: Any) -> Any:
            is_stack = len(states.shape) == 4
            if self.mode in ("first", "last"):
                pooled = tf.gather(states, positions, axis=len(states.shape) - 2, batch_dims=1)
            else:
                # Each of the K layers of a stack counts as a row.
                layers = tf.shape(states)[1] if is_stack else 1
                offsets = (tf.range(batch)[:, None] * (layers - 1) + tf.range(layers)) * sequence
                rows = tf.where(valid[:, None], segments[:, None] + offsets[:, :, None], -1)
                reduce = tf.math.unsorted_segment_sum if self.mode == "mean" else tf.math.unsorted_segment_max
                tokens = tf.reshape(tf.cast(states, "float32"), [-1, states.shape[-1]])
                pooled = reduce(tokens, tf.reshape(rows, [-1]), num_segments=batch * layers * sequence)
                pooled = tf.reshape(pooled, tf.shape(states))
                if self.mode == "mean":
                    divisor = tf.maximum(counts, 1.0)[:, :, None]
                    pooled = pooled / (divisor[:, None] if is_stack else divisor)
            kept = word_mask[:, None, :, None] if is_stack else word_mask[:, :, None]
            pooled = tf.where(kept, tf.cast(pooled, self.compute_dtype), 0)
            return tf.ensure_shape(pooled, states.shape)

        return {"word_outputs": keras.tree.map_structure(pool, inputs), "word_mask": word_mask}

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        return None

    def compute_output_spec(self, inputs: Any, word_ids: Any) -> dict[str, Any]:
        return {
            "word_outputs": keras.tree.map_structure(lambda x: KerasTensor(x.shape, self.compute_dtype), inputs),
            "word_mask": KerasTensor(word_ids.shape, "bool"),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WordPooling":
        check_saved_dtype(cls.__name__, config)
        return super().from_config(config)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mode": self.mode}
