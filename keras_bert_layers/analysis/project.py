import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_bert_layers.analysis.arguments import chosen_layers, make_pooling
from keras_bert_layers.analysis.batches import run_batches
from keras_bert_layers.analysis.encoder_run import Wanted
from keras_bert_layers.analysis.figures import COLOURS, MARKERS, layer_name, new_figure, with_fonts
from keras_bert_layers.analysis.labels import check_labels
from keras_bert_layers.analysis.optional_package import import_optional
from keras_bert_layers.analysis.result import Result
from keras_bert_layers.analysis.texts import count_texts
from keras_bert_layers.layers.sequence_pooling import SequencePooling

OTHERS = "#999999"


@dataclasses.dataclass(repr=False)
class Projection(Result):
    """Texts as points in the plane, for each layer, as `project` makes them.

    Attributes:
        layers: numbers of the K layers; the name of a combination in place of one.
        points: `[K, texts, 2]`, the first two principal components.
        explained: `[K, 2]`, the shares of the variance that they explain.
        labels: a label for each text, or None.
        unit: what the points are.
    """

    layers: list[int | str]
    points: np.ndarray
    explained: np.ndarray
    labels: list[Any] | None
    unit: str = "texts"

    def to_dataframe(self) -> Any:
        """One row for each layer and text."""
        layers, texts, _ = self.points.shape
        columns: dict[str, Any] = {
            "layer": np.repeat(np.array(self.layers), texts),
            "text": np.tile(np.arange(texts), layers),
            "x": self.points[..., 0].ravel(),
            "y": self.points[..., 1].ravel(),
        }
        if self.labels is not None:
            columns["label"] = np.tile(np.array(self.labels), layers)
        return import_optional("pandas", "pandas").DataFrame(columns)

    def plot(self) -> Any:
        """A panel for each layer, the points coloured by label; returns the matplotlib figure."""
        columns = min(4, len(self.layers))
        rows = -(-len(self.layers) // columns)
        figure = new_figure(
            0.9 + {1: 4.6, 2: 3.4, 3: 2.6, 4: 2.2}[columns] * rows,
            f"The same {self.points.shape[1]:,} {self.unit} in each layer (first two principal components)",
        )
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        groups = _groups(self.labels, self.points.shape[1])
        for axis, layer, points, explained in zip(axes, self.layers, self.points, self.explained, strict=False):
            for number, (name, chosen) in enumerate(groups):
                is_other = number == len(COLOURS)
                axis.scatter(
                    *points[chosen].T,
                    s=9,
                    alpha=0.75,
                    linewidths=0,
                    color=OTHERS if is_other else COLOURS[number],
                    marker="." if is_other else MARKERS[number],
                    label=name,
                )
            axis.set_title(layer_name(layer), fontsize=10)
            axis.set_xlabel(f"PC 1 ({explained[0]:.0%} of variance)", fontsize=8)
            axis.set_ylabel(f"PC 2 ({explained[1]:.0%})", fontsize=8)
            axis.tick_params(labelsize=7)
        for axis in axes[len(self.layers) :]:
            axis.set_axis_off()
        if self.labels is not None:
            handles, names = axes[0].get_legend_handles_labels()
            if len(axes) > len(self.layers):
                # In the place of a panel that is not there.
                axes[-1].legend(handles, names, loc="center", markerscale=2, frameon=False)
            else:
                figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)), markerscale=2)
        return with_fonts(figure)


def project(
    encoder: Any,
    preprocessor: Any,
    texts: Any,
    labels: Iterable[Any] | None = None,
    layers: int | str | Iterable[int] = "all",
    pooling: str | SequencePooling = "mean",
) -> Projection:
    """Projects texts onto the first two principal components of each layer (scikit-learn's `PCA`).

    The pooled vectors of all texts are in memory at once. The signs of the first layer's components are scikit-learn's
    choice; those of each further layer are chosen such that its points correlate with those of the layer before.

    Args:
        encoder, preprocessor, texts, layers: as in `layer_differences`.
        labels: a label for each text, as str or int, which gives its colour; the seven most frequent ones are told
            apart. None for none.
        pooling: how the vector of a text is made.

    Returns:
        A `Projection`. (`Embeddings.plot` draws one of vectors that are there.)

    Raises:
        ImportError: without scikit-learn.
        TypeError, ValueError: for what is none of the above, for fewer than two texts, and where there are not as many
            labels as texts.

    Example:

    ```python
    kbl.analysis.project(encoder, preprocessor, texts, labels).plot().savefig("layers.png")
    ```
    """
    numbers = chosen_layers(encoder, layers)
    labels = check_labels(labels, count_texts(texts))
    found: dict[int, np.ndarray] = {}
    for batch in run_batches(encoder, preprocessor, texts, numbers, Wanted(pooling=make_pooling(pooling))):
        for number, vectors in zip(batch.numbers, np.stack(batch.states.vectors, axis=1), strict=True):
            found[int(number)] = vectors
    labels = check_labels(labels, len(found))
    vectors = np.stack([found[number] for number in sorted(found)], axis=1)
    points, explained = principal_components(vectors)
    return Projection(layers=list(numbers), points=points, explained=explained, labels=labels)


def principal_components(vectors: Any) -> tuple[np.ndarray, np.ndarray]:
    """`[K, n, hidden]` -> points `[K, n, 2]` and the shares of the variance `[K, 2]`."""
    decomposition = import_optional("sklearn.decomposition", "scikit-learn")
    if len(vectors[0]) < 2:
        raise ValueError(f"Expected at least two texts. Received: {len(vectors[0])}.")
    points: list[np.ndarray] = []
    explained = []
    for states in vectors:
        pca = decomposition.PCA(n_components=2, svd_solver="full")
        # Where all vectors are the same, there is no variance to have a share of.
        with np.errstate(invalid="ignore"):
            found = pca.fit_transform(states.astype("float64"))
        if points:
            # A component may point either way: the way in which the layer before has it.
            found *= np.where(np.sum(found * points[-1], axis=0) < 0, -1, 1)
        points.append(found)
        explained.append(np.nan_to_num(pca.explained_variance_ratio_))
    return np.stack(points), np.stack(explained)


def _groups(labels: Sequence[Any] | None, texts: int) -> list[tuple[str | None, np.ndarray]]:
    """The points of each label, the most frequent labels first, and of all further ones."""
    if labels is None:
        return [(None, np.arange(texts))]
    values, places, counts = np.unique(np.array(labels), return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    groups: list[tuple[str | None, np.ndarray]]
    groups = [(str(values[value]), np.flatnonzero(places == value)) for value in order[: len(COLOURS)]]
    if len(order) > len(COLOURS):
        groups.append(("others", np.flatnonzero(np.isin(places, order[len(COLOURS) :]))))
    return groups
