import dataclasses
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from keras_bert_layers.analysis.optional_package import import_optional
from keras_bert_layers.analysis.project import Projection, principal_components
from keras_bert_layers.analysis.streaming import (
    Batch,
    Wanted,
    chosen_layers,
    make_pooling,
    run_batches,
    token_strings,
)
from keras_bert_layers.atomic_directory import atomic_directory
from keras_bert_layers.layers.sequence_pooling import SequencePooling


@dataclasses.dataclass
class Embeddings:
    """The vectors of texts or of their tokens in every layer, as `extract_embeddings` makes them.

    Attributes:
        layers: numbers of the K layers.
        vectors: for each text `[K, tokens, hidden]` float32, or `[K, hidden]` where texts were pooled.
        tokens: for each text its tokens.
        offsets: for each text `[tokens, 2]`: where each token starts and ends in its text, in characters; 0 on [CLS]
            and [SEP]. None with a `TFHubPreprocessor`.
    """

    layers: list[int]
    vectors: list[np.ndarray]
    tokens: list[list[str]]
    offsets: list[np.ndarray] | None

    @property
    def is_pooled(self) -> bool:
        """Whether there is one vector for each text, not one for each token."""
        return self.vectors[0].ndim == 2

    def to_dataframe(self) -> Any:
        """One row for each layer and text, or each layer and token, with its vector in the column `vector`."""
        rows: list[dict[str, Any]] = []
        for text, (vectors, tokens) in enumerate(zip(self.vectors, self.tokens, strict=True)):
            for layer, states in zip(self.layers, vectors, strict=True):
                if self.is_pooled:
                    rows.append({"text": text, "layer": layer, "vector": states})
                    continue
                for place, (token, state) in enumerate(zip(tokens, states, strict=True)):
                    row = {"text": text, "place": place, "token": token}
                    if self.offsets is not None:
                        row["start"], row["end"] = self.offsets[text][place].tolist()
                    rows.append({**row, "layer": layer, "vector": state})
        return import_optional("pandas", "pandas").DataFrame(rows)

    def plot(self) -> Any:
        """The vectors' first two principal components, a panel for each layer; returns the matplotlib figure."""
        by_layer = zip(*([np.atleast_2d(states) for states in text] for text in self.vectors), strict=True)
        points, explained = principal_components([np.concatenate(states) for states in by_layer])
        return Projection(self.layers, points, explained, None, "texts" if self.is_pooled else "tokens").plot()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an NPZ file without pickles, which `Embeddings.load` reads.

        It holds `layers`, `vectors` (all texts side by side, `[K, tokens, hidden]`), `row_splits` (text i has the
        tokens from `row_splits[i]` to `row_splits[i + 1]`), `tokens` and `offsets`; pooled `vectors` are `[K, texts,
        hidden]`.
        """
        lengths = [len(tokens) for tokens in self.tokens]
        arrays: dict[str, Any] = {
            "layers": np.array(self.layers),
            "vectors": np.stack(self.vectors, axis=1) if self.is_pooled else np.concatenate(self.vectors, axis=1),
            "row_splits": np.cumsum([0, *lengths]),
            "tokens": np.array([token for tokens in self.tokens for token in tokens], dtype=str),
        }
        if self.offsets is not None:
            arrays["offsets"] = np.concatenate(self.offsets)
        with open(path, "wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Embeddings":
        """Reads what `save` has written."""
        with np.load(path) as arrays:
            splits, vectors = arrays["row_splits"], arrays["vectors"]
            # Every text has two tokens at least, [CLS] and [SEP].
            is_pooled = vectors.shape[1] == len(splits) - 1
            ends = splits[1:-1]
            return cls(
                layers=arrays["layers"].tolist(),
                vectors=list(np.swapaxes(vectors, 0, 1)) if is_pooled else np.split(vectors, ends, axis=1),
                tokens=[part.tolist() for part in np.split(arrays["tokens"], ends)],
                offsets=np.split(arrays["offsets"], ends) if "offsets" in arrays else None,
            )


def extract_embeddings(
    encoder: Any,
    preprocessor: Any,
    texts: Any,
    layers: int | str | Iterable[int] = "all",
    pooling: str | SequencePooling | None = None,
    directory: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Embeddings | list[pathlib.Path]:
    """Extracts the vectors of every layer, of each token or of each text, in the order of the texts.

    Args:
        encoder, preprocessor, texts, layers: as in `layer_differences`.
        pooling: None gives a vector for each token, with [CLS] and [SEP] and without padding; a mode of
            `SequencePooling`, or such a layer, one for each text.
        directory: where to write NPZ files of 1,024 texts each, so that memory does not grow with the texts; None
            returns everything in memory.
        overwrite: whether to replace what an earlier call wrote there. Anything else is kept.

    Returns:
        An `Embeddings`; or the paths of the files, in order, each of which `Embeddings.load` reads.

    Raises:
        FileExistsError: if `directory` exists and `overwrite` is false, or it is not of an earlier call.
        TypeError, ValueError: for what is none of the above.

    Example:

    ```python
    embeddings = kbl.analysis.extract_embeddings(encoder, preprocessor, ["A text.", "Another one."])
    embeddings.tokens[0], embeddings.vectors[0].shape   # ['[CLS]', 'a', 'text', '.', '[SEP]'], (12, 5, 768)
    ```
    """
    numbers = chosen_layers(encoder, layers)
    chosen = None if pooling is None else make_pooling(pooling)
    batches = run_batches(encoder, preprocessor, texts, numbers, Wanted(tokens=chosen is None, pooling=chosen))
    windows = _by_window(batches, numbers, preprocessor)
    if directory is None:
        parts = list(windows)
        return Embeddings(
            layers=numbers,
            vectors=[text for part in parts for text in part.vectors],
            tokens=[text for part in parts for text in part.tokens],
            offsets=None if parts[0].offsets is None else [text for part in parts for text in part.offsets or ()],
        )
    directory = pathlib.Path(directory)
    names = []
    with atomic_directory(directory, overwrite, ["embeddings_*.npz"]) as work:
        work.mkdir()
        for number, part in enumerate(windows):
            names.append(f"embeddings_{number:06d}.npz")
            part.save(work / names[-1])
    return [directory / name for name in names]


def _by_window(batches: Iterator[Batch], layers: list[int], preprocessor: Any) -> Iterator[Embeddings]:
    """Batches -> the texts of each window in the order in which they came."""
    found: dict[int, tuple[np.ndarray, list[str], np.ndarray | None]] = {}
    for batch in batches:
        lengths = batch.mask.sum(axis=1)
        if batch.states.vectors:
            vectors = list(np.stack(batch.states.vectors, axis=1))
        else:
            # Copies, so that no text keeps its whole batch alive.
            ends = np.cumsum(lengths)[:-1]
            vectors = [part.copy() for part in np.split(np.stack(batch.states.tokens), ends, axis=1)]
        for row, number in enumerate(batch.numbers):
            tokens = token_strings(preprocessor, batch.ids["input_word_ids"][row, : lengths[row]])
            offsets = batch.ids["offsets"][row, : lengths[row]].copy() if "offsets" in batch.ids else None
            found[int(number)] = (vectors[row], tokens, offsets)
        if batch.ends_window:
            texts = [found[number] for number in sorted(found)]
            all_offsets = [text[2] for text in texts if text[2] is not None]
            yield Embeddings(layers, [text[0] for text in texts], [text[1] for text in texts], all_offsets or None)
            found = {}
