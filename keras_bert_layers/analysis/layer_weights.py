import dataclasses
from typing import Any

import keras
import numpy as np

from keras_bert_layers.analysis.batches import run_batches
from keras_bert_layers.analysis.encoder_run import Wanted
from keras_bert_layers.analysis.figures import COLOURS, label_layers, new_figure
from keras_bert_layers.analysis.optional_package import import_optional
from keras_bert_layers.analysis.result import Result
from keras_bert_layers.encoders.encoder_contract import EncoderContract
from keras_bert_layers.encoders.windowed_encoder import WindowedEncoder

LEARNED_MODES = ("weighted", "attention")


@dataclasses.dataclass(repr=False)
class LayerWeights(Result):
    """What a `LayerCombination` learned, as `layer_weights` reads it.

    Attributes:
        layers: numbers of the K layers.
        weights: `[K]`, which sum to 1.
        spread: `[K]`, the standard deviation of the weights over tokens, with `"attention"`; else None.
        scale: the factor gamma of `"weighted"`; else 1.
        mode: of the combination.
    """

    layers: list[int]
    weights: np.ndarray
    spread: np.ndarray | None
    scale: float
    mode: str

    @property
    def expected_layer(self) -> float:
        """The sum of weight times number of the layer, which Tenney et al. 2019 (equation 2) call centre of gravity."""
        return float(np.dot(self.weights, self.layers))

    @property
    def divergence_from_uniform(self) -> float:
        """Kullback and Leibler's divergence of the weights from 1 / K each, in nats (Tenney et al. 2019, K(s)).

        It is 0 where nothing was learned; the expected layer says little then.
        """
        weights = self.weights[self.weights > 0]
        return float(np.sum(weights * np.log(weights * len(self.weights))))

    def to_dataframe(self) -> Any:
        """One row for each layer."""
        columns: dict[str, Any] = {"layer": self.layers, "weight": self.weights}
        if self.spread is not None:
            columns["spread"] = self.spread
        return import_optional("pandas", "pandas").DataFrame(columns)

    def plot(self) -> Any:
        """A bar for each layer, and the expected layer; returns the matplotlib figure."""
        figure = new_figure(3.8, f'Weights of the layers that "{self.mode}" learned')
        axis = figure.subplots()
        places = np.arange(len(self.layers))
        axis.bar(places, self.weights, color=COLOURS[0], yerr=self.spread, capsize=3)
        axis.axhline(1 / len(self.layers), color="black", linestyle=":", label=f"all alike: {1 / len(self.layers):.3f}")
        # Between the bars, where the numbers of the layers ascend.
        if self.layers == sorted(set(self.layers)) and len(self.layers) > 1:
            place = float(np.interp(self.expected_layer, self.layers, places))
            name = f"expected layer: {self.expected_layer:.2f}"
            axis.axvline(place, color=COLOURS[1], linestyle="--", label=name)
        label_layers(axis, self.layers)
        axis.set_ylabel("weight (they sum to 1)")
        axis.set_ylim(0, None)
        figure.legend(loc="outside lower center", ncols=2)
        return figure


def layer_weights(encoder: Any, preprocessor: Any = None, texts: Any = None) -> LayerWeights:
    r"""Reads how much each layer counts in what a `LayerCombination` learned.

    `"weighted"` has one weight for each layer, \(s_k = \mathrm{softmax}(w / T)_k\), and needs no texts. `"attention"`
    has one for each layer and token, \(\mathrm{softmax}_k(q \cdot h_k / \sqrt d)\): here are their mean and standard
    deviation over all real tokens of the texts. The expected layer is

    \[E[\ell] = \sum_k s_k \ell_k\]

    the centre of gravity of Tenney et al. 2019 (equation 2), where the embeddings are layer 0 as here.

    Args:
        encoder: an encoder with a combination that learns; or a Keras model with exactly one such encoder.
        preprocessor: with `"attention"`, a `BertPreprocessor` or a `TFHubPreprocessor`.
        texts: with `"attention"`, the texts to take the mean over, as in `layer_differences`.

    Returns:
        A `LayerWeights`.

    Raises:
        TypeError: for anything else than an encoder or a model.
        ValueError: where nothing learns weights, and without texts for `"attention"`.

    Example:

    ```python
    weights = kbl.analysis.layer_weights(model)
    weights.expected_layer, weights.to_dataframe()
    ```
    """
    encoder = find_learned(encoder)
    if isinstance(encoder, WindowedEncoder):
        encoder = encoder.encoder
    combination, layers = encoder.combination, encoder.selected_layers
    if hasattr(combination, "layer_weights"):
        scale = float(keras.ops.convert_to_numpy(combination.gamma))
        return LayerWeights(layers, combination.layer_weights, None, scale, combination.mode)
    if preprocessor is None or texts is None:
        raise ValueError(
            'Expected texts: the weights of mode "attention" differ from token to token. Received: no preprocessor or '
            "no texts. Give both: layer_weights(encoder, preprocessor, texts)."
        )
    query = keras.ops.convert_to_numpy(combination.query).astype("float64")
    count, sums, squares = 0, np.zeros(len(layers)), np.zeros(len(layers))
    for batch in run_batches(encoder, preprocessor, texts, layers, Wanted(tokens=True)):
        scores = np.stack([states @ query for states in batch.states.tokens], axis=1) / np.sqrt(len(query))
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        count += len(weights)
        sums += weights.sum(axis=0)
        squares += np.square(weights).sum(axis=0)
    mean = sums / count
    return LayerWeights(layers, mean, np.sqrt(np.maximum(squares / count - mean**2, 0)), 1.0, "attention")


def find_learned(encoder: Any, modes: tuple[str, ...] = LEARNED_MODES) -> Any:
    """Returns the one encoder, itself or inside a Keras model, whose combination learns weights."""
    if isinstance(encoder, EncoderContract):
        candidates = [encoder]
    elif isinstance(encoder, keras.Model):
        layers = encoder._flatten_layers(include_self=False)
        candidates = [layer for layer in layers if isinstance(layer, EncoderContract)]
        # A WindowedEncoder and the encoder in it share one combination.
        wrapped = [layer.encoder for layer in candidates if isinstance(layer, WindowedEncoder)]
        candidates = [layer for layer in candidates if not any(layer is one for one in wrapped)]
    else:
        raise TypeError(
            f"Expected an encoder or a Keras model with one. Received: encoder of type {type(encoder).__name__}."
        )
    found = [layer for layer in candidates if layer.combination is not None and layer.combination.mode in modes]
    if len(found) != 1:
        raise ValueError(
            f"Expected one encoder whose combination is {' or '.join(repr(mode) for mode in modes)}. "
            f"Received: {len(found)} such encoders among {[layer.name for layer in candidates]}. "
            "Make one with combine='weighted', or give the encoder itself: model.get_layer(...)."
        )
    return found[0]
