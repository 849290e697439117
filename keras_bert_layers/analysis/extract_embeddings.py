import dataclasses
import os
import pathlib
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from keras_bert_layers.analysis.arguments import make_pooling, pooling_name
from keras_bert_layers.analysis.batches import Batch, run_batches, token_strings
from keras_bert_layers.analysis.encoder_run import Wanted
from keras_bert_layers.analysis.labels import check_labels
from keras_bert_layers.analysis.optional_package import import_optional
from keras_bert_layers.analysis.project import Projection, principal_components
from keras_bert_layers.analysis.result import Result
from keras_bert_layers.analysis.selection import Selection, chosen_states, combination_name
from keras_bert_layers.atomic_directory import atomic_directory
from keras_bert_layers.layers.layer_combination import LayerCombination
from keras_bert_layers.layers.sequence_pooling import SequencePooling
from keras_bert_layers.local_path import local_path

_ARRAYS = {"layers", "combine", "pooling", "vectors", "row_splits", "tokens"}


@dataclasses.dataclass(repr=False)
class Embeddings(Result):
    """The vectors of texts or of their tokens, as `extract_embeddings` makes them.

    Attributes:
        layers: numbers of the K layers.
        combine: the mode that made one vector of those of all layers; None where each layer has its own.
        pooling: the mode that made one vector of a text; None where each token has its own.
        vectors: float32: one array `[texts, hidden]` where texts were pooled and layers combined, or the layer is an
            int; `[texts, K, hidden]` with several layers. Where texts were not pooled a list with an array for each
            text, `[tokens, hidden]` or `[K, tokens, hidden]`.
        tokens: for each text its tokens.
        offsets: for each text `[tokens, 2]`: where each token starts and ends in its text, in characters; 0 on [CLS]
            and [SEP]. None with a `TFHubPreprocessor`.
        texts: the texts; None where read from a file, which does not hold them.
    """

    layers: list[int]
    combine: str | None
    pooling: str | None
    vectors: np.ndarray | list[np.ndarray]
    tokens: list[list[str]]
    offsets: list[np.ndarray] | None
    texts: list[Any] | None = None

    @property
    def is_pooled(self) -> bool:
        """Whether there is one vector for each text, not one for each token."""
        return isinstance(self.vectors, np.ndarray)

    @property
    def by_layer(self) -> list[np.ndarray]:
        """For each layer, or for the one combination, the vectors of all texts or all tokens, `[n, hidden]`."""
        vectors = self._side_by_side()
        return [vectors] if vectors.ndim == 2 else list(vectors)

    @property
    def layer_names(self) -> list[int | str]:
        """What `by_layer` holds: numbers of layers, or the name of the combination."""
        return list(self.layers) if self.combine is None else [combination_name(self.combine, self.layers)]

    def _side_by_side(self) -> np.ndarray:
        """All texts or tokens as the second but last axis."""
        if isinstance(self.vectors, np.ndarray):
            return np.moveaxis(self.vectors, 0, -2)
        return np.concatenate(self.vectors, axis=-2)

    def to_dataframe(self) -> Any:
        """One row for each layer and text, or each layer and token, with its vector in the column `vector`."""
        rows: list[dict[str, Any]] = []
        for text, (vectors, tokens) in enumerate(zip(self.vectors, self.tokens, strict=True)):
            one_layer = vectors.ndim == (1 if self.is_pooled else 2)
            by_layer = [vectors] if one_layer else vectors
            for layer, states in zip(self.layer_names, by_layer, strict=True):
                if self.is_pooled:
                    rows.append({"text": text, "layer": layer, "vector": states})
                    continue
                for place, (token, state) in enumerate(zip(tokens, states, strict=True)):
                    row = {"text": text, "place": place, "token": token}
                    if self.offsets is not None:
                        row["start"], row["end"] = self.offsets[text][place].tolist()
                    rows.append({**row, "layer": layer, "vector": state})
        return import_optional("pandas", "pandas").DataFrame(rows)

    def plot(self, labels: Iterable[Any] | None = None) -> Any:
        """The vectors' first two principal components, a panel for each layer; returns the matplotlib figure.

        Args:
            labels: as in `project`: a label for each text, or with tokens for each token, one after the other.
        """
        vectors, unit = self.by_layer, "text" if self.is_pooled else "token"
        labels = check_labels(labels, len(vectors[0]), unit)
        points, explained = principal_components(vectors)
        return Projection(self.layer_names, points, explained, labels, f"{unit}s").plot()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an NPZ file without pickles, which `Embeddings.load` reads.

        It holds `layers`, `combine` and `pooling` (empty for None), `vectors` (all texts side by side, `[K, tokens,
        hidden]`, or `[K, texts, hidden]` where they are pooled; without K where there is one vector for all layers),
        `row_splits` (text i has the tokens from `row_splits[i]` to `row_splits[i + 1]`), `tokens` and `offsets`.

        Raises:
            FileExistsError: if something else stands there than an earlier file of this function, which is replaced.
        """
        place = local_path(path, "path").resolve()
        if place.exists() and (not place.is_file() or not _array_names(place) >= _ARRAYS):
            raise FileExistsError(
                "Expected a place where nothing is, or a file that Embeddings.save has written, to be replaced. "
                f"Received: path={os.fspath(path)!r}, which is something else, and is kept. Give another name, or "
                "remove it yourself."
            )
        lengths = [len(tokens) for tokens in self.tokens]
        arrays: dict[str, Any] = {
            "layers": np.array(self.layers),
            "combine": np.array(self.combine or ""),
            "pooling": np.array(self.pooling or ""),
            "vectors": self._side_by_side(),
            "row_splits": np.cumsum([0, *lengths]),
            "tokens": np.array([token for tokens in self.tokens for token in tokens], dtype=str),
        }
        if self.offsets is not None:
            arrays["offsets"] = np.concatenate(self.offsets)
        place.parent.mkdir(parents=True, exist_ok=True)
        work = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
        try:
            with work.open("xb") as file:
                np.savez(file, **arrays)
            os.replace(work, place)
        finally:
            work.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Embeddings":
        """Reads what `save` has written.

        Raises:
            ValueError: for another file.
        """
        place = local_path(path, "path")
        names = _array_names(place)
        if not names >= _ARRAYS:
            raise ValueError(
                "Expected a file that Embeddings.save or extract_embeddings(..., directory=...) has written. "
                f"Received: path={os.fspath(path)!r}, with the arrays {sorted(names)}."
            )
        with np.load(place) as arrays:
            splits, vectors, pooling = arrays["row_splits"], arrays["vectors"], str(arrays["pooling"])
            ends = splits[1:-1]
            pooled = np.ascontiguousarray(np.moveaxis(vectors, -2, 0)) if pooling else None
            return cls(
                layers=arrays["layers"].tolist(),
                combine=str(arrays["combine"]) or None,
                pooling=pooling or None,
                vectors=np.split(vectors, ends, axis=-2) if pooled is None else pooled,
                tokens=[part.tolist() for part in np.split(arrays["tokens"], ends)],
                offsets=np.split(arrays["offsets"], ends) if "offsets" in arrays else None,
            )


def extract_embeddings(
    encoder: Any,
    preprocessor: Any,
    texts: Any,
    layers: int | str | Iterable[int] | None = None,
    pooling: str | SequencePooling | None = None,
    directory: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    combine: str | LayerCombination | None = None,
) -> Embeddings | list[pathlib.Path]:
    """Extracts the vectors of each text or of each token, in the order of the texts.

    Args:
        encoder, preprocessor, texts: as in `layer_differences`.
        layers: as in the encoders; None for those of the encoder, combined as the encoder combines them.
        pooling: None gives a vector for each token, with [CLS] and [SEP] and without padding; a mode of
            `SequencePooling`, or such a layer, one for each text.
        directory: where to write NPZ files of 1,024 texts each, so that memory does not grow with the texts; None
            returns everything in memory.
        overwrite: whether to replace what an earlier call wrote there. Anything else is kept.
        combine: makes one vector of those of the layers: a mode as in the encoders, or a `LayerCombination`. None is
            the encoder's own where `layers` is None too, else a vector for each layer.

    Returns:
        An `Embeddings`; or the paths of the files, in order, each of which `Embeddings.load` reads.

    Raises:
        FileExistsError: if `directory` exists and `overwrite` is false, or it is not of an earlier call.
        TypeError, ValueError: for what is none of the above.

    Example:

    ```python
    encoder = kbl.BertEncoder.from_pretrained(source, layers="last4", combine="mean")
    kbl.analysis.extract_embeddings(encoder, preprocessor, texts, pooling="mean").vectors.shape  # (2000, 768)
    tokens = kbl.analysis.extract_embeddings(encoder, preprocessor, ["A text.", "Another one."], layers="all")
    tokens.tokens[0], tokens.vectors[0].shape  # ['[CLS]', 'a', 'text', '.', '[SEP]'], (12, 5, 768)
    ```
    """
    selection = chosen_states(encoder, layers, combine)
    chosen = None if pooling is None else make_pooling(pooling)
    place = None if directory is None else local_path(directory, "directory")
    wanted = Wanted(tokens=chosen is None, pooling=chosen, combinations=selection.combinations)
    batches = run_batches(encoder, preprocessor, texts, selection.one_by_one, wanted)
    windows = _by_window(batches, selection, chosen, preprocessor)
    if place is None:
        parts = list(windows)
        vectors: Any = [part.vectors for part in parts]
        offsets = [text for part in parts for text in part.offsets or ()]
        return dataclasses.replace(
            parts[0],
            vectors=np.concatenate(vectors) if chosen is not None else [text for part in vectors for text in part],
            tokens=[text for part in parts for text in part.tokens],
            offsets=offsets or None,
            texts=[text for part in parts for text in part.texts or ()],
        )
    names = []
    with atomic_directory(place, overwrite, ["embeddings_*.npz"]) as work:
        work.mkdir()
        for number, part in enumerate(windows):
            names.append(f"embeddings_{number:06d}.npz")
            part.save(work / names[-1])
    return [place / name for name in names]


def _by_window(
    batches: Iterator[Batch], selection: Selection, pooling: SequencePooling | None, preprocessor: Any
) -> Iterator[Embeddings]:
    """Batches -> the texts of each window in the order in which they came."""
    found: dict[int, tuple[np.ndarray, list[str], np.ndarray | None, Any]] = {}
    for batch in batches:
        lengths = batch.mask.sum(axis=1)
        states = batch.states.tokens if pooling is None else batch.states.vectors
        both = states[0] if selection.is_single else np.stack(states, axis=-3 if pooling is None else -2)
        # Copies, so that no text keeps its whole batch alive.
        ends = np.cumsum(lengths)[:-1]
        vectors = [part.copy() for part in np.split(both, ends, axis=-2)] if pooling is None else both
        for row, number in enumerate(batch.numbers):
            tokens = token_strings(preprocessor, batch.ids["input_word_ids"][row, : lengths[row]])
            offsets = batch.ids["offsets"][row, : lengths[row]].copy() if "offsets" in batch.ids else None
            found[int(number)] = (vectors[row], tokens, offsets, batch.texts[row])
        if batch.ends_window:
            all_vectors, all_tokens, all_offsets, texts = zip(*(found[n] for n in sorted(found)), strict=True)
            yield Embeddings(
                layers=selection.layers,
                combine=selection.mode,
                pooling=None if pooling is None else pooling_name(pooling),
                vectors=list(all_vectors) if pooling is None else np.stack(all_vectors),
                tokens=list(all_tokens),
                offsets=None if all_offsets[0] is None else list(all_offsets),
                texts=list(texts),
            )
            found = {}


def _array_names(path: pathlib.Path) -> set[str]:
    """The arrays of an NPZ file; none of another file."""
    try:
        with path.open("rb") as file:
            return set(np.load(file).files) if zipfile.is_zipfile(file) else set()
    except zipfile.BadZipFile:
        return set()
