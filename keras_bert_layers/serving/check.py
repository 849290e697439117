import hashlib
import json
import math
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow.core.framework import node_def_pb2, tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from keras_bert_layers.serving.finding import Finding
from keras_bert_layers.serving.fresh_run import fresh_run
from keras_bert_layers.serving.graph_vocabulary import graph_vocabulary
from keras_bert_layers.serving.server_operations import server_operations
from keras_bert_layers.serving.serving_messages import serving_api, serving_message
from keras_bert_layers.text.added_token_search import OTHER_PRIVATE_CHARACTER

CARD_FILE = "keras_bert_layers.json"
BATCHING_FILE = "batching_params.pbtxt"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"

# What the server and gRPC are built with.
MAX_WARMUP_RECORDS = 1000
MAX_RESPONSE_BYTES = 4 * 1024 * 1024
# What the server's JSON knows.
REST_DTYPES = {
    getattr(types_pb2, f"DT_{name}")
    for name in "FLOAT DOUBLE INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 BOOL STRING".split()
}
# Below it two weights may well be equal.
SMALLEST_WEIGHT = 16
# Functions hold copies of small constants.
SMALLEST_CONSTANT_BYTES = 65536
_PATH = re.compile(rb"(/[\w.@+ -]+){2,}|[A-Za-z]:\\[\w.@+ \\-]+")
# What BertTokenizer puts in place of a token that no text has.
_UNREACHABLE = re.compile(r"\[\[\d+\]\]")


def check(directory: str | os.PathLike[str], server: str = "2.20.0") -> list[Finding]:
    """Checks that TensorFlow Serving will take an export, and its clients what it answers.

    Against the operations that the server registers, the rules of its batching, its REST interface and its warm-up,
    gRPC's limit on a message, and what the export says of itself in `keras_bert_layers.json`: its golden example is
    run in a fresh process that has TensorFlow and tf.text alone. Any SavedModel will do; without the files that
    `export_saved_model` writes beside it, a warning says which checks were left out.

    Args:
        directory: the SavedModel, the directory whose name is the version.
        server: the version of TensorFlow Serving, 2.13 to 2.20.

    Returns:
        The findings, errors first; none for an export that is sound. Each says what breaks and how to mend it.

    Raises:
        ValueError: for a server whose operations are not known.

    Example:

    ```python
    for finding in kbl.serving.check("serving/sentiment/1", server="2.19.0"):
        print(finding)
    ```
    """
    server_operations(server)
    export = _Export(pathlib.Path(directory), server)
    if export.read():
        for part in _CHECKS:
            part(export)
    return sorted(export.findings, key=lambda finding: finding.severity)


class _Export:
    """What is read once and looked at by every check."""

    def __init__(self, directory: pathlib.Path, server: str):
        self.directory = directory
        self.server = server
        self.findings: list[Finding] = []
        self.card: dict[str, Any] = {}
        self.meta_graph = meta_graph_pb2.MetaGraphDef()

    def error(self, where: str, breaks: str, mend: str) -> None:
        self.findings.append(Finding("error", breaks, mend, where))

    def warning(self, where: str, breaks: str, mend: str) -> None:
        self.findings.append(Finding("warning", breaks, mend, where))

    def read(self) -> bool:
        """Reads graph and card; whether there is anything to check."""
        again = "Export the model again with `export_saved_model`."
        try:
            content = (self.directory / "saved_model.pb").read_bytes()
            saved_model = saved_model_pb2.SavedModel.FromString(content)
            self.meta_graph = next(g for g in saved_model.meta_graphs if "serve" in g.meta_info_def.tags)
        except OSError:
            versions = sorted(path.parent.name for path in self.directory.glob("*/saved_model.pb"))
            mend = f"Check a directory in it: {', '.join(versions)}." if versions else again
            self.error("saved_model.pb", "There is no such file, and the server finds no version to load.", mend)
            return False
        except DecodeError:
            self.error("saved_model.pb", "The file is broken, and the server cannot load it.", again)
            return False
        except StopIteration:
            self.error("saved_model.pb", "No graph has the tag 'serve', which the server loads.", again)
            return False
        if not self.signatures:
            self.error("saved_model.pb", "There are no signatures, and the server has nothing to run.", again)
        try:
            self.card = json.loads((self.directory / CARD_FILE).read_text(encoding="utf-8"))
        except OSError:
            self.warning(
                CARD_FILE,
                "There is no card: golden example, vocabulary and batch sizes were not checked.",
                "Export with `keras_bert_layers.export_saved_model`, which writes one.",
            )
        except ValueError:
            self.error(CARD_FILE, "The card is no JSON, so that nobody can tell what this export is.", again)
        if not isinstance(self.card, dict):
            self.error(CARD_FILE, f"The card is no JSON object but {type(self.card).__name__}.", again)
            self.card = {}
        if self.card and self.card.get("format") != 1:
            self.error(
                CARD_FILE,
                f"Its format is {self.card.get('format')!r}, and this version of keras_bert_layers reads 1: the export "
                "was not compared with it.",
                "Check it with the version that wrote it.",
            )
            self.card = {}
        return True

    @property
    def signatures(self) -> dict[str, meta_graph_pb2.SignatureDef]:
        # TensorFlow's own, which initialises, has no inputs to call it with.
        return {
            name: signature for name, signature in self.meta_graph.signature_def.items() if not name.startswith("__")
        }

    def nodes(self) -> Iterator[tuple[str, node_def_pb2.NodeDef]]:
        """Every node with where it stands."""
        for node in self.meta_graph.graph_def.node:
            yield node.name, node
        for function in self.meta_graph.graph_def.library.function:
            for node in function.node_def:
                yield f"{node.name} in {function.signature.name}", node

    def constants(self) -> Iterator[tuple[str, tensor_pb2.TensorProto]]:
        for where, node in self.nodes():
            if node.op == "Const":
                yield where, node.attr["value"].tensor

    def allowed_batch_sizes(self) -> list[int]:
        return [int(size) for size in self.card.get("allowed_batch_sizes") or []]


def _check_operations(export: _Export) -> None:
    known = server_operations(export.server)
    own = {function.signature.name for function in export.meta_graph.graph_def.library.function}
    missing: dict[str, list[str]] = {}
    wrong: dict[str, str] = {}
    for where, node in export.nodes():
        if node.op in own:
            continue
        if node.op not in known:
            missing.setdefault(node.op, []).append(where)
            continue
        attributes = known[node.op]["attributes"]
        for name, value in node.attr.items():
            if name.startswith("_"):
                continue
            if name not in attributes:
                wrong.setdefault(f"The server's operation {node.op} has no attribute {name!r}.", where)
            elif not _is_allowed(value, attributes[name]):
                wrong.setdefault(
                    f"The server's operation {node.op} takes no such {name!r}: it allows "
                    f"{', '.join(attributes[name]['allowed'])}.",
                    where,
                )
        for name, attribute in attributes.items():
            if attribute["required"] and name not in node.attr:
                wrong.setdefault(f"The server's operation {node.op} needs the attribute {name!r}.", where)
    for operation, places in missing.items():
        export.error(
            places[0],
            f"TensorFlow Serving {export.server} has no operation {operation} ({len(places)} of them): loading ends "
            "with 'Op type not registered'.",
            "Leave out the layer that it comes from, or run a server that has it.",
        )
    for breaks, place in wrong.items():
        export.error(
            place,
            f"{breaks} Loading into TensorFlow Serving {export.server} fails.",
            "Run a server as new as the TensorFlow that exported, or export with one as old as the server.",
        )


def _is_allowed(value: Any, attribute: Mapping[str, Any]) -> bool:
    allowed = attribute.get("allowed")
    if not allowed or value.WhichOneof("value") in (None, "placeholder"):
        return True
    kind = value.WhichOneof("value")
    if kind == "type":
        return types_pb2.DataType.Name(value.type) in allowed
    if kind == "s":
        return value.s.decode("utf-8", "replace") in allowed
    if kind == "list":
        return all(types_pb2.DataType.Name(number) in allowed for number in value.list.type)
    return True


def _check_signatures(export: _Export) -> None:
    for signature_name, signature in export.signatures.items():
        for kind, tensors in (("input", signature.inputs), ("output", signature.outputs)):
            for name, tensor in tensors.items():
                where = f"signature {signature_name}, {kind} {name}"
                shape = tensor.tensor_shape
                if not shape.unknown_rank and (not shape.dim or shape.dim[0].size != -1):
                    export.error(
                        where,
                        f"Its shape is {_shape(tensor)}, and the server's batching joins and splits tensors along a "
                        "first dimension that is the batch: it fails, or answers one client with another's.",
                        "Put the batch first, for instance with keras.ops.moveaxis or one output per item.",
                    )
                if tensor.dtype not in REST_DTYPES:
                    export.error(
                        where,
                        f"Its dtype is {types_pb2.DataType.Name(tensor.dtype)}, for which the server's REST interface "
                        "has no JSON: such requests fail.",
                        "Cast it to float32 in the model.",
                    )


def _shape(tensor: meta_graph_pb2.TensorInfo) -> list[int | None]:
    return [None if dim.size == -1 else dim.size for dim in tensor.tensor_shape.dim]


def _check_xla(export: _Export) -> None:
    functions = [
        function.signature.name
        for function in export.meta_graph.graph_def.library.function
        if function.attr["_XlaMustCompile"].b
    ]
    places = functions or [where for where, node in export.nodes() if node.attr["_XlaMustCompile"].b]
    if not places:
        return
    if export.card.get("target") == "cpu":
        export.error(
            places[0],
            "A function asks for XLA (jit_compile=True) in an export for CPU, and the server has XLA off: requests "
            "fail.",
            'Export with target="gpu", or make the layers without jit_compile.',
        )
    else:
        export.warning(
            places[0],
            f"{len(places)} functions ask for XLA (jit_compile=True), which the server has off unless told.",
            "Start it with --xla_gpu_compilation_enabled, or export without jit_compile and leave it to "
            "auto-clustering.",
        )


def _check_weights(export: _Export) -> None:
    prefix = export.directory / "variables" / "variables"
    seen: dict[bytes, str] = {}
    twice: list[tuple[str, str, int]] = []

    def look(name: str, value: np.ndarray) -> None:
        if value.dtype.kind == "O" or value.size < SMALLEST_WEIGHT or (value == value.flat[0]).all():
            return
        content = np.ascontiguousarray(value)
        key = hashlib.blake2b(content.view(np.uint8).data, digest_size=16).digest() + repr(value.shape).encode()
        if key in seen:
            twice.append((name, seen[key], value.nbytes))
        seen.setdefault(key, name)

    if prefix.with_suffix(".index").exists():
        try:
            reader = tf.train.load_checkpoint(str(prefix))
            for name in sorted(reader.get_variable_to_shape_map()):
                if reader.get_variable_to_dtype_map()[name] not in (tf.string, tf.variant, tf.resource):
                    look(name, reader.get_tensor(name))
        except (tf.errors.OpError, RuntimeError, ValueError):
            export.error(
                "variables/", "The weights cannot be read, and the server cannot load them.", "Export the model again."
            )
            return
    for where, tensor in export.constants():
        if tf.as_dtype(tensor.dtype).is_floating and len(tensor.tensor_content) >= SMALLEST_CONSTANT_BYTES:
            look(f"constant {where}", tf.make_ndarray(tensor))
    if twice:
        name, other, _ = twice[0]
        size = sum(count for _, _, count in twice)
        export.error(
            "variables/",
            f"{len(twice)} weights ({size / 1e6:.1f} MB) are stored twice, as {other} and {name}: the server loads "
            "and holds both.",
            "Export with `keras_bert_layers.export_saved_model` and not with Keras's `model.export`.",
        )


def _check_files(export: _Export) -> None:
    root = export.directory.resolve()
    mend = "Copy the file into the export: track it with tf.saved_model.Asset, or keep its content in the graph."
    for path in sorted(export.directory.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            export.error(
                str(path.relative_to(export.directory)),
                "It is a link to a file outside the directory, which is not there where the server runs.",
                mend,
            )
    for asset in export.meta_graph.asset_file_def:
        path = export.directory / "assets" / asset.filename
        if not (export.directory.resolve() / "assets" / asset.filename).resolve().is_relative_to(root):
            if not path.is_symlink():
                export.error(f"assets/{asset.filename}", "The asset lies outside the directory.", mend)
        elif not path.exists():
            export.error(
                f"assets/{asset.filename}", "The asset is missing, and the server cannot load the model.", mend
            )
    for where, tensor in export.constants():
        for value in tensor.string_val if len(tensor.string_val) == 1 else ():
            if _PATH.fullmatch(value):
                export.error(
                    where,
                    f"The graph names a file outside the directory, {value.decode('utf-8', 'replace')!r}, which is not "
                    "there where the server runs.",
                    mend,
                )


def _check_batching(export: _Export) -> None:
    path = export.directory / BATCHING_FILE
    if not path.exists():
        if export.card:
            export.warning(
                BATCHING_FILE,
                "There is none, and the server's own batch sizes are not those that were warmed up.",
                "Export again, or start the server without --enable_batching.",
            )
        return
    try:
        parameters = text_format.Parse(path.read_text(encoding="utf-8"), serving_message("BatchingParameters")())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        export.error(
            BATCHING_FILE,
            f"The server cannot read it ({error}) and does not start.",
            "Write a BatchingParameters message in text form.",
        )
        return
    sizes = list(parameters.allowed_batch_sizes)
    largest = parameters.max_batch_size.value
    if parameters.enable_large_batch_splitting.value and parameters.HasField("max_execution_batch_size"):
        largest = parameters.max_execution_batch_size.value
    if sizes != sorted(set(sizes)) or (sizes and largest != sizes[-1]):
        export.error(
            BATCHING_FILE,
            f"allowed_batch_sizes {sizes} must ascend and end in max_batch_size, {largest}: the server refuses to "
            "load the model.",
            "Mend the file; `export_saved_model` writes one that fits.",
        )
    if parameters.HasField("num_batch_threads") and parameters.num_batch_threads.value < 1:
        export.error(BATCHING_FILE, "num_batch_threads is below 1, and no batch runs.", "Give the number of cores.")
    if export.card and sizes != export.allowed_batch_sizes():
        export.error(
            BATCHING_FILE,
            f"allowed_batch_sizes {sizes} are not those that the export was made for, "
            f"{export.allowed_batch_sizes()}: the others are compiled or optimised in the middle of traffic.",
            "Make both the same.",
        )


def _check_response_size(export: _Export) -> None:
    largest = max(export.allowed_batch_sizes(), default=1)
    for signature_name, signature in export.signatures.items():
        size = 0
        golden = ((export.card.get("golden") or {}).get(signature_name) or {}).get("outputs", {})
        for name, tensor in signature.outputs.items():
            shape = _shape(tensor)[1:]
            seen = golden.get(name, {}).get("shape", [])[1:]
            if len(seen) == len(shape):
                # What is longest: the sequence, where the card says it, or what the golden example had.
                shape = [one or other for one, other in zip(shape, seen, strict=True)]
                if len(shape) > 1 and tensor.tensor_shape.dim[1].size == -1:
                    shape[0] = max(shape[0] or 0, int(export.card.get("sequence_length") or 0))
            items = math.prod(dim or 1 for dim in shape)
            size += largest * items * max(tf.as_dtype(tensor.dtype).size, 1)
        if size > MAX_RESPONSE_BYTES:
            export.warning(
                f"signature {signature_name}",
                f"A batch of {largest} answers with {size / 2**20:.1f} MB, and gRPC clients receive at most 4 MB: "
                "they get RESOURCE_EXHAUSTED.",
                "Ask for the outputs that you need (output_filter), send smaller batches, export fewer or combined "
                "layers, or raise the client's limit: `Client(url, max_response_bytes=...)`.",
            )


def _check_card(export: _Export) -> None:
    if not export.card:
        return
    mend = "The card was written for another graph. Export the model again."
    if "signatures" in export.card:
        written = {
            name: (set(signature["inputs"]), set(signature["outputs"]))
            for name, signature in export.card["signatures"].items()
        }
        found = {name: (set(signature.inputs), set(signature.outputs)) for name, signature in export.signatures.items()}
        if written != found:
            export.error(
                CARD_FILE, f"It describes the signatures {sorted(written)}, and the graph has {sorted(found)}.", mend
            )
    own = {function.signature.name for function in export.meta_graph.graph_def.library.function}
    if "ops" in export.card and set(export.card["ops"]) != {node.op for _, node in export.nodes()} - own:
        export.error(CARD_FILE, "Its list of operations is not that of the graph.", mend)


def _check_vocabulary(export: _Export) -> None:
    vocabulary = export.card.get("vocabulary")
    if not vocabulary:
        return
    models = [tensor.tensor_content for _, tensor in export.constants() if tensor.dtype == types_pb2.DT_UINT8]
    tokens = graph_vocabulary(models)
    mend = "The tokens and the weights no longer belong together. Export the model again."
    if tokens is None:
        export.error(CARD_FILE, "It describes a vocabulary, and there is none in the graph.", mend)
        return
    # As BertTokenizer keeps them: with one more at the end, and behind it what stands for tokens found in texts.
    if OTHER_PRIVATE_CHARACTER in tokens:
        tokens = tokens[: tokens.index(OTHER_PRIVATE_CHARACTER)]
    if any(_UNREACHABLE.fullmatch(token) for token in tokens):
        same = len(tokens) == vocabulary["size"]
    else:
        same = hashlib.sha256("\n".join(tokens).encode()).hexdigest() == vocabulary["sha256"]
    if not same:
        export.error(
            CARD_FILE,
            f"The vocabulary in the graph ({len(tokens)} tokens) is not the one that the export was made with "
            f"({vocabulary['size']} tokens): texts get wrong ids, and every answer is wrong without an error.",
            mend,
        )


def _check_warmup(export: _Export) -> None:
    path = export.directory / WARMUP_FILE
    if not path.exists():
        export.warning(
            WARMUP_FILE,
            "There is none, and the first requests wait for what the server sets up at first use.",
            "Export with `export_saved_model(..., warmup=True)`, which writes one.",
        )
        return
    try:
        prediction_log = serving_api("apis.prediction_log_pb2").PredictionLog
    except ImportError as error:
        export.warning(WARMUP_FILE, "The warm-up records were not checked.", str(error))
        return
    stops = "The server runs each record before it takes the version, and refuses the version."
    count = 0
    covered = set()
    try:
        for count, record in enumerate(tf.data.TFRecordDataset(str(path)).as_numpy_iterator(), start=1):
            request = prediction_log.FromString(record).predict_log.request
            signature = request.model_spec.signature_name or "serving_default"
            fault = _fault(export.signatures.get(signature), signature, request.inputs)
            if fault:
                export.error(f"{WARMUP_FILE}, record {count}", f"{fault} {stops}", "Write the warm-up file again.")
                return
            covered.add(signature)
    except (tf.errors.DataLossError, DecodeError) as error:
        number = count if isinstance(error, DecodeError) else count + 1
        export.error(
            f"{WARMUP_FILE}, record {number}",
            f"It is broken: no TFRecord of a PredictionLog. {stops}",
            "Write the warm-up file again.",
        )
        return
    if count > MAX_WARMUP_RECORDS:
        export.error(
            WARMUP_FILE,
            f"{count} records are more than the {MAX_WARMUP_RECORDS} that the server takes: it refuses the version.",
            "Leave some out.",
        )
    if export.card and (cold := sorted(set(export.signatures) - covered)):
        export.warning(
            WARMUP_FILE,
            f"No record warms up {', '.join(cold)}, whose first requests wait.",
            "Write the warm-up file again.",
        )


def _fault(
    signature: meta_graph_pb2.SignatureDef | None, name: str, inputs: Mapping[str, tensor_pb2.TensorProto]
) -> str | None:
    """What is wrong with a request."""
    if signature is None:
        return f"There is no signature {name!r}."
    if set(inputs) != set(signature.inputs):
        return f"It gives {sorted(inputs)} to {name!r}, which takes {sorted(signature.inputs)}."
    batches = set()
    for key, tensor in inputs.items():
        expected = signature.inputs[key]
        shape = [dim.size for dim in tensor.tensor_shape.dim]
        if tensor.dtype != expected.dtype:
            return f"Its input {key!r} is {types_pb2.DataType.Name(tensor.dtype)}."
        dims = expected.tensor_shape.dim
        if not expected.tensor_shape.unknown_rank and (
            len(shape) != len(dims) or any(d.size not in (-1, size) for d, size in zip(dims, shape, strict=True))
        ):
            return f"Its input {key!r} has the shape {shape}, and {_shape(expected)} is expected."
        try:
            if list(tf.make_ndarray(tensor).shape) != shape:
                return f"Its input {key!r} has not the shape that it says."
        except ValueError:
            return f"Its input {key!r} has fewer values than its shape."
        batches.add(shape[0] if shape else None)
    return "Its inputs have batches of different sizes." if len(batches) > 1 else None


def _check_golden(export: _Export) -> None:
    golden = export.card.get("golden") or {}
    if export.card and not golden:
        export.warning(
            CARD_FILE,
            "It has no golden example, and what the export answers was not checked.",
            "Export the model again.",
        )
    runs = []
    for name, example in golden.items():
        signature = export.signatures.get(name)
        where = f"{CARD_FILE}, golden example of {name}"
        try:
            inputs = {
                key: tf.make_tensor_proto(value, tf.as_dtype(signature.inputs[key].dtype) if signature else None)
                for key, value in example["inputs"].items()
            }
        except (TypeError, ValueError, KeyError):
            export.error(where, "Its inputs are not those of the signature.", "Export the model again.")
            continue
        if fault := _fault(signature, name, inputs):
            export.error(where, fault, "Export the model again.")
        else:
            runs.append((name, inputs))
    if not runs:
        return
    with tempfile.TemporaryDirectory() as work:
        try:
            results = fresh_run(export.directory, runs, work)
        except RuntimeError as error:
            export.error(
                "saved_model.pb",
                f"It does not load in a process that has TensorFlow and tf.text alone: {error}.",
                "Mend what this names, and export the model again.",
            )
            return
    for (name, inputs), result in zip(runs, results, strict=True):
        where = f"{CARD_FILE}, golden example of {name}"
        if isinstance(result, str):
            export.error(
                where,
                f"The signature fails on it with {result}.",
                "Load the export with tf.saved_model.load and run the example to see why.",
            )
            continue
        for key, fault in _differences(golden[name]["outputs"], result, next(iter(inputs.values()))):
            export.error(f"{where}, output {key}", fault, "The export changed after it was made. Export it again.")


def _differences(
    expected: Mapping[str, Any], outputs: Mapping[str, np.ndarray], an_input: tensor_pb2.TensorProto
) -> Iterator[tuple[str, str]]:
    """The outputs that are not what they should be, and why."""
    batch = an_input.tensor_shape.dim[0].size
    for key, value in outputs.items():
        if value.shape[:1] != (batch,):
            yield key, f"Its first dimension is not the batch: {batch} texts gave the shape {list(value.shape)}."
    for key, example in expected.items():
        if key not in outputs:
            yield key, "There is no such output."
        elif list(outputs[key].shape) != list(example["shape"]):
            yield key, f"Its shape is {list(outputs[key].shape)}, and was {list(example['shape'])}."
        else:
            values = outputs[key].reshape(-1)[:: int(example.get("stride", 1))]
            if values.dtype.kind == "O":
                same = [v.decode("utf-8", "replace") for v in values] == list(example["values"])
                difference = "in text"
            else:
                distance = np.abs(values.astype("float64") - np.asarray(example["values"], "float64"))
                same = bool((distance <= example["tolerance"]).all())
                difference = f"by {np.max(distance, initial=0.0):.2g}, and {example['tolerance']:.2g} is allowed"
            if not same:
                yield key, f"It differs from what the export answered when it was made {difference}."


_CHECKS: tuple[Callable[[_Export], None], ...] = (
    _check_card,
    _check_operations,
    _check_signatures,
    _check_xla,
    _check_weights,
    _check_files,
    _check_batching,
    _check_response_size,
    _check_vocabulary,
    _check_warmup,
    _check_golden,
)
