import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_layers.analysis.arguments import chosen_layers, make_pooling
from keras_bert_layers.analysis.batches import run_batches
from keras_bert_layers.analysis.encoder_run import Wanted
from keras_bert_layers.analysis.labels import check_label_count, check_labels
from keras_bert_layers.analysis.texts import count_texts
from keras_bert_layers.atomic_directory import atomic_directory
from keras_bert_layers.layers.sequence_pooling import SequencePooling
from keras_bert_layers.local_path import local_path

_NAMES = ("tensors.tsv", "metadata.tsv", "projector_config.pbtxt", "events.out.tfevents.*")
_FILES = [f"layer_*/{name}" for name in _NAMES]


def write_projector(
    encoder: Any,
    preprocessor: Any,
    texts: Any,
    directory: str | os.PathLike[str],
    labels: Iterable[Any] | None = None,
    layers: int | str | Iterable[int] = "all",
    pooling: str | SequencePooling = "mean",
    overwrite: bool = False,
) -> pathlib.Path:
    """Writes the texts' vectors for TensorBoard's Embedding Projector, one run for each layer.

    `tensorboard --logdir directory` shows them under "Projector". Each run `layer_00`, `layer_01`, ... has
    `tensors.tsv` (a row for each text, in their order), `metadata.tsv` (the text, and its label) and
    `projector_config.pbtxt`. Memory does not grow with the texts.

    Args:
        encoder, preprocessor, texts, layers: as in `layer_differences`.
        directory: where to write.
        labels: a label for each text, as str or int; None for none.
        pooling: how the vector of a text is made.
        overwrite: whether to replace what an earlier call wrote there. Anything else is kept.

    Returns:
        The directory, as a path. Where anything fails, nothing is left there.

    Raises:
        FileExistsError: if `directory` exists and `overwrite` is false, or it is not of an earlier call.
        TypeError, ValueError: for what is none of the above, and where there are not as many labels as texts.

    Example:

    ```python
    kbl.analysis.write_projector(encoder, preprocessor, texts, "logs/projector", labels)
    ```
    """
    directory = local_path(directory, "directory")
    numbers = list(dict.fromkeys(chosen_layers(encoder, layers)))
    chosen = Wanted(pooling=make_pooling(pooling))
    labels = check_labels(labels, count_texts(texts))
    with atomic_directory(directory, overwrite, _FILES) as work:
        runs = [work / f"layer_{number:02d}" for number in numbers]
        for run, number in zip(runs, numbers, strict=True):
            run.mkdir(parents=True)
            # TensorBoard knows a run by its event file.
            tf.summary.create_file_writer(os.fspath(run)).close()
            (run / "projector_config.pbtxt").write_text(
                f'embeddings {{\n  tensor_name: "layer_{number:02d}"\n'
                '  tensor_path: "tensors.tsv"\n  metadata_path: "metadata.tsv"\n}\n',
                encoding="utf-8",
            )
            if labels is not None:
                # With one column only there is no line of names.
                (run / "metadata.tsv").write_text("text\tlabel\n", encoding="utf-8")
        found: dict[int, tuple[Any, np.ndarray]] = {}
        count = 0
        for batch in run_batches(encoder, preprocessor, texts, numbers, chosen):
            vectors = np.stack(batch.states.vectors, axis=1)
            found |= {int(n): (text, v) for n, text, v in zip(batch.numbers, batch.texts, vectors, strict=True)}
            if batch.ends_window:
                rows = [
                    "\t".join(map(_cell, [found[number][0], *(labels or ())[number : number + 1]])) + "\n"
                    for number in sorted(found)
                ]
                for place, run in enumerate(runs):
                    with (run / "metadata.tsv").open("a", encoding="utf-8", newline="\n") as file:
                        file.writelines(rows)
                    with (run / "tensors.tsv").open("a", encoding="utf-8", newline="\n") as file:
                        # Nine digits bring a float32 back to the last bit.
                        np.savetxt(file, [found[number][1][place] for number in sorted(found)], "%.9g", "\t")
                count += len(found)
                found = {}
        if labels is not None:
            check_label_count(labels, count)
    return directory


def _cell(value: Any) -> str:
    """A text, a pair or a label on one line without tabs."""
    if isinstance(value, (tuple, list)):
        value = (" | " if isinstance(value, tuple) else " ").join(value)
    return " ".join(str(value).split()) or "(empty)"
