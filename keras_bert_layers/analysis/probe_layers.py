import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_bert_layers.analysis.arguments import chosen_layers, is_int, make_pooling
from keras_bert_layers.analysis.batches import Batch, run_batches
from keras_bert_layers.analysis.encoder_run import Wanted
from keras_bert_layers.analysis.figures import COLOURS, new_figure
from keras_bert_layers.analysis.labels import check_label_count, check_labels, list_labels
from keras_bert_layers.analysis.optional_package import import_optional
from keras_bert_layers.analysis.progress_bar import progress_bar
from keras_bert_layers.analysis.result import Result
from keras_bert_layers.analysis.selection import combination_name
from keras_bert_layers.analysis.texts import count_texts
from keras_bert_layers.layers.combine_modes import MODES
from keras_bert_layers.layers.layer_combination import LayerCombination
from keras_bert_layers.layers.layer_selection import select_layers
from keras_bert_layers.layers.sequence_pooling import SequencePooling

UNLEARNED_MODES = [mode for mode, kind in MODES.items() if kind.has_sequence_axis and not kind.is_learned]
# A p-value below it is significant.
SIGNIFICANT = 0.05
# The quantile of the normal distribution for 95 %.
Z = 1.959964


@dataclasses.dataclass
class Probe:
    """How well a linear probe does on one layer or one combination of layers.

    Attributes:
        name: such as `"layer 3"` or `"mean of layers 9, 10, 11, 12"`.
        layers: numbers of the layers.
        mode: how they are combined; None for a single layer.
        accuracy: the share of right predictions in cross-validation.
        low, high: the 95 % confidence interval of the accuracy.
        depth: the highest layer, up to which the encoder must run.
        features: how many numbers the probe sees.
        p_value: how probable it is that the best probe would be ahead by as much as it is if both were equally good;
            1 for the best itself.
    """

    name: str
    layers: list[int]
    mode: str | None
    accuracy: float
    low: float
    high: float
    depth: int
    features: int
    p_value: float


@dataclasses.dataclass(repr=False)
class ProbeTable(Result):
    """Which layer for my task, as `probe_layers` answers it.

    Attributes:
        probes: one for each layer, then one for each combination.
        examples: how many texts or words were classified.
        unit: `"texts"` or `"words"`.
        classes: how many different labels there are.
        majority: the share of the most frequent label: what a probe reaches that has learned nothing.
    """

    probes: list[Probe]
    examples: int
    unit: str
    classes: int
    majority: float

    @property
    def best(self) -> Probe:
        """The probe with the highest accuracy; of equal ones the cheapest."""
        return _best(self.probes)

    @property
    def cheapest(self) -> Probe:
        """The probe with the fewest layers to run, then the fewest features, that is not significantly below the best.

        Significant is a `p_value` below 0.05.
        """
        good = [probe for probe in self.probes if probe.p_value >= SIGNIFICANT]
        return min(good, key=lambda probe: (probe.depth, probe.features, -probe.accuracy))

    def __str__(self) -> str:
        """A line for each probe: its name, its accuracy and the interval, and the p-value against the best."""
        marks = {id(self.best): "  best", id(self.cheapest): "  cheapest that is not significantly below the best"}
        if self.best is self.cheapest:
            marks = {id(self.best): "  best and cheapest"}
        width = max(len(probe.name) for probe in self.probes)
        lines = [
            f"{probe.name:<{width}}  {probe.accuracy:.3f} ({probe.low:.3f} to {probe.high:.3f})  "
            f"p {probe.p_value:.3f}" + marks.get(id(probe), "")
            for probe in self.probes
        ]
        examples = f"{self.examples:,} {self.unit}, {self.classes} classes, the most frequent {self.majority:.3f}"
        return "\n".join([examples, *lines])

    def to_dataframe(self) -> Any:
        """One row for each probe; `best` and `cheapest` mark the two."""
        frame = import_optional("pandas", "pandas").DataFrame([dataclasses.asdict(probe) for probe in self.probes])
        frame["best"] = [probe is self.best for probe in self.probes]
        frame["cheapest"] = [probe is self.cheapest for probe in self.probes]
        return frame

    def plot(self) -> Any:
        """The accuracies with their intervals; returns the matplotlib figure."""
        figure = new_figure(
            1.9 + 0.3 * len(self.probes),
            f"Which layer solves the task: linear probes on {self.examples:,} {self.unit}, {self.classes} classes",
        )
        axis = figure.subplots()
        for place, probe in enumerate(self.probes):
            colour = COLOURS[1] if probe is self.best else COLOURS[2] if probe is self.cheapest else COLOURS[0]
            marker = "D" if probe is self.best else "s" if probe is self.cheapest else "o"
            # Hollow where it is significantly below the best.
            inside = colour if probe.p_value >= SIGNIFICANT else "white"
            error = [[max(probe.accuracy - probe.low, 0)], [max(probe.high - probe.accuracy, 0)]]
            axis.errorbar(probe.accuracy, place, xerr=error, fmt=marker, color=colour, mfc=inside, capsize=3)
        axis.plot([], [], "o", color=COLOURS[0], label="not significantly below the best")
        axis.plot([], [], "o", color=COLOURS[0], mfc="white", label="significantly below it (p < 0.05)")
        axis.axvline(self.majority, color="black", linestyle=":", label="most frequent label")
        axis.plot([], [], "D", color=COLOURS[1], label=f"best: {self.best.name}")
        if self.cheapest is not self.best:
            axis.plot([], [], "s", color=COLOURS[2], label=f"cheapest: {self.cheapest.name}")
        axis.set_yticks(range(len(self.probes)), [probe.name for probe in self.probes])
        axis.set_ylim(len(self.probes) - 0.5, -0.5)
        axis.set_xlabel("accuracy in cross-validation, with 95 % confidence interval")
        axis.grid(axis="x", alpha=0.3)
        figure.legend(loc="outside lower center", ncols=2, fontsize=9)
        return figure


def probe_layers(
    encoder: Any,
    preprocessor: Any,
    texts: Any,
    labels: Iterable[Any],
    layers: int | str | Iterable[int] = "all",
    combinations: Sequence[tuple[str, int | str | Iterable[int]]] | None = None,
    pooling: str | SequencePooling = "mean",
    folds: int = 5,
    seed: int = 0,
) -> ProbeTable:
    r"""Trains a linear probe on each layer and each combination of layers, to see which one knows the labels.

    The encoder runs once on each text; the vectors of all layers are in memory at once. A probe is scikit-learn's
    `StandardScaler` and `LogisticRegression`, and its accuracy the share p of right predictions for n examples in
    k-fold cross-validation, stratified by label. No text is in the training and the test part at once, its words
    neither.

    The interval is Wilson's (1927) for p and \(n' = n / (D \cdot (1 + k / (k - 1)))\) examples. D is the design effect:
    the variance of p between texts over \(p (1 - p) / n\), at least 1, for words of one text are right or wrong
    together. The other factor is the correction of Nadeau and Bengio (2003) for training sets that overlap. It is
    cautious: it covers the expected accuracy of the probe in 98 % or more of simulated tasks (docs/choosing-layers.md).

    All probes see the same folds, and so each is compared with the best in pairs: of each text's difference, right
    predictions of the best less right ones of the other, the sign is as likely + as - if both are equally good. The
    p-value is the probability, over all signs, of a sum at least as large as the one found (a one-sided exact sign-flip
    test; with one label for each text it is McNemar's exact test). The best is the best of several on these very
    texts, so that it is more often ahead by chance than the p-value says: it errs on the side of more layers.

    Args:
        encoder, preprocessor: as in `layer_differences`.
        texts: as in `layer_differences`; for labels of words an iterable of lists of words.
        labels: for each text its label, as str or int; or a list of labels, one for each of its words. Words that are
            cut off are left out.
        layers: the layers to probe one by one.
        combinations: pairs of a mode (`"concat"`, `"sum"`, `"mean"`, `"max"`, `"last"`) and the layers to combine. The
            default is the means of all, of the last four and of the first and last, and maximum and concatenation of
            the last four. (A sum gives the same probe as the mean.)
        pooling: how the vector of a text is made. That of a word is the mean of its pieces.
        folds: the k above.
        seed: of the division into folds.

    Returns:
        A `ProbeTable`.

    Raises:
        ImportError: without scikit-learn.
        TypeError, ValueError: for what is none of the above, and for fewer than two different labels.

    Example:

    ```python
    table = kbl.analysis.probe_layers(encoder, preprocessor, texts, labels, layers="all+embeddings")
    table.best.name, table.cheapest.name, table.to_dataframe()
    ```
    """
    import_optional("sklearn", "scikit-learn")
    numbers = list(dict.fromkeys(chosen_layers(encoder, layers)))
    combined = _combinations(encoder, combinations)
    labels, for_words = _class_labels(labels, count_texts(texts))
    _check_folds(folds, seed, len(labels))
    wanted = Wanted(
        words=for_words,
        pooling=None if for_words else make_pooling(pooling),
        combinations=[(LayerCombination(mode, dtype="float32"), chosen) for mode, chosen in combined],
    )
    parts: list[list[np.ndarray]] = []
    groups: list[np.ndarray] = []
    places: list[np.ndarray] = []
    count = 0
    for batch in run_batches(encoder, preprocessor, texts, numbers, wanted):
        if for_words:
            _check_word_labels(batch, labels)
        parts.append(batch.states.words if for_words else batch.states.vectors)
        groups.append(batch.numbers[batch.word_rows] if for_words else batch.numbers)
        places.append(batch.word_numbers if for_words else np.zeros(len(batch.texts), int))
        count += len(batch.texts)
    check_label_count(labels, count)
    group, place = np.concatenate(groups), np.concatenate(places)
    # In the order of the texts, so that the folds do not depend on how they were batched.
    order = np.lexsort((place, group))
    group, place = group[order], place[order]
    values = np.array([labels[text][word] for text, word in zip(group, place, strict=True)] if for_words else labels)
    # Words that are cut off are not among them.
    _check_classes(values.tolist())
    classes, targets = np.unique(values, return_inverse=True)
    names: list[tuple[str, list[int], str | None]]
    names = [("embeddings" if number == 0 else f"layer {number}", [number], None) for number in numbers]
    names += [(combination_name(mode, chosen), chosen, mode) for mode, chosen in combined]
    group = np.unique(group, return_inverse=True)[1]
    _check_folds(folds, seed, min(int(group.max()) + 1, int(np.bincount(targets).max())), "the most frequent label")
    probes, all_right = [], []
    with progress_bar(len(names), "probe") as bar:
        for index, (name, chosen, mode) in enumerate(names):
            features = np.concatenate([part[index] for part in parts])[order]
            right = cross_validate(features, targets, group, folds, seed)
            accuracy, low, high = interval(right, group, folds)
            probes.append(Probe(name, chosen, mode, accuracy, low, high, max(chosen), features.shape[1], 1.0))
            all_right.append(right)
            bar.update(1)
    best = all_right[probes.index(_best(probes))]
    for probe, right in zip(probes, all_right, strict=True):
        probe.p_value = compare(best, right, group)
    return ProbeTable(
        probes=probes,
        examples=len(targets),
        unit="words" if for_words else "texts",
        classes=len(classes),
        majority=float(np.bincount(targets).max() / len(targets)),
    )


def _best(probes: list[Probe]) -> Probe:
    return min(probes, key=lambda probe: (-probe.accuracy, probe.depth, probe.features))


def cross_validate(
    features: np.ndarray, targets: np.ndarray, groups: np.ndarray, folds: int = 5, seed: int = 0
) -> np.ndarray:
    """Returns which predictions of a linear probe are right in cross-validation, `[n]` of 0 and 1.

    Args:
        features: `[n, features]`.
        targets: int `[n]`, the classes from 0.
        groups: int `[n]`, the text of each example, from 0, which is in one fold as a whole.
        folds: how many.
        seed: of the division.
    """
    linear_model = import_optional("sklearn.linear_model", "scikit-learn")
    model_selection = import_optional("sklearn.model_selection", "scikit-learn")
    pipeline = import_optional("sklearn.pipeline", "scikit-learn")
    preprocessing = import_optional("sklearn.preprocessing", "scikit-learn")
    if groups.max() + 1 == len(groups):
        splits = model_selection.StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, targets)
    else:
        divided = model_selection.StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        splits = divided.split(features, targets, groups)
    right = np.zeros(len(targets))
    # One thread: for matrices so small the others cost more than they bring.
    with import_optional("threadpoolctl", "scikit-learn").threadpool_limits(1):
        for training, test in splits:
            if len(np.unique(targets[training])) == 1:
                # All that can be learned where one part has all of a rare label.
                right[test] = targets[test] == targets[training[0]]
                continue
            model = linear_model.LogisticRegression(max_iter=1000)
            probe = pipeline.make_pipeline(preprocessing.StandardScaler(), model)
            probe.fit(features[training], targets[training])
            right[test] = probe.predict(features[test]) == targets[test]
    return right


def compare(best: np.ndarray, other: np.ndarray, groups: np.ndarray) -> float:
    """The p-value that `probe_layers` describes, of two probes' right predictions (0 and 1, `[n]`)."""
    differences = np.bincount(groups, best - other).round().astype(int)
    # Of each sum of signed differences, from the smallest one to the largest, how probable it is.
    chances = np.ones(1)
    for size in np.abs(differences[differences != 0]):
        longer = np.zeros(len(chances) + 2 * size)
        longer[: len(chances)] += chances / 2
        longer[2 * size :] += chances / 2
        chances = longer
    return float(min(1.0, chances[len(chances) // 2 + differences.sum() :].sum()))


def interval(right: np.ndarray, groups: np.ndarray, folds: int) -> tuple[float, float, float]:
    """The mean of `right` (0 and 1, `[n]`) and the interval that `probe_layers` describes."""
    p, n = float(right.mean()), len(right)
    sizes = np.bincount(groups)
    residuals = np.bincount(groups, right) - p * sizes
    between = len(sizes) / max(len(sizes) - 1, 1) * float(np.sum(residuals**2)) / n**2
    # Where all predictions are right or all wrong nothing can be seen of the variance: a text counts as one example.
    effect = max(1.0, between / (p * (1 - p) / n)) if 0 < p < 1 else n / len(sizes)
    size = n / (effect * (1 + folds / (folds - 1)))
    middle = (p + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z / (1 + Z**2 / size) * math.sqrt(p * (1 - p) / size + Z**2 / (4 * size**2))
    return p, max(middle - half, 0.0), min(middle + half, 1.0)


def _combinations(
    encoder: Any, combinations: Sequence[tuple[str, int | str | Iterable[int]]] | None
) -> list[tuple[str, list[int]]]:
    if combinations is None:
        last = f"last{min(4, encoder.num_layers)}"
        combinations = [("mean", "all"), ("mean", last), ("mean", "first_last"), ("max", last), ("concat", last)]
        combinations = combinations if encoder.num_layers > 1 else []
    is_list = isinstance(combinations, (list, tuple))
    for one in combinations if is_list else [combinations]:
        if isinstance(one, tuple) and len(one) == 2 and one[0] in UNLEARNED_MODES:
            continue
        raise ValueError(
            f"Expected `combinations` to be a list of pairs (mode, layers) with a mode of "
            f"{', '.join(UNLEARNED_MODES)}. Received: {one!r}. What the other modes learn is learned with a task: "
            "BertEncoder(..., combine='weighted')."
        )
    found: list[tuple[str, list[int]]] = []
    for mode, layers in combinations:
        one = (mode, select_layers(layers, encoder.num_layers, encoder.has_embeddings))
        if one not in found:
            found.append(one)
    return found


def _check_folds(folds: Any, seed: Any, most: int, of: str = "texts") -> None:
    if not is_int(folds, 2) or folds > most:
        raise ValueError(f"Expected `folds` from 2 to the number of {of}, {most}. Received: folds={folds!r}.")
    if not is_int(seed, 0) or seed >= 2**32:
        raise ValueError(f"Expected `seed` to be an int from 0 to 2 ** 32 - 1. Received: seed={seed!r}.")


def _class_labels(labels: Any, count: int | None) -> tuple[list[Any], bool]:
    """Labels in any form -> a list, for each text a label or the list of those of its words; whether they are these."""
    labels = list_labels(labels)
    for_words = bool(labels) and isinstance(labels[0], (list, tuple))
    if for_words:
        check_label_count(labels, count)
        named = [(f"labels[{number}]", row) for number, row in enumerate(labels)]
        labels = [check_labels(list_labels(row, "word", name), None, "word", name) for name, row in named]
        _check_classes(check_labels([label for row in labels for label in row], None, "word"))
    else:
        _check_classes(check_labels(labels, count))
    return labels, for_words


def _check_classes(labels: Any) -> None:
    if len(classes := set(labels)) < 2:
        raise ValueError(f"Expected at least two different labels. Received: labels that are all {list(classes)}.")


def _check_word_labels(batch: Batch, labels: list[Any]) -> None:
    for number, text in zip(batch.numbers, batch.texts, strict=True):
        if not isinstance(text, list):
            raise TypeError(
                "Expected one label for each text, or texts that are lists of words, with a label for each word. "
                f"Received: labels[0]={labels[0]!r}, which is several, for a text that is not split into words. Where "
                "several labels can hold of one text, ask for one of them at a time: [row[0] for row in labels], then "
                "row[1] and so on."
            )
        if number < len(labels) and len(labels[number]) != len(text):
            raise ValueError(
                f"Expected a label for each word. Received: {len(labels[number])} labels for texts[{number}], which "
                f"has {len(text)} words."
            )
