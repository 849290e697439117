import json
import os
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_bert_layers.atomic_directory import atomic_directory
from keras_bert_layers.encoders.encoder_contract import EncoderContract
from keras_bert_layers.local_path import local_path
from keras_bert_layers.serving.card import CARD, loss_against, make_card
from keras_bert_layers.serving.check import check_as
from keras_bert_layers.serving.preprocessor_fits_encoder import check_preprocessor_fits_encoder
from keras_bert_layers.serving.servable_signature import ServableSignature, default_length_buckets
from keras_bert_layers.serving.signatures import ServedModel
from keras_bert_layers.serving.stored_weights import StoredWeights
from keras_bert_layers.serving.warmup import prediction_log_class, write_batching_parameters, write_warmup
from keras_bert_layers.text.text_preprocessor import TextPreprocessor
from keras_bert_layers.token_inputs import HUGGINGFACE_NAMES, TFHUB_NAMES

WARMUP = pathlib.Path("assets.extra", "tf_serving_warmup_requests")
BATCHING = "batching_params.pbtxt"
# The first tells an export of this package from other SavedModels.
FILES = (CARD, "saved_model.pb", "fingerprint.pb", "variables/variables.*", "assets/*", WARMUP.as_posix(), BATCHING)
INPUTS = ("text", "pair", "words")


def export_saved_model(
    model: keras.Model,
    directory: str | os.PathLike[str],
    preprocessor: TextPreprocessor | keras.Model | None = None,
    overwrite: bool = False,
    inputs: str | None = None,
    signatures: Sequence[str] = ("serving_default",),
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
    for pairs, whatever the model calls them; other inputs keep their names, but that TensorFlow takes only those of
    Python's arguments ("my price" becomes `my_price`, with a warning). An output, a tensor of strings too, is named after its key where the
    model's outputs, or those of the encoder that it comes from, are a dict, else after its layer. The K tensors of a
    list are numbered, as `encoder_outputs_0` to `encoder_outputs_K-1`. Half precision leaves as float32.

    Other signatures, each a graph of its own over the same weights:

    | name | takes | gives |
    |---|---|---|
    | `embed` | texts | `embedding` `[batch, hidden]`: what the model's `SequencePooling` makes; without one, or with several, the mean of the token states |
    | `tokens` | texts | `token_states` `[batch, sequence, hidden]`, `mask`, `offsets` (in characters, unless the preprocessor says bytes); of pairs `input_type_ids` too, of words `word_ids` |
    | `layers` | texts | `layers` `[batch, K, sequence, hidden]`, the encoder's selected layers, and `mask` |
    | `words` | texts | `word_states` `[batch, words, hidden]` and `word_mask`; of pairs both with `_a` and `_b` |
    | `ids` | what the preprocessor makes | the model's outputs |
    | `tokenize` | texts | what the preprocessor makes |

    Token states are `encoder_outputs`; of several layers that are not combined, their mean. Words are pooled as the
    model's `WordPooling` does, or by their mean.

    The vocabulary is inside the graph and each weight is stored once; what no signature needs (layers above the highest
    in use, an unused pooler) is neither stored nor computed, but in wrapped TF Hub encoders, which are stored whole.
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
        signatures: names of the table, and `serving_default`, which is there in any case.
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
    export_saved_model(model, "serving/sentiment/1", signatures=["embed"])
    ```
    """  # noqa: E501
    local_path(directory, "directory")
    _check_functional("model", model)
    if isinstance(signatures, str) or not all(isinstance(name, str) for name in _values("signatures", signatures)):
        raise TypeError(
            f"Expected `signatures` to be a list of names. Received: signatures={signatures!r}. Put names into a list, "
            'as in ["embed"].'
        )
    if target not in ("cpu", "gpu"):
        raise ValueError(f"Expected `target` to be cpu or gpu. Received: target={target!r}.")
    batch_sizes = _ascending("batch_sizes", batch_sizes)
    if warmup:
        # To fail now, not after minutes.
        prediction_log_class()
    output_names = _output_names(model)
    if preprocessor is not None:
        model = _join(preprocessor, model, inputs)
    elif inputs is not None:
        raise ValueError(
            f"`inputs` says what `preprocessor` takes. Received: inputs={inputs!r} without a preprocessor. A model on "
            "texts says it by its own keras.Input tensors."
        )
    served = ServedModel(model, output_names)
    _warn_of_names(served)
    check_preprocessor_fits_encoder(served)
    chosen = [served.signature(name) for name in dict.fromkeys(["serving_default", *signatures])]
    lengths = _length_buckets(served, target, length_buckets)
    weights = StoredWeights(model, dtype, quantize, target)
    with atomic_directory(directory, overwrite, FILES) as work:
        servables = {
            signature.name: ServableSignature(
                signature, target, lengths, batch_sizes, weights.substituted, weights.gather_before_cast
            )
            for signature in chosen
        }
        module = tf.Module()
        # Not the model itself: Keras and TensorFlow would each store its weights.
        variables = [variable for servable in servables.values() for variable in servable.variables]
        module.weights = list({id(variable): variable for variable in variables}.values())
        handles = {id(handle) for servable in servables.values() for handle in servable.resources}
        module.resources = _resources(model, handles)
        functions = {name: servable.function for name, servable in servables.items()}
        module.functions = functions
        # Without the gradients: nobody trains an export.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, os.fspath(work), signatures=functions, options=options)
        _remove_debug_names(work / "saved_model.pb")
        loss = None
        if dtype is not None or quantize is not None:
            exact = StoredWeights(model)
            floats = {
                name: ServableSignature(
                    served.signature(name), "cpu", None, batch_sizes, exact.substituted, exact.gather_before_cast
                )
                for name in servables
            }
            loss = loss_against(floats, servables)
        card = make_card(model, servables, work, target, dtype, quantize, lengths, batch_sizes, loss)
        (work / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        write_batching_parameters(work / BATCHING, batch_sizes)
        if warmup:
            specs = {name: servable.signature.inputs for name, servable in servables.items()}
            write_warmup(work / WARMUP, specs, lengths or [served.sequence_length or 8], batch_sizes)
        if check:
            _refuse_what_servers_refuse(work, os.path.basename(os.path.abspath(directory)))


def _warn_of_names(served: ServedModel) -> None:
    changed = [
        f"{tensor.name!r} leaves the export as {name!r}"
        for name, tensor in served.inputs.items()
        if name not in (*served.text_names, tensor.name)
    ]
    if changed:
        warnings.warn(
            f"TensorFlow takes for inputs only names that Python's arguments can have: {', '.join(changed)}.",
            stacklevel=3,
        )


def _check_functional(name: str, model: Any) -> None:
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise ValueError(
            f"Expected `{name}` to be a functional model, keras.Model(inputs, outputs). "
            f"Received: {name} of class {type(model).__name__}, without inputs and outputs of its own. "
            "Call it on keras.Input(...) tensors and make a functional model of the result."
        )


def _resources(model: keras.Model, handles: set[int]) -> list[Any]:
    """What must be saved with the graph besides the weights: tables, vocabulary files, models inside a layer."""
    resources = []
    for layer in model._flatten_layers(include_self=False):
        if not layer.variables:
            resources.append(layer)
        elif handles:
            # Tracked whole it would have its weights stored once more.
            parts = tf.train.TrackableView(layer).descendants()
            resources += [part for part in parts if id(getattr(part, "resource_handle", None)) in handles]
    return resources


def _remove_debug_names(path: pathlib.Path) -> None:
    """Removes an attribute that TensorFlow 2.15 added and that servers before it refuse, whatever its value."""
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta_graph in saved_model.meta_graphs:
        graph = meta_graph.graph_def
        for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
            for node in nodes:
                if node.op == "VarHandleOp":
                    node.attr.pop("debug_name", None)
    path.write_bytes(saved_model.SerializeToString(deterministic=True))


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


def _values(name: str, values: Any) -> list[Any]:
    try:
        return list(values)
    except TypeError:
        raise TypeError(f"Expected `{name}` to be a list. Received: {name}={values!r}.") from None


def _ascending(name: str, values: Sequence[int]) -> list[int]:
    numbers = _values(name, values)
    is_number = [isinstance(number, (int, np.integer)) and not isinstance(number, bool) for number in numbers]
    if not numbers or not all(is_number) or numbers[0] < 1 or numbers != sorted(set(numbers)):
        raise ValueError(
            f"Expected `{name}` to be positive ints in ascending order. Received: {name}={values!r}. "
            "Give them as in [1, 8, 32]."
        )
    return [int(number) for number in numbers]


def _length_buckets(served: ServedModel, target: str, length_buckets: Sequence[int] | None) -> list[int] | None:
    if target == "cpu":
        if length_buckets is not None:
            raise ValueError(
                f'`length_buckets` is for target="gpu". Received: length_buckets={length_buckets!r}, target="cpu", '
                "where the encoder computes no padding."
            )
        return None
    longest = served.sequence_length
    if length_buckets is None:
        if longest is None:
            raise ValueError(
                "export_saved_model cannot choose `length_buckets` for a model on ids of any length. "
                "Received: length_buckets=None. Give them, as (32, 64, 128), or a preprocessor."
            )
        return default_length_buckets(longest)
    lengths = _ascending("length_buckets", length_buckets)
    if longest is not None and lengths[-1] != longest:
        raise ValueError(
            f"Expected the last of `length_buckets` to be {longest}, the sequence length. "
            f"Received: length_buckets={lengths}."
        )
    return lengths


def _join(preprocessor: TextPreprocessor | keras.Model, model: keras.Model, inputs: str | None) -> keras.Model:
    """Puts a preprocessor before a model on ids; inputs of the model that it does not make stay inputs."""
    texts: Any
    if inputs not in (None, *INPUTS):
        raise ValueError(f"Expected `inputs` to be one of {', '.join(INPUTS)}. Received: inputs={inputs!r}.")
    if isinstance(preprocessor, TextPreprocessor):
        inputs = preprocessor.export_inputs if inputs is None else inputs
        names = ["text_a", "text_b"] if inputs == "pair" else ["text"]
        shape = (None,) if inputs == "words" else ()
        texts = [keras.Input(shape=shape, dtype="string", name=name) for name in names]
        made = preprocessor(tuple(texts) if inputs == "pair" else texts[0])
    else:
        _check_functional("preprocessor", preprocessor)
        texts, made = preprocessor.inputs, preprocessor.output
        if inputs is not None or not isinstance(made, dict):
            raise ValueError(
                "Expected `preprocessor` to be a BertPreprocessor, or a functional model that gives its dict and says "
                f"by its own keras.Input tensors what it takes. Received: preprocessor of class "
                f"{type(preprocessor).__name__}, whose output is of type {type(made).__name__}, and inputs={inputs!r}. "
                "Give the layer itself, or leave out `inputs`."
            )
    others, values = [], []
    for tensor in model.inputs:
        name = tensor.name
        key = TFHUB_NAMES[HUGGINGFACE_NAMES.index(name)] if name in HUGGINGFACE_NAMES else name
        if key in made:
            value = made[key]
            if None not in (value.shape[1], tensor.shape[1]) and value.shape[1] != tensor.shape[1]:
                raise ValueError(
                    f"The model expects {name!r} of {tensor.shape[1]} tokens, and the preprocessor makes "
                    f"{value.shape[1]}. Received: sequence_length={value.shape[1]}. "
                    f"Give a preprocessor with sequence_length={tensor.shape[1]}, or make the model on "
                    "keras.Input((None,), dtype='int32')."
                )
            values.append(value if value.dtype == tensor.dtype else keras.ops.cast(value, tensor.dtype))
        else:
            others.append(keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name))
            values.append(others[-1])
    if len(others) == len(values):
        raise ValueError(
            f"With `preprocessor`, export_saved_model expects a model on ids whose inputs are named {TFHUB_NAMES} or "
            f"{HUGGINGFACE_NAMES}. Received: a model with the inputs {[tensor.name for tensor in model.inputs]}. "
            "Name the keras.Input tensors so; a model that takes texts needs no `preprocessor`."
        )
    outputs = model(keras.tree.pack_sequence_as(model.input, values))
    return keras.Model([*texts, *others], outputs)


def _output_names(model: keras.Model) -> list[str]:
    """One name for each of the model's outputs, in their flat order."""
    names = []
    for path, tensor in keras.tree.flatten_with_path(model.output):
        operation = tensor._keras_history.operation
        if path and isinstance(path[0], str):
            names.append("_".join(map(str, path)))
        elif isinstance(operation, EncoderContract):
            # An encoder names its tensors by their keys.
            names.append(tensor.name)
        else:
            names.append(operation.name)
    return [f"{name}_{names[:i].count(name)}" if names.count(name) > 1 else name for i, name in enumerate(names)]
