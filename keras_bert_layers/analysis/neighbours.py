import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from keras_bert_layers.analysis.arguments import check_encoder, is_int, make_pooling, pooling_name
from keras_bert_layers.analysis.batches import Batch, run_batches
from keras_bert_layers.analysis.encoder_run import Wanted
from keras_bert_layers.analysis.extract_embeddings import Embeddings
from keras_bert_layers.analysis.figures import draw_matrix, new_figure
from keras_bert_layers.analysis.optional_package import import_optional
from keras_bert_layers.analysis.result import Result
from keras_bert_layers.analysis.selection import Selection, chosen_states, combination_name
from keras_bert_layers.analysis.texts import count_texts
from keras_bert_layers.layers.combine_modes import MODES
from keras_bert_layers.layers.layer_combination import LayerCombination
from keras_bert_layers.layers.sequence_pooling import SequencePooling


class Neighbour(NamedTuple):
    """A text or a word near a query.

    Attributes:
        number: the place of the text in the input.
        word_number: the place of the word in the text, or -1 where texts are compared.
        text: the text; None where it is not known, of `Embeddings` from a file.
        word: the word as it stands in the text, or None.
        cosine: of the query's vector and this one's.
    """

    number: int
    word_number: int
    text: Any
    word: str | None
    cosine: float


@dataclasses.dataclass(repr=False)
class Neighbours(Result):
    """What is nearest to each query in each layer, as `neighbours` finds it.

    Attributes:
        layers: numbers of the K layers, or the name of the one combination.
        queries: the queries, one by one.
        found: for each layer and each query a list of `Neighbour`, the nearest first.
    """

    layers: list[int | str]
    queries: list[Any]
    found: list[list[list[Neighbour]]]

    def to_dataframe(self) -> Any:
        """One row for each layer, query and neighbour; ranks count from 1."""
        rows = [
            {"layer": layer, "query": query, "rank": rank, **neighbour._asdict()}
            for layer, by_query in zip(self.layers, self.found, strict=True)
            for query, nearest in zip(self.queries, by_query, strict=True)
            for rank, neighbour in enumerate(nearest, start=1)
        ]
        return import_optional("pandas", "pandas").DataFrame(rows)

    def plot(self) -> Any:
        """The share of neighbours that two layers have in common; returns the matplotlib figure."""
        sets = [[{one[:2] for one in nearest} for nearest in by_query] for by_query in self.found]
        shared = [
            [np.mean([len(one & two) / len(one) for one, two in zip(first, second, strict=True)]) for second in sets]
            for first in sets
        ]
        count, queries = len(self.found[0][0]), len(self.queries)
        figure = new_figure(6.0, f"Neighbours that two layers share ({count} nearest of {queries} queries)")
        axis = figure.subplots()
        image = draw_matrix(axis, shared, self.layers)
        axis.set_xlabel("layer (0: embeddings)")
        axis.set_ylabel("layer")
        figure.colorbar(image, ax=axis, label="share of neighbours in common")
        return figure


def neighbours(
    encoder: Any,
    preprocessor: Any,
    texts: Any,
    queries: Any,
    count: int = 5,
    layers: int | str | Iterable[int] | None = None,
    pooling: str | SequencePooling | None = "mean",
    combine: str | LayerCombination | None = None,
) -> Neighbours:
    """Finds the texts, or the words, whose vectors have the largest cosine with a query's, in each layer.

    Every text is compared, and of each query only the nearest are kept, so that memory does not grow with the texts. A
    query that is among the texts finds itself. Of equal cosines the earlier text comes first.

    Args:
        encoder, preprocessor: as in `layer_differences`.
        texts: as in `layer_differences`; or the `Embeddings` of them that `extract_embeddings` made with a `pooling`,
            so that the encoder runs on the queries alone. `layers` and `combine` are then those of the embeddings.
        queries: in the forms of `texts`; with `pooling=None` a list of tuples `(text, word)`, where the word is one of
            the text's (its first occurrence, in either case).
        count: how many neighbours of each.
        layers, combine: as in `extract_embeddings`.
        pooling: how the vector of a text is made; None compares words, each the mean of its pieces.

    Returns:
        A `Neighbours`.

    Raises:
        TypeError, ValueError: for what is none of the above, and for a word that its text does not have.

    Example:

    ```python
    corpus = kbl.analysis.extract_embeddings(encoder, preprocessor, texts, pooling="mean")
    kbl.analysis.neighbours(encoder, preprocessor, corpus, ["Where is my parcel?"]).to_dataframe()
    query = ("She sat on the bank of the river.", "bank")
    kbl.analysis.neighbours(encoder, preprocessor, texts, [query], pooling=None).to_dataframe()
    ```
    """
    if not is_int(count, 1):
        raise ValueError(f"Expected `count` to be an int of at least 1. Received: count={count!r}.")
    chosen = None if pooling is None else make_pooling(pooling)
    if isinstance(texts, Embeddings):
        selection = _selection_of(encoder, texts, layers, combine, chosen)
    else:
        selection = chosen_states(encoder, layers, combine)
    wanted = Wanted(words=chosen is None, pooling=chosen, combinations=selection.combinations)
    asked, units = _query_units(encoder, preprocessor, queries, selection.one_by_one, wanted)
    names: list[int | str] = list(selection.layers)
    if selection.mode is not None:
        names = [combination_name(selection.mode, selection.layers)]
    found: list[list[list[Neighbour]]] = [[[] for _ in asked] for _ in names]
    if isinstance(texts, Embeddings):
        of_texts = texts.texts or [None] * len(texts.vectors)
        numbers = np.arange(len(of_texts))
        for layer, vectors in enumerate(texts.by_layer):
            for query, row in enumerate(units[layer] @ _units(vectors).T):
                order = np.lexsort((numbers, -row))[:count]
                found[layer][query] = [Neighbour(int(n), -1, of_texts[n], None, float(row[n])) for n in order]
        return Neighbours(layers=names, queries=asked, found=found)
    for batch in run_batches(encoder, preprocessor, texts, selection.one_by_one, wanted):
        for layer, states in enumerate(batch.states.words if wanted.words else batch.states.vectors):
            cosines = units[layer] @ _units(states).T
            for query, row in enumerate(cosines):
                best = found[layer][query] + _nearest(batch, row, count, wanted.words)
                found[layer][query] = sorted(best, key=lambda one: (-one.cosine, one.number, one.word_number))[:count]
    return Neighbours(layers=names, queries=asked, found=found)


def _selection_of(
    encoder: Any, texts: Embeddings, layers: Any, combine: Any, pooling: SequencePooling | None
) -> Selection:
    """What the embeddings of texts were made of, for the queries to be made alike."""
    check_encoder(encoder)
    if pooling is None or texts.pooling != pooling_name(pooling):
        raise ValueError(
            "Expected `pooling` to be how the embeddings of the texts were made, and that to be a vector for each "
            f"text. Received: pooling={None if pooling is None else pooling_name(pooling)!r} with embeddings of "
            f"pooling={texts.pooling!r}. extract_embeddings(..., pooling='mean') makes the ones that go with the "
            "default."
        )
    if combine is None and texts.combine is not None:
        own = encoder.combination
        is_own = own is not None and own.mode == texts.combine and encoder.selected_layers == texts.layers
        combine = own if is_own else texts.combine
        if not is_own and combine in [mode for mode, kind in MODES.items() if kind.is_learned]:
            raise ValueError(
                f"Embeddings do not hold what their combination {combine!r} has learned. Received: combine=None, and "
                "an encoder without that combination. Give the LayerCombination that made them as `combine`."
            )
    selection = chosen_states(encoder, texts.layers if layers is None else layers, combine)
    hidden = texts.by_layer[0].shape[-1]
    shapes = [(None, None, encoder.hidden_size)] * len(selection.layers)
    own = selection.combination
    width = encoder.hidden_size if own is None else own.compute_output_shape(shapes)[-1]
    if (selection.layers, selection.mode, width) != (texts.layers, texts.combine, hidden):
        raise ValueError(
            "Expected `layers`, `combine` and the encoder to be those with which the embeddings of the texts were "
            f"made: layers={texts.layers}, combine={texts.combine!r}, vectors of {hidden}. Received: "
            f"layers={selection.layers}, combine={selection.mode!r}, vectors of {width}. Leave `layers` and "
            "`combine` out."
        )
    return selection


def _nearest(batch: Batch, cosines: np.ndarray, count: int, words: bool) -> list[Neighbour]:
    rows = batch.word_rows if words else np.arange(len(batch.texts))
    places = batch.word_numbers if words else np.full(len(rows), -1)
    order = np.lexsort((places, batch.numbers[rows], -cosines))[:count]
    return [
        Neighbour(
            number=int(batch.numbers[rows[item]]),
            word_number=int(places[item]),
            text=batch.texts[rows[item]],
            word=word_string(batch, rows[item], places[item]) if words else None,
            cosine=float(cosines[item]),
        )
        for item in order
    ]


def _query_units(
    encoder: Any, preprocessor: Any, queries: Any, layers: list[int], wanted: Wanted
) -> tuple[list[Any], np.ndarray]:
    """The queries one by one, and `[layers, queries, hidden]`, of length 1."""
    texts = queries
    if wanted.words:
        queries = list(queries) if isinstance(queries, Iterable) else [queries]
        if not all(isinstance(query, tuple) and len(query) == 2 and isinstance(query[1], str) for query in queries):
            raise TypeError(
                "With pooling=None words are compared, `queries` is a list, and a query is a tuple (text, word). "
                f"Received: queries={queries!r}."
            )
        texts = [text for text, _ in queries]
        if texts and isinstance(texts[0], tuple):
            texts = tuple(list(segment) for segment in zip(*texts, strict=True))
    if count_texts(queries) == 0:
        raise ValueError(f"Expected at least one query. Received: queries={queries!r}.")
    asked: dict[int, Any] = {}
    found: dict[int, np.ndarray] = {}
    for batch in run_batches(encoder, preprocessor, texts, layers, wanted, argument="queries"):
        asked |= {int(number): text for number, text in zip(batch.numbers, batch.texts, strict=True)}
        if not wanted.words:
            found |= {int(n): v for n, v in zip(batch.numbers, np.stack(batch.states.vectors, axis=1), strict=True)}
            continue
        states = np.stack(batch.states.words, axis=1)
        for row, number in enumerate(batch.numbers):
            word = queries[number][1]
            items = np.flatnonzero(batch.word_rows == row)
            names = [word_string(batch, row, batch.word_numbers[item]) for item in items]
            places = [place for place, name in enumerate(names) if name.casefold() == word.casefold()]
            if not places:
                raise ValueError(f"Expected a word of the text. Received: {word!r}, and the text has {names}.")
            found[int(number)] = states[items[places[0]]]
    units = _units(np.stack([found[number] for number in sorted(found)], axis=1))
    return queries if wanted.words else [asked[number] for number in sorted(asked)], units


def _units(states: np.ndarray) -> np.ndarray:
    states = states.astype("float64")
    norms = np.linalg.norm(states, axis=-1, keepdims=True)
    return np.divide(states, norms, out=np.zeros_like(states), where=norms > 0)


def word_string(batch: Batch, row: int, word_number: int) -> str:
    """A word as it stands in its text."""
    text, words, types = batch.texts[row], batch.ids["word_ids"][row], batch.ids["input_type_ids"][row]
    columns = np.flatnonzero(words == word_number)
    if isinstance(text, tuple):
        segment = types[columns[0]]
        # The words of the second text go on from those of the first.
        word_number -= words[types < segment].max(initial=-1) + 1
        text = text[segment]
    if isinstance(text, list):
        return text[word_number]
    offsets = batch.ids["offsets"][row, columns]
    return text[offsets[:, 0].min() : offsets[:, 1].max()]
