from collections.abc import Sequence
from typing import Any

from keras_bert_layers.analysis.batches import Batch, run_batches
from keras_bert_layers.analysis.encoder_run import Wanted


class Measure:
    """Something that is computed from batches as they come and whose memory does not grow with them.

    Attributes:
        wanted: what it needs of each batch.
    """

    wanted: Wanted

    def update(self, batch: Batch) -> None:
        """Takes in a batch."""
        raise NotImplementedError

    def result(self) -> Any:
        """Returns what was measured."""
        raise NotImplementedError


def run_measures(
    encoder: Any, preprocessor: Any, texts: Any, layers: Sequence[int], measures: Sequence[Measure], other: Any = None
) -> list[Any]:
    """Runs measures over texts in one pass and returns their results, in their order."""
    poolings = [one.wanted.pooling for one in measures if one.wanted.pooling is not None]
    wanted = Wanted(
        tokens=any(one.wanted.tokens for one in measures),
        pooling=poolings[0] if poolings else None,
        words=any(one.wanted.words for one in measures),
        scores=any(one.wanted.scores for one in measures),
    )
    for batch in run_batches(encoder, preprocessor, texts, layers, wanted, other):
        for one in measures:
            one.update(batch)
    return [one.result() for one in measures]
