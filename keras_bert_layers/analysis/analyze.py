from collections.abc import Callable, Iterable, Sequence
from typing import Any

from keras_bert_layers.analysis.arguments import chosen_layers, make_pooling
from keras_bert_layers.analysis.attention import AttentionMeasure
from keras_bert_layers.analysis.contextuality import ContextualityMeasure
from keras_bert_layers.analysis.layer_differences import LayerDifferencesMeasure
from keras_bert_layers.analysis.layer_similarity import LayerSimilarityMeasure
from keras_bert_layers.analysis.measure import Measure, run_measures
from keras_bert_layers.layers.sequence_pooling import SequencePooling

# Name -> what makes the measure from the numbers of the layers and the pooling.
MEASURES: dict[str, Callable[[list[int], SequencePooling], Measure]] = {
    "layer_differences": LayerDifferencesMeasure,
    "layer_similarity": LayerSimilarityMeasure,
    "contextuality": lambda layers, pooling: ContextualityMeasure(layers),
    "attention": lambda layers, pooling: AttentionMeasure([number for number in layers if number > 0]),
}


def analyze(
    encoder: Any,
    preprocessor: Any,
    texts: Any,
    measures: Sequence[str] = ("layer_differences", "layer_similarity", "contextuality"),
    layers: int | str | Iterable[int] = "all",
    pooling: str | SequencePooling = "mean",
) -> dict[str, Any]:
    """Computes several measures in one pass: the encoder runs once on each text.

    Args:
        encoder, preprocessor, texts, layers: as in `layer_differences`.
        measures: names among `"layer_differences"`, `"layer_similarity"`, `"contextuality"` and `"attention"`; each is
            what the function of that name computes. `"attention"` leaves layer 0 out.
        pooling: how the vector of a text is made.

    Returns:
        A dict: name of the measure -> its result.

    Raises:
        TypeError, ValueError: for what is none of the above, and as the functions themselves.

    Example:

    ```python
    results = kbl.analysis.analyze(encoder, preprocessor, texts, ["layer_differences", "contextuality"])
    results["contextuality"].plot()
    ```
    """
    is_list = isinstance(measures, (list, tuple)) and bool(measures)
    if not is_list or any(not isinstance(name, str) or name not in MEASURES for name in measures):
        raise ValueError(
            f"Expected `measures` to be a list of names among {', '.join(MEASURES)}. Received: measures={measures!r}."
        )
    numbers = chosen_layers(encoder, layers)
    chosen = make_pooling(pooling)
    running = [MEASURES[name](numbers, chosen) for name in measures]
    if any(one.wanted.scores for one in running):
        chosen_layers(encoder, [number for number in numbers if number > 0] or numbers, scores=True)
    return dict(zip(measures, run_measures(encoder, preprocessor, texts, numbers, running), strict=True))
