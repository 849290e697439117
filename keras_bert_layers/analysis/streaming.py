"""Texts -> the states of every layer, batch by batch: one pass of the encoder, however many measures look at it."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_bert_layers.analysis.progress_bar import progress_bar
from keras_bert_layers.encoders.layerwise_encoder import TFHUB_NAMES, LayerwiseEncoder
from keras_bert_layers.encoders.tfhub_encoder import TFHubEncoder
from keras_bert_layers.encoders.windowed_encoder import WindowedEncoder
from keras_bert_layers.layers.layer_combination import COMBINE_MODES, LayerCombination
from keras_bert_layers.layers.layer_selection import select_layers
from keras_bert_layers.layers.sequence_pooling import POOLING_MODES, SequencePooling
from keras_bert_layers.layers.word_pooling import WordPooling
from keras_bert_layers.text.bert_preprocessor import BertPreprocessor
from keras_bert_layers.text.text_layer import TextLayer
from keras_bert_layers.text.texts import check_texts, plain_texts

# Texts that are sorted by length together. Within them all batches are made before the next texts are read.
WINDOW = 1024
TOKENS_PER_BATCH = 2048
# Attention scores grow with the square of the length: at most so many numbers of them in a batch.
SCORES_PER_BATCH = 2**24


class Wanted(NamedTuple):
    """What a pass takes from the encoder's run.

    Attributes:
        tokens: the states of all real tokens.
        pooling: makes one vector of each text; None for none.
        words: the mean of the pieces of each word.
        scores: the attention scores.
        combinations: further "layers": pairs of a `LayerCombination` and the layers that it combines.
    """

    tokens: bool = False
    pooling: SequencePooling | None = None
    words: bool = False
    scores: bool = False
    combinations: Sequence[tuple[LayerCombination, list[int]]] = ()


class States(NamedTuple):
    """What an encoder gave for a batch; for each layer, and after them each combination, one float32 array.

    Attributes:
        tokens: `[tokens, hidden]`, the real tokens of all texts one after the other.
        vectors: `[batch, hidden]`, the pooled texts.
        words: `[words, hidden]`, the words of all texts one after the other.
        scores: `[batch, heads, sequence, sequence]` for each layer but the embeddings.
    """

    tokens: list[np.ndarray]
    vectors: list[np.ndarray]
    words: list[np.ndarray]
    scores: list[np.ndarray]


@dataclasses.dataclass
class Batch:
    """Texts of similar length and what the encoder gave for them.

    Attributes:
        texts: the texts as they came.
        numbers: `[batch]`, the place of each in the input.
        ids: what the preprocessor made of them, each `[batch, sequence]` and cut to the longest.
        mask: bool `[batch, sequence]`, true on real tokens.
        special: bool `[batch, sequence]`, true on [CLS] and [SEP].
        states: of the encoder.
        other: of the second encoder, if there is one.
        word_rows, word_numbers: `[words]`, where each word of `states.words` stands: text of the batch, word of it.
        ends_window: whether all texts up to here have come.
    """

    texts: list[Any]
    numbers: np.ndarray
    ids: dict[str, np.ndarray]
    mask: np.ndarray
    special: np.ndarray
    states: States
    other: States | None
    word_rows: np.ndarray
    word_numbers: np.ndarray
    ends_window: bool


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


def measure(
    encoder: Any, preprocessor: Any, texts: Any, layers: Sequence[int], measures: Sequence[Measure], other: Any = None
) -> list[Any]:
    """Runs measures over texts in one pass and returns their results, in their order."""
    poolings = [one.wanted.pooling for one in measures if one.wanted.pooling is not None]
    wanted = Wanted(
        tokens=any(one.wanted.tokens for one in measures),
        pooling=poolings[0] if poolings else None,
        words=any(one.wanted.words for one in measures),
        scores=any(one.wanted.scores for one in measures),
        combinations=[combination for one in measures for combination in one.wanted.combinations],
    )
    for batch in run_batches(encoder, preprocessor, texts, layers, wanted, other):
        for one in measures:
            one.update(batch)
    return [one.result() for one in measures]


class Selection(NamedTuple):
    """Which states are meant: those of several layers one by one, or one state of each token.

    Attributes:
        layers: numbers of the layers.
        combination: what makes one state of all of them; None for none.
        is_single: whether there is one state: of a combination, or of the one layer that an int names.
    """

    layers: list[int]
    combination: LayerCombination | None
    is_single: bool

    @property
    def mode(self) -> str | None:
        """The mode of the combination."""
        return None if self.combination is None else self.combination.mode

    @property
    def one_by_one(self) -> list[int]:
        """The layers that a pass gives out as they are."""
        return self.layers if self.combination is None else []

    @property
    def combinations(self) -> list[tuple[LayerCombination, list[int]]]:
        """What `Wanted` takes."""
        return [] if self.combination is None else [(self.combination, self.layers)]


def check_encoder(encoder: Any, argument: str = "encoder") -> None:
    """Refuses anything else than a `BertEncoder`, a `HuggingFaceEncoder` or a `TFHubEncoder`."""
    if isinstance(encoder, LayerwiseEncoder) and not isinstance(encoder, WindowedEncoder):
        return
    if isinstance(encoder, WindowedEncoder):
        way_out = (
            "Give the encoder that it wraps, `encoder.encoder`, and a preprocessor made without long_documents=True, "
            "which cuts what is longer than the encoder."
        )
    elif isinstance(encoder, keras.Model):
        way_out = "Give the encoder in the model: model.get_layer(...)."
    else:
        way_out = "BertEncoder.from_pretrained(...) makes one."
    raise TypeError(
        f"The analysis expects `{argument}` to be a BertEncoder, a HuggingFaceEncoder or a TFHubEncoder. "
        f"Received: {argument} of type {type(encoder).__name__}. {way_out}"
    )


def chosen_layers(
    encoder: Any, layers: int | str | Iterable[int], scores: bool = False, argument: str = "encoder"
) -> list[int]:
    """Checks the encoder and returns the numbers of the layers that are meant.

    Args:
        encoder: a `BertEncoder`, `HuggingFaceEncoder` or `TFHubEncoder`.
        layers: as in the encoders.
        scores: whether attention scores of the layers are needed.
        argument: what the user calls the encoder.

    Raises:
        TypeError: for anything else, a `WindowedEncoder` too.
        ValueError: for unknown layers, and where they have no attention scores.
    """
    check_encoder(encoder, argument)
    if scores and isinstance(encoder, TFHubEncoder):
        raise ValueError(
            "A TF Hub encoder is a finished graph that does not give out its attention scores. Received: encoder of "
            "type TFHubEncoder. Take the same BERT in Hugging Face's format: BertEncoder.from_pretrained(...)."
        )
    numbers = select_layers(layers, encoder.num_layers, encoder.has_embeddings)
    if scores and 0 in numbers:
        raise ValueError(
            "Layer 0 is the output of the embeddings and has no attention scores. "
            f"Received: layers={layers!r}. Select layers from 1 to {encoder.num_layers}."
        )
    return numbers


def chosen_states(
    encoder: Any, layers: int | str | Iterable[int] | None, combine: str | LayerCombination | None
) -> Selection:
    """Checks the encoder and returns which states are meant; what is None in both is as the encoder is made.

    Args:
        encoder: a `BertEncoder`, `HuggingFaceEncoder` or `TFHubEncoder`.
        layers: as in the encoders; None for those of the encoder.
        combine: as in the encoders; None for the encoder's own where `layers` is None too, else for none.

    Raises:
        TypeError, ValueError: as `chosen_layers`, and for what is no combination of these layers.
    """
    check_encoder(encoder)
    if layers is None:
        layers, combine = encoder.layers, encoder.combination if combine is None else combine
    elif not isinstance(layers, (int, str)) and isinstance(layers, Iterable):
        layers = list(layers)
    numbers = chosen_layers(encoder, layers)
    if isinstance(combine, str) and combine in COMBINE_MODES:
        combine = LayerCombination(combine, dtype="float32")
    if combine is not None and not isinstance(combine, LayerCombination):
        raise ValueError(
            f"Expected `combine` to be None, one of {', '.join(COMBINE_MODES)}, or a LayerCombination. "
            f"Received: combine={combine!r}."
        )
    if combine is None or not combine.has_sequence_axis:
        return Selection(numbers, None, hasattr(layers, "__index__"))
    if not encoder.built:
        encoder.build()
    if not combine.built:
        combine.build([(None, None, encoder.hidden_size)] * len(numbers))
    combine.check_count(len(numbers))
    return Selection(numbers, combine, True)


def combination_name(mode: str, layers: Sequence[int]) -> str:
    """Such as `"mean of layers 3 to 6"`."""
    is_run = len(layers) > 2 and list(layers) == list(range(layers[0], layers[-1] + 1))
    numbers = f"{layers[0]} to {layers[-1]}" if is_run else ", ".join(map(str, layers))
    return f"{mode} of layer{'s' if len(layers) > 1 else ''} {numbers}"


def make_pooling(pooling: str | SequencePooling) -> SequencePooling:
    """The name of a pooling mode -> the layer, in float32."""
    if isinstance(pooling, SequencePooling):
        return pooling
    if pooling not in POOLING_MODES:
        raise ValueError(
            f"Expected `pooling` to be one of {', '.join(POOLING_MODES)}, or a SequencePooling. "
            f"Received: pooling={pooling!r}."
        )
    return SequencePooling(pooling, dtype="float32")


def pooling_name(pooling: SequencePooling) -> str:
    """The mode of a pooling, and whether it leaves special tokens out."""
    return pooling.mode + (" without special tokens" if pooling.exclude_special_tokens else "")


def run_batches(
    encoder: Any,
    preprocessor: Any,
    texts: Any,
    layers: Sequence[int],
    wanted: Wanted,
    other: Any = None,
    argument: str = "texts",
) -> Iterator[Batch]:
    """Runs texts through an encoder, each once.

    Of up to 1,024 texts at a time those of similar length come together, so that little of a batch is padding; then the
    next ones are read. A batch has up to 2,048 tokens, or one text.

    Args:
        encoder: as `chosen_layers` allows it.
        preprocessor: a `BertPreprocessor` or a `TFHubPreprocessor`.
        texts: an iterable of str or of lists of str (words); for pairs a tuple of two of them; or a `tf.data.Dataset`
            of strings or of tuples of strings, batched or not.
        layers: numbers of layers.
        wanted: what is needed of each batch.
        other: a second encoder, which gets the same ids.
        argument: what the user calls the texts.

    Raises:
        TypeError, ValueError: for texts that the preprocessor does not take, and for no text at all.
    """
    if not isinstance(preprocessor, TextLayer):
        raise TypeError(
            "The analysis expects `preprocessor` to be a BertPreprocessor or a TFHubPreprocessor. "
            f"Received: preprocessor of type {type(preprocessor).__name__}. "
            "BertPreprocessor.from_pretrained(...) makes the one that belongs to a checkpoint."
        )
    if isinstance(preprocessor, BertPreprocessor):
        # A copy that gives out all there is, and leaves no trace of these calls in the user's own.
        config = preprocessor.get_config() | {
            "padding": "longest",
            "pad_to_multiple_of": None,
            "sequence_buckets": None,
            "return_word_ids": True,
            "return_offsets": "characters",
        }
        preprocessor = BertPreprocessor.from_config(config)
    elif wanted.words:
        raise TypeError(
            "Only BertPreprocessor says which word a token belongs to. "
            f"Received: preprocessor of type {type(preprocessor).__name__}."
        )
    stream = read_texts(texts, argument)
    # Read before the encoder is compiled, so that what is no text is refused at once.
    window, first = list(itertools.islice(stream, WINDOW)), 0
    if not window:
        raise ValueError("Expected at least one text. Received: texts without any.")
    columns = _column(window, first)
    run = _compile(encoder, layers, wanted)
    run_other = _compile(other, layers, wanted) if other is not None else None
    random = np.random.default_rng(0)
    with progress_bar(count_texts(texts), "text") as bar:
        while window:
            ids = {name: np.asarray(value) for name, value in preprocessor(columns).items()}
            lengths = ids["input_mask"].sum(axis=1)
            parts = _split_by_length(lengths, encoder, layers, wanted)
            # In random order, so that no measure sees all short texts first.
            for place, part in enumerate(random.permutation(len(parts))):
                rows = parts[part]
                length = int(lengths[rows].max())
                cut = {name: value[rows, :length] for name, value in ids.items()}
                yield _make_batch(
                    [window[row] for row in rows], first + rows, cut, run, run_other, place == len(parts) - 1
                )
                bar.update(len(rows))
            first += len(window)
            window = list(itertools.islice(stream, WINDOW))
            columns = _column(window, first) if window else None


def _make_batch(
    texts: list[Any], numbers: np.ndarray, ids: dict[str, np.ndarray], run: Any, run_other: Any, ends_window: bool
) -> Batch:
    mask, types = ids["input_mask"].astype(bool), ids["input_type_ids"]
    # [CLS] is the first token, a [SEP] the last one of each segment.
    following = np.where(mask, types, -1)
    special = mask & (following != np.pad(following[:, 1:], ((0, 0), (0, 1)), constant_values=-1))
    special[:, 0] = True
    word_rows = word_numbers = np.zeros(0, int)
    if "word_ids" in ids:
        # The words of both texts of a pair count from 0: those of the second go on from the first.
        words = ids["word_ids"]
        in_first = np.where(types == 0, words, -1).max(axis=1, keepdims=True) + 1
        ids["word_ids"] = np.where((words >= 0) & (types > 0), words + in_first, words)
        exists = np.zeros(mask.shape, bool)
        rows, columns = np.nonzero(ids["word_ids"] >= 0)
        exists_at = ids["word_ids"][rows, columns]
        inside = exists_at < mask.shape[1]
        exists[rows[inside], exists_at[inside]] = True
        word_rows, word_numbers = np.nonzero(exists)
    inputs = {name: tf.constant(ids[name]) for name in TFHUB_NAMES}
    inputs["special_tokens_mask"] = tf.constant((special | ~mask).astype("int32"))
    inputs["word_ids"] = tf.constant(ids["word_ids"]) if "word_ids" in ids else -tf.ones_like(inputs[TFHUB_NAMES[0]])
    return Batch(
        texts=texts,
        numbers=numbers,
        ids=ids,
        mask=mask,
        special=special,
        states=run(inputs),
        other=None if run_other is None else run_other(inputs),
        word_rows=word_rows,
        word_numbers=word_numbers,
        ends_window=ends_window,
    )


def _compile(encoder: Any, layers: Sequence[int], wanted: Wanted) -> Any:
    """The encoder's run as one graph for all shapes: ids -> `States`."""
    if not encoder.built:
        encoder.build()
    needed = sorted({*layers, *(layer for _, combined in wanted.combinations for layer in combined)})
    word_pooling = WordPooling("mean", dtype="float32")

    def forward(ids: dict[str, tf.Tensor]) -> dict[str, list[tf.Tensor]]:
        mask = tf.cast(ids["input_mask"], "bool")
        hidden_states: dict[int, list[Any]] = {}

        def collect(number: int, states: list[Any]) -> list[Any]:
            if number in needed:
                hidden_states[number] = states
            return states

        scores = [layer for layer in layers if layer > 0] if wanted.scores else []
        given = encoder.run(ids["input_word_ids"], mask, ids["input_type_ids"], collect, scores, training=False)
        states = [given.restore(hidden_states[layer]) for layer in layers]
        for combination, combined in wanted.combinations:
            parts = zip(*(hidden_states[layer] for layer in combined), strict=True)
            states.append(given.restore([combination(list(part)) for part in parts]))
        states = [tf.cast(state, "float32") for state in states]
        outputs: dict[str, list[tf.Tensor]] = {"tokens": [], "vectors": [], "words": [], "scores": []}
        if wanted.tokens:
            outputs["tokens"] = [tf.boolean_mask(state, mask) for state in states]
        if wanted.pooling is not None:
            excluded = ids["special_tokens_mask"] if wanted.pooling.exclude_special_tokens else None
            outputs["vectors"] = [
                tf.cast(wanted.pooling(state, mask=mask, special_tokens_mask=excluded), "float32") for state in states
            ]
        if wanted.words:
            for state in states:
                words = word_pooling(state, ids["word_ids"])
                outputs["words"].append(tf.boolean_mask(words["word_outputs"], words["word_mask"]))
        if wanted.scores:
            outputs["scores"] = [tf.cast(given.attention_scores[layer], "float32") for layer in scores]
        return outputs

    names = (*TFHUB_NAMES, "special_tokens_mask", "word_ids")
    # Traced here, once for all shapes.
    compiled = tf.function(forward).get_concrete_function(
        {name: tf.TensorSpec((None, None), tf.int32, name) for name in names}
    )

    def run(inputs: dict[str, tf.Tensor]) -> States:
        # Inside the graph the length is open, so the encoder cannot refuse one that it has no positions for.
        encoder._check_sequence_length(inputs["input_mask"].shape[1])
        outputs = compiled(inputs)
        return States(**{name: [value.numpy() for value in values] for name, values in outputs.items()})

    return run


def _split_by_length(lengths: np.ndarray, encoder: Any, layers: Sequence[int], wanted: Wanted) -> list[np.ndarray]:
    """Cuts the texts, sorted by length, into batches; returns the rows of each."""
    parts: list[list[int]] = [[]]
    for row in np.argsort(-lengths, kind="stable"):
        # The longest comes first and gives the batch its length.
        length = int(lengths[parts[-1][0]]) if parts[-1] else 0
        size = (len(parts[-1]) + 1) * length
        too_many = size > TOKENS_PER_BATCH
        if wanted.scores:
            too_many |= size * length * encoder.num_heads * len(layers) > SCORES_PER_BATCH
        if too_many and parts[-1]:
            parts.append([])
        parts[-1].append(int(row))
    return [np.array(part) for part in parts]


def count_texts(texts: Any) -> int | None:
    """How many texts there are; None where that is not known before reading them."""
    if isinstance(texts, tf.data.Dataset):
        count = int(texts.cardinality())
        return count if count >= 0 and _rank(texts) == 0 else None
    if isinstance(texts, (str, bytes)):
        return 1
    if isinstance(texts, tuple):
        return count_texts(texts[0]) if texts else 0
    return len(texts) if hasattr(texts, "__len__") else None


def _rank(dataset: tf.data.Dataset) -> int | None:
    specs = tf.nest.flatten(dataset.element_spec)
    is_flat = all(isinstance(spec, tf.TensorSpec) and spec.dtype == tf.string for spec in specs)
    ranks = {spec.shape.rank for spec in specs} if is_flat else set()
    if ranks not in ({0}, {1}) or not isinstance(dataset.element_spec, (tf.TensorSpec, tuple)):
        raise TypeError(
            "The analysis expects a dataset of strings, or of tuples of strings for pairs, batched or not. "
            f"Received: {dataset.element_spec}. Leave labels out with dataset.map(lambda text, label: text)."
        )
    return ranks.pop()


def read_texts(texts: Any, argument: str) -> Iterator[Any]:
    """Texts in any form -> str, tuples of str (pairs) or lists of str (words), one by one."""
    if isinstance(texts, tf.data.Dataset):
        dataset = texts.unbatch() if _rank(texts) == 1 else texts
        for element in dataset.as_numpy_iterator():
            yield _decode(element)
    elif isinstance(texts, tuple) and len(texts) > 1:
        segments = [_read_column(segment, f"{argument}[{number}]") for number, segment in enumerate(texts)]
        # Where a stream has no length, the shorter one is noticed at its end.
        known = {count for count in map(count_texts, texts) if count is not None}
        for number, pair in enumerate(itertools.zip_longest(*segments)):
            if None in pair or len(known) > 1:
                found = " and ".join(map(str, sorted(known))) if len(known) > 1 else f"{number} and more"
                raise ValueError(
                    f"Expected as many second texts as first ones. Received: a tuple with {found} texts. Texts that "
                    "are no pairs come as a list."
                )
            yield pair
    else:
        yield from _read_column(texts[0] if isinstance(texts, tuple) and texts else texts, argument)


def _read_column(texts: Any, name: str) -> Iterator[Any]:
    """Texts, or one segment of pairs -> str or lists of str."""
    texts = plain_texts(texts, name, "The analysis")
    # A mapping gives its keys, and a set its texts in any order.
    is_scalar = tf.is_tensor(texts) and texts.shape.rank == 0
    if not isinstance(texts, Iterable) or isinstance(texts, (Mapping, Set)) or is_scalar:
        raise TypeError(
            "The analysis expects texts as a list or another iterable of str, or of lists of str (words); for pairs as "
            "a tuple of two of them, (first texts, second texts); or as a tf.data.Dataset. "
            f"Received: {name} of type {type(texts).__name__}."
        )
    for number, text in enumerate(texts):
        text = _decode(text)
        if isinstance(text, tuple):
            raise TypeError(
                "The analysis expects pairs as a tuple of two lists, ([first texts], [second texts]). Received: the "
                f"tuple {name}[{number}]. To turn pairs into columns: tuple(map(list, zip(*pairs)))."
            )
        check_texts([text], name, "The analysis", number)
        yield text


def _decode(text: Any) -> Any:
    if isinstance(text, (tuple, list)):
        return type(text)(_decode(part) for part in text)
    if tf.is_tensor(text):
        text = text.numpy()
    if isinstance(text, np.ndarray):
        return _decode(text.tolist())
    return text.decode("utf-8", errors="replace") if isinstance(text, bytes) else text


def _column(texts: list[Any], first: int) -> Any:
    """Texts of one kind -> what a preprocessor takes."""
    of_words = [[isinstance(part, list) for part in (text if isinstance(text, tuple) else (text,))] for text in texts]
    wrong = next((row for row, kinds in enumerate(of_words) if kinds != of_words[0]), None)
    if wrong is not None:
        raise TypeError(
            "The analysis expects texts of one kind: all str, or all lists of str (words). "
            f"Received: texts[{first + wrong}], which is not of the kind of texts[{first}]."
        )
    if isinstance(texts[0], tuple):
        return tuple(list(segment) for segment in zip(*texts, strict=True))
    return texts


def token_strings(preprocessor: Any, token_ids: np.ndarray) -> list[str]:
    """Ids -> the vocabulary's tokens; of a preprocessor that has no list of them, the numbers as text."""
    if isinstance(preprocessor, BertPreprocessor):
        return [preprocessor.tokenizer.id_to_token(int(token)) for token in token_ids]
    return [str(token) for token in token_ids]
