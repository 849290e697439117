from collections.abc import Iterable, Sequence
from typing import Any

from keras_bert_layers.analysis.attention import AttentionMeasure
from keras_bert_layers.analysis.contextuality import ContextualityMeasure
from keras_bert_layers.analysis.layer_differences import LayerDifferencesMeasure
from keras_bert_layers.analysis.layer_similarity import LayerSimilarityMeasure
from keras_bert_layers.analysis.streaming import Measure, chosen_layers, make_pooling, measure
from keras_bert_layers.layers.sequence_pooling import SequencePooling

MEASURES = ("layer_differences", "layer_similarity", "contextuality", "attention")


def analyze(
    encoder: Any,
    preprocessor: Any,
    texts: Any,
    measures: Sequence[str] = MEASURES[:3],
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
    if not is_list or any(name not in MEASURES for name in measures):
        raise ValueError(
            f"Expected `measures` to be a list of names among {', '.join(MEASURES)}. Received: measures={measures!r}."
        )
    numbers = chosen_layers(encoder, layers)
    with_scores = [number for number in numbers if number > 0]
    if "attention" in measures:
        chosen_layers(encoder, with_scores, scores=True)
    chosen = make_pooling(pooling)
    makers: dict[str, Any] = {
        "layer_differences": lambda: LayerDifferencesMeasure(numbers, chosen),
        "layer_similarity": lambda: LayerSimilarityMeasure(numbers, chosen),
        "contextuality": lambda: ContextualityMeasure(numbers),
        "attention": lambda: AttentionMeasure(with_scores),
    }
    running: list[Measure] = [makers[name]() for name in measures]
    return dict(zip(measures, measure(encoder, preprocessor, texts, numbers, running), strict=True))
