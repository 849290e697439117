import dataclasses
import json
import os
import pathlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_layers.atomic_directory import atomic_directory
from keras_bert_layers.keras_compatibility import layers_inside
from keras_bert_layers.local_path import local_path
from keras_bert_layers.serving.card import loss_against, make_card
from keras_bert_layers.serving.check import check_as
from keras_bert_layers.serving.export_files import BATCHING, CARD, WARMUP, WRITTEN
from keras_bert_layers.serving.export_options import ExportOptions
from keras_bert_layers.serving.model_steps import check_functional
from keras_bert_layers.serving.preprocessor_fits_encoder import check_preprocessor_fits_encoder
from keras_bert_layers.serving.saved_graph import nodes, read_saved_model, write_saved_model
from keras_bert_layers.serving.servable_signature import ServableSignature
from keras_bert_layers.serving.served_model import ServedModel
from keras_bert_layers.serving.signature import Signature
from keras_bert_layers.serving.signatures import SIGNATURES
from keras_bert_layers.serving.stored_weights import StoredWeights
from keras_bert_layers.serving.warmup import (
    check_warmup_size,
    prediction_log_class,
    write_batching_parameters,
    write_warmup,
)
from keras_bert_layers.text.bucket_by_length import default_lengths
from keras_bert_layers.text.text_preprocessor import TextPreprocessor

DEFAULT = "serving_default"


def export_saved_model(
    model: keras.Model,
    directory: str | os.PathLike[str],
    preprocessor: TextPreprocessor | keras.Model | None = None,
    overwrite: bool = False,
    inputs: str | None = None,
    signatures: Iterable[str] | Mapping[str, str | keras.Model] = (),
    target: str = "cpu",
    dtype: str | None = None,
    quantize: str | None = None,
    length_buckets: Sequence[int] | None = None,
    batch_sizes: Sequence[int] = (1, 8, 32),
    warmup: bool = True,
    check: bool = True,
) -> None:
    """Writes a model as one SavedModel for TensorFlow Serving: text -> the model's outputs.

    The signature `serving_default` has the input `text`, or `text_a` and `text_b` in the order of the model's inputs
    for pairs, whatever the model calls them. Other inputs keep their names as far as TensorFlow takes them, which must be
    names of Python arguments ("my price" becomes `my_price`, with a warning). An output, which may be strings, is named
    after its key where the model's outputs, or those of the encoder that it comes from, are a dict, else after its layer.
    The K tensors of a list are numbered, as `encoder_outputs_0` to `encoder_outputs_K-1`. 16-bit outputs become float32.

    Other signatures, each a graph of its own over the same weights:

    | name | takes | gives |
    |---|---|---|
    | `embed` | texts | `embedding` `[batch, hidden]`: the model's output of that name; without one, what the model's `SequencePooling` makes; without it, or with several, the mean of the token states |
    | `tokens` | texts | `token_states` `[batch, sequence, hidden]`, `mask`, `offsets` (in characters, unless the preprocessor says bytes); of pairs `input_type_ids` too, of words `word_ids` |
    | `layers` | texts | `layers` `[batch, K, sequence, hidden]`, the encoder's selected layers, and `mask` |
    | `words` | texts | `word_states` `[batch, words, hidden]` and `word_mask`; of pairs both with `_a` and `_b` |
    | `ids` | what the preprocessor makes | the model's outputs |
    | `tokenize` | texts | what the preprocessor makes |

    Token states are `encoder_outputs`; of several layers that are not combined, their mean. Words are pooled as the
    model's `WordPooling` does, or by their mean. Any other signature is a functional model on the same layers.

    The vocabulary is inside the graph and each weight is stored once; what no signature needs (layers above the highest
    in use, an unused pooler) is neither stored nor computed. Only wrapped TF Hub encoders are stored whole.
    (Keras's own `model.export` gives the same numbers and stores each weight twice: keras issue 23553.) The SavedModel
    is written beside `directory` and moved into place: a server that watches the place sees all of it or nothing.

    Beside the graph lie `assets.extra/tf_serving_warmup_requests`, `batching_params.pbtxt` for the server's
    `--batching_parameters_file`, and the card `keras_bert_layers.json`: versions, encoders, tokenizer, signatures,
    operations, and for each signature an example with its outputs.

    Args:
        model: a functional model on texts or on ids.
        directory: where to write, on this machine. For TensorFlow Serving its last part is the version, as in
            `"serving/sentiment/1"`. Of a link, what it points to is written.
        preprocessor: for a model on ids that is to take texts: the preprocessor that made the ids, or a functional
            model of it. Either family of key names will do.
        overwrite: whether to replace an export of this function that stands there. Anything else is kept.
        inputs: what the preprocessor is to take: `"text"`, `"pair"` or `"words"` (of texts that are split into words
            already); None is its own `export_inputs`. A functional model says so by its own inputs.
        signatures: names of the table; or a dict from the name of each signature to a functional model, which takes and
            gives what its own inputs and outputs say, or to a name of the table. `serving_default` is there in any case.
        target: `"cpu"`; or `"gpu"`, where strings stay on the host and the rest is compiled by XLA for each length and
            batch size. A server must then be started with `--xla_gpu_compilation_enabled`. Per-token outputs are zero
            past the bucket of the longest row, and a batch is at most the last of `batch_sizes`.
        dtype: `"bfloat16"` or `"float16"`: the encoder's weights are stored, and it computes, in 16 bits; outputs are
            float32. None leaves all as it is.
        quantize: `"int8"` stores matrices in 8 bits, with a scale for each column; it computes in float32.
        length_buckets: with `target="gpu"` the ascending lengths in tokens to compile for. The default is an eighth, a
            quarter, a half and the whole of the sequence length, each rounded up to a multiple of 8.
        batch_sizes: the ascending batch sizes that a server may form, and that `"gpu"` compiles for.
        warmup: whether to write warm-up requests, which needs tensorflow-serving-api.
        check: whether to read the result as the server would, with `keras_bert_layers.serving.check`. What the server
            would refuse is an error, and nothing is left behind; the rest is warned of.

    Raises:
        FileExistsError: if `directory` exists and `overwrite` is false, or it holds anything but an export.
        ImportError: with `warmup` and without tensorflow-serving-api.
        OSError: of the class that fits, where nothing can be written.
        TypeError: for arguments of another type.
        ValueError: if the model is not functional, the preprocessor does not make what it takes or has more tokens than
            the encoder, it cannot have a signature, or `check` finds what the server would refuse.

    Example:

    ```python
    probabilities = keras.Model(model.input, keras.layers.Softmax(name="probabilities")(model.output))
    export_saved_model(model, "serving/sentiment/1", signatures={"embed": "embed", "probabilities": probabilities})
    ```
    """  # noqa: E501
    local_path(directory, "directory")
    check_functional("model", model)
    sources = _sources(model, signatures)
    options = ExportOptions(target, dtype, quantize, length_buckets, batch_sizes)
    if warmup:
        # To fail now, not after minutes.
        prediction_log_class()
    if preprocessor is None and inputs is not None:
        raise ValueError(
            f"`inputs` says what `preprocessor` takes. Received: inputs={inputs!r} without a preprocessor. A model on "
            "texts says it by its own keras.Input tensors."
        )
    served = {
        name: ServedModel(source, preprocessor, inputs)
        for name, source in sources.items()
        if not isinstance(source, str)
    }
    for one in served.values():
        _warn_of_names(one)
        check_preprocessor_fits_encoder(one)
    chosen = {
        name: SIGNATURES[DEFAULT](served[name]) if name in served else SIGNATURES[source](served[DEFAULT])
        for name, source in sources.items()
    }
    options = _with_length_buckets(options, served.values())
    lengths = options.length_buckets or [served[DEFAULT].sequence_length or 8]
    if warmup:
        check_warmup_size(len(chosen), len(lengths), len(options.batch_sizes))
    models = [one.model for one in served.values()]
    with atomic_directory(directory, overwrite, WRITTEN) as work:
        servables = _servables(chosen, models, options)
        _save(work, models, servables)
        loss = None
        if not options.is_exact:
            exact = dataclasses.replace(options, target="cpu", dtype=None, quantize=None, length_buckets=None)
            loss = loss_against(_servables(chosen, models, exact), servables)
        card = make_card(models, servables, work, options, loss)
        (work / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        write_batching_parameters(work / BATCHING, options.batch_sizes)
        if warmup:
            specs = {name: servable.inputs for name, servable in servables.items()}
            write_warmup(work / WARMUP, specs, lengths, options.batch_sizes)
        if check:
            _refuse_what_servers_refuse(work, os.path.basename(os.path.abspath(directory)))


def _sources(model: keras.Model, signatures: Any) -> dict[str, Any]:
    """What each signature is made of: a functional model, or one of the names of `SIGNATURES`."""
    is_list = isinstance(signatures, Iterable) and not isinstance(signatures, str)
    names = list(signatures) if is_list else []
    if not is_list or not all(isinstance(name, str) for name in names):
        raise TypeError(
            "Expected `signatures` to be a list of names, or a dict of names and functional models. "
            f'Received: signatures={signatures!r}. Put names into a list, as in ["embed"].'
        )
    sources = {name: signatures[name] if isinstance(signatures, Mapping) else name for name in names}
    for name, source in sources.items():
        if not isinstance(source, str):
            check_functional(f"signatures[{name!r}]", source)
        elif source not in SIGNATURES:
            raise ValueError(
                f"Expected `signatures` to be among {', '.join(SIGNATURES)}. Received: signatures with {source!r}. "
                'Give a functional model for any other, as in signatures={"probabilities": keras.Model(...)}.'
            )
    if sources.pop(DEFAULT, DEFAULT) != DEFAULT:
        raise ValueError(
            f"Expected `signatures` to leave {DEFAULT} to `model`. Received: signatures[{DEFAULT!r}]="
            f"{signatures[DEFAULT]!r}. Give the signature another name."
        )
    return {DEFAULT: model, **sources}


def _with_length_buckets(options: ExportOptions, served: Iterable[ServedModel]) -> ExportOptions:
    """The options with lengths that hold every row, where the target needs them."""
    if options.target == "cpu":
        return options
    longest = max((one.sequence_length for one in served if one.sequence_length), default=None)
    if options.length_buckets is None:
        if longest is None:
            raise ValueError(
                "export_saved_model cannot choose `length_buckets` for a model on ids of any length. "
                "Received: length_buckets=None. Give them, as (32, 64, 128), or a preprocessor."
            )
        return dataclasses.replace(options, length_buckets=default_lengths(longest))
    if longest is not None and options.length_buckets[-1] != longest:
        raise ValueError(
            f"Expected the last of `length_buckets` to be {longest}, the sequence length. "
            f"Received: length_buckets={list(options.length_buckets)}."
        )
    return options


def _servables(
    chosen: Mapping[str, Signature], models: Sequence[keras.Model], options: ExportOptions
) -> dict[str, ServableSignature]:
    weights = StoredWeights(models, options)
    return {name: ServableSignature(signature, options, weights) for name, signature in chosen.items()}


def _save(directory: pathlib.Path, models: Sequence[keras.Model], servables: Mapping[str, ServableSignature]) -> None:
    module = tf.Module()
    # Not the model itself: Keras and TensorFlow would each store its weights.
    variables = [variable for servable in servables.values() for variable in servable.variables]
    module.weights = list({id(variable): variable for variable in variables}.values())
    module.resources = _resources(models, {id(handle) for one in servables.values() for handle in one.resources})
    module.functions = {name: servable.function for name, servable in servables.items()}
    # Without the gradients: nobody trains an export.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, os.fspath(directory), signatures=dict(module.functions), options=options)
    _remove_debug_names(directory)


def _resources(models: Sequence[keras.Model], handles: set[int]) -> list[Any]:
    """What must be saved with the graph besides the weights: tables, vocabulary files, models inside a layer."""
    resources = []
    for layer in {id(layer): layer for model in models for layer in layers_inside(model)}.values():
        if not layer.variables:
            resources.append(layer)
        elif handles:
            # Tracked whole it would have its weights stored once more.
            parts = tf.train.TrackableView(layer).descendants()
            resources += [part for part in parts if id(getattr(part, "resource_handle", None)) in handles]
    return resources


def _remove_debug_names(directory: pathlib.Path) -> None:
    """Removes an attribute that TensorFlow 2.15 added and that servers before it refuse, whatever its value."""
    saved_model = read_saved_model(directory)
    for meta_graph in saved_model.meta_graphs:
        for _, node in nodes(meta_graph.graph_def):
            if node.op == "VarHandleOp":
                node.attr.pop("debug_name", None)
    write_saved_model(directory, saved_model)


def _warn_of_names(served: ServedModel) -> None:
    changed = [
        f"{tensor.name!r} leaves the export as {name!r}"
        for name, tensor in served.inputs.items()
        if name not in (*served.text_inputs, tensor.name)
    ]
    if changed:
        warnings.warn(
            f"TensorFlow takes for inputs only names that Python's arguments can have: {', '.join(changed)}.",
            stacklevel=3,
        )


def _refuse_what_servers_refuse(directory: pathlib.Path, version: str) -> None:
    findings = check_as(directory, version)
    errors = [str(finding) for finding in findings if finding.severity == "error"]
    if errors:
        raise ValueError(
            "TensorFlow Serving would not take this export, and nothing was written (check=False writes it all the "
            "same):\n" + "\n".join(errors)
        )
    for finding in findings:
        warnings.warn(str(finding).removeprefix("warning: "), stacklevel=3)
