"""`check`: one file per check, and the table of them."""

import os
import pathlib
from collections.abc import Callable

from keras_bert_layers.serving.check.batching import check_batching
from keras_bert_layers.serving.check.card import check_card
from keras_bert_layers.serving.check.export import Export
from keras_bert_layers.serving.check.files import check_files
from keras_bert_layers.serving.check.golden import check_golden
from keras_bert_layers.serving.check.operations import check_operations
from keras_bert_layers.serving.check.positions import check_positions
from keras_bert_layers.serving.check.response_size import check_response_size
from keras_bert_layers.serving.check.side_effects import check_side_effects
from keras_bert_layers.serving.check.signatures import check_signatures
from keras_bert_layers.serving.check.version import check_version
from keras_bert_layers.serving.check.vocabulary import check_vocabulary
from keras_bert_layers.serving.check.warmup import check_warmup
from keras_bert_layers.serving.check.weights import check_weights
from keras_bert_layers.serving.check.xla import check_xla
from keras_bert_layers.serving.finding import Finding
from keras_bert_layers.serving.server_operations import server_operations

# In this order; the last runs the graph, where none before it refused to.
CHECKS: tuple[Callable[[Export], None], ...] = (
    check_version,
    check_card,
    check_operations,
    check_side_effects,
    check_signatures,
    check_xla,
    check_files,
    check_weights,
    check_batching,
    check_response_size,
    check_vocabulary,
    check_positions,
    check_warmup,
    check_golden,
)


def check(directory: str | os.PathLike[str], server: str = "2.20.0", run: bool = True) -> list[Finding]:
    """Checks that TensorFlow Serving will take an export, and its clients what it answers.

    Against the operations that the server registers, the rules of its batching, its REST interface and its warm-up,
    gRPC's limit on a message, and what the export says of itself in `keras_bert_layers.json`: its golden example is
    run in a fresh process that has TensorFlow and tf.text alone. Any SavedModel will do; without the files that
    `export_saved_model` writes beside it, a warning says which checks were left out.

    A graph is a program, and the golden example runs it, with your rights. Before that it is refused, as an error,
    where an operation of it may touch files outside the export, the network, other devices or Python: of TensorFlow's
    operations with a state or a side effect only those of variables, tables in memory, control flow, random numbers
    and assertions pass. Nobody can tell beforehand what an operation computes, and for how long. `run=False` leaves the
    golden example out; run exports of people whom you do not trust in a container.

    Args:
        directory: the SavedModel, the directory whose name is the version.
        server: the version of TensorFlow Serving, 2.13 to 2.20.
        run: whether to run the golden example.

    Returns:
        The findings, errors first; none for an export that is sound. Each says what goes wrong and how to fix it.

    Raises:
        TypeError: for a directory that is not a path.
        ValueError: for a server whose operations are not known, and for a directory on another machine.

    Example:

    ```python
    for finding in kbl.serving.check("serving/sentiment/1", server="2.19.0"):
        print(finding)
    ```
    """
    if not isinstance(directory, (str, os.PathLike)):
        raise TypeError(f"Expected `directory` to be the path of a SavedModel. Received: directory={directory!r}.")
    if "://" in os.fspath(directory):
        raise ValueError(
            f"Expected `directory` to be on this machine. Received: directory={os.fspath(directory)!r}. Copy the "
            "export here, into a folder of the same name, and check the copy."
        )
    return check_as(directory, os.path.basename(os.path.abspath(directory)), server, run)


def check_as(
    directory: str | os.PathLike[str], version: str, server: str = "2.20.0", run: bool = True
) -> list[Finding]:
    """`check`, for an export that is still to be moved to the directory whose name is `version`."""
    server_operations(server)
    export = Export(pathlib.Path(directory), server, version, run)
    if export.read():
        for part in CHECKS:
            try:
                part(export)
            except Exception as error:
                # A check that fails must not hide what the others find.
                export.refuse(
                    part.__name__,
                    f"The check ended with {type(error).__name__}: {error}.",
                    "The export is damaged, or this is a fault of keras_bert_layers: please report it.",
                )
    return sorted(export.findings, key=lambda finding: finding.severity)
