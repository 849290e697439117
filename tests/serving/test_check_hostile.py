"""What `check` makes of exports that are damaged or made to harm: findings, in bounded time, and nothing is run."""

import copy
import importlib
import json
import os
import pathlib
import random
import re
import shutil
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text as tf_text
from click.testing import CliRunner
from tensorflow.core.protobuf import saved_model_pb2

from keras_bert_layers import serving
from keras_bert_layers.cli import main
from keras_bert_layers.serving import check
from keras_bert_layers.serving.graph_vocabulary import graph_vocabulary

from .export_factory import change_card, warmup_record, write_warmup

pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api")

NUMBERS = tf.TensorSpec([None, 2], tf.float32, "x")
LAST_RESORT = "The check ended with"


@pytest.fixture
def export(sound, tmp_path) -> pathlib.Path:
    return shutil.copytree(sound, tmp_path / "1")


def save(directory: pathlib.Path, function: Callable, *tracked: object, golden: bool = True) -> pathlib.Path:
    """A SavedModel of one function of numbers, with a card whose golden example would run it."""
    module = tf.Module()
    module.tracked = list(tracked)
    module.serve = tf.function(lambda x: {"y": function(x)}, input_signature=[NUMBERS])
    tf.saved_model.save(module, str(directory), signatures={"serving_default": module.serve})
    if golden:
        example = {"inputs": {"x": [[1.0, 2.0]]}, "outputs": {}}
        card = {"format": 1, "golden": {"serving_default": example}}
        (directory / "keras_bert_layers.json").write_text(json.dumps(card))
    return directory


def errors(directory: pathlib.Path, **options: Any) -> list[str]:
    return [str(finding) for finding in check(directory, **options) if finding.severity == "error"]


def change_graph(directory: pathlib.Path, change: Callable) -> None:
    path = directory / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    change(saved_model.meta_graphs[0])
    path.write_bytes(saved_model.SerializeToString())


def number_of(value: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.strings.length(value), "float32")


def after(operation: Any, x: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([operation]):
        return tf.identity(x)


# A file of the attacker's choice, and the numbers -> what is done with it.
HARMFUL: dict[str, Callable[[str, tf.Tensor], Any]] = {
    "WriteFile": lambda path, x: after(tf.io.write_file(path, "written"), x),
    "ReadFile": lambda path, x: x + number_of(tf.io.read_file(tf.strings.join([path, ".txt"]))),
    "MatchingFiles": lambda path, x: x + tf.cast(tf.size(tf.io.matching_files(path + "*")), "float32"),
    "PyFunc": lambda path, x: tf.numpy_function(lambda x: x, [x], "float32"),
    "PyFuncStateless": lambda path, x: tf.numpy_function(lambda x: x, [x], "float32", stateful=False),
    "EagerPyFunc": lambda path, x: tf.py_function(lambda x: x, [x], "float32"),
    "PrintV2": lambda path, x: after(tf.print(x, output_stream=f"file://{path}"), x),
    "ImmutableConst": lambda path, x: x + tf.raw_ops.ImmutableConst(
        dtype="float32", shape=[2], memory_region_name=path
    ),
    "SaveV2": lambda path, x: after(
        tf.raw_ops.SaveV2(prefix=path, tensor_names=["x"], shape_and_slices=[""], tensors=[x]), x
    ),
    "RestoreV2": lambda path, x: x + tf.raw_ops.RestoreV2(
        prefix=path, tensor_names=["x"], shape_and_slices=[""], dtypes=["float32"]
    )[0],
    "TextLineDataset": lambda path, x: x + number_of(
        tf.data.TextLineDataset(path).take(1).get_single_element()
    ),
    "WholeFileReaderV2": lambda path, x: after(tf.raw_ops.WholeFileReaderV2(), x),
    "InitializeTableFromTextFileV2": lambda path, x: after(
        tf.raw_ops.InitializeTableFromTextFileV2(
            table_handle=tf.raw_ops.HashTableV2(key_dtype="string", value_dtype="int64"),
            filename=path, key_index=-2, value_index=-1,
        ),
        x,
    ),
    "DebugIdentity": lambda path, x: tf.raw_ops.DebugIdentity(input=x, debug_urls=[f"file://{path}"]),
    "CreateSummaryFileWriter": lambda path, x: after(
        tf.raw_ops.CreateSummaryFileWriter(
            writer=tf.raw_ops.SummaryWriter(), logdir=path, max_queue=1, flush_millis=1, filename_suffix=""
        ),
        x,
    ),
    "Send": lambda path, x: after(
        tf.raw_ops.Send(tensor=x, tensor_name="x", send_device="a", send_device_incarnation=1, recv_device="b"), x
    ),
}  # fmt: skip


class TestSideEffects:
    @pytest.mark.parametrize("operation", HARMFUL)
    def test_are_refused_before_anything_is_run(self, operation, tmp_path):
        marker = tmp_path / "marker"
        directory = save(tmp_path / "1", lambda x: HARMFUL[operation](str(marker), x))
        (error,) = [error for error in errors(directory) if f"The operation {operation} " in error]
        assert "may touch files outside the export" in error
        assert "`check` did not run the graph. Leave out the layer that it comes from" in error
        assert not list(tmp_path.glob("marker*"))

    def test_in_a_function_of_a_function(self, tmp_path):
        marker = str(tmp_path / "marker")

        def harmful(x):
            return tf.cond(x[0, 0] > 0, lambda: HARMFUL["WriteFile"](marker, x), lambda: x)

        errors_found = errors(save(tmp_path / "1", tf.function(harmful)))
        assert any("WriteFile" in error and " in " in error.split(":")[1] for error in errors_found)
        assert not os.path.exists(marker)

    def test_files_of_the_export_may_be_read(self, tmp_path):
        """By a table's initializer, and by the saver of a table whose entries are among the variables."""
        (tmp_path / "words.txt").write_text("a\nb\n")
        whole, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        words = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(str(tmp_path / "words.txt"), "string", whole, "int64", number), -1
        )
        counts = tf.lookup.experimental.MutableHashTable("string", "int64", 0)

        def serve(x):
            keys = tf.strings.as_string(x)
            return tf.cast(words.lookup(keys) + counts.lookup(keys), "float32") + tf.random.normal(tf.shape(x))

        directory = save(tmp_path / "1", serve, words, counts, golden=False)
        assert errors(directory) == []

        # Python takes the file's name from the objects.
        def bind_to_a_constant(meta_graph):
            objects = meta_graph.object_graph_def
            (name,) = [
                name for name, f in objects.concrete_functions.items() if "initializer" in name and f.bound_inputs
            ]
            constant = next(i for i, node in enumerate(objects.nodes) if node.WhichOneof("kind") == "constant")
            objects.concrete_functions[name].bound_inputs[0] = constant

        change_graph(directory, bind_to_a_constant)
        (error,) = errors(directory)
        assert "InitializeTableFromTextFileV2" in error

    def test_a_function_may_not_take_the_name_of_an_operation(self, tmp_path):
        directory = save(tmp_path / "1", lambda x: tf.nn.relu(x))

        def rename(meta_graph):
            function = meta_graph.graph_def.library.function.add()
            function.signature.name = "Relu"

        change_graph(directory, rename)
        assert any("The operation Relu" in error for error in errors(directory))

    def test_every_operation_that_names_files_is_known(self):
        """TensorFlow's own list of operations: whatever is not stateful and takes the name of a file."""
        from tensorflow.core.framework import op_def_pb2, types_pb2
        from tensorflow.python.client import pywrap_tf_session

        from keras_bert_layers.serving.check import side_effects

        registered = op_def_pb2.OpList.FromString(
            pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())
        ).op
        names_files = re.compile(
            "file|path|_dir$|directory|address|urls?$|memory_region|descriptor_source|debug_ops_spec"
        )
        found = set()
        for operation in registered:
            inputs = [a.name for a in operation.input_arg if a.type == types_pb2.DT_STRING]
            attributes = [a.name for a in operation.attr if a.type in ("string", "list(string)")]
            if not operation.is_stateful and any(map(names_files.search, inputs + attributes)):
                found.add(operation.name)
        assert {"ReadFile", "ImmutableConst", "DebugIdentity"} <= found
        # They take names apart and put them together.
        found -= {"ShardedFilename", "ShardedFilespec"}
        assert found <= side_effects._REFUSED | set(side_effects._READERS)


def write_pipe(export: pathlib.Path) -> None:
    (export / "batching_params.pbtxt").unlink()
    os.mkfifo(export / "batching_params.pbtxt")


def make_folder(name: str) -> Callable:
    def change(export: pathlib.Path) -> None:
        (export / name).unlink()
        (export / name).mkdir()

    return change


def truncate_weights(export: pathlib.Path) -> None:
    path = export / "variables/variables.data-00000-of-00001"
    os.truncate(path, path.stat().st_size - 100)


def on_graph(change: Callable) -> Callable:
    return lambda export: change_graph(export, change)


def a_constant(meta_graph: Any) -> Any:
    functions = meta_graph.graph_def.library.function
    return next(n for f in functions for n in f.node_def if n.op == "Const" and n.attr["value"].tensor.tensor_content)


def add_asset(meta_graph: Any) -> None:
    meta_graph.asset_file_def.add(filename="a\0b")


def claim(count: int) -> Callable:
    def change(export: pathlib.Path) -> None:
        from tensorflow_serving.apis import prediction_log_pb2

        log = prediction_log_pb2.PredictionLog.FromString(warmup_record({"text": tf.constant(["a"])}))
        log.predict_log.request.inputs["text"].tensor_shape.dim[0].size = count
        write_warmup(export, [log.SerializeToString()])

    return change


def write_card(content: str) -> Callable:
    return lambda export: (export / "keras_bert_layers.json").write_text(content)


DAMAGES: dict[str, tuple[Callable, str]] = {
    "pipe": (write_pipe, "batching_params.pbtxt: It is not a file but a folder or something else that a server cannot"),
    "folder batching": (make_folder("batching_params.pbtxt"), "batching_params.pbtxt: It is not a file"),
    "folder warm-up": (make_folder("assets.extra/tf_serving_warmup_requests"), "warmup_requests: It is not a file"),
    "folder card": (make_folder("keras_bert_layers.json"), "keras_bert_layers.json: It is not a file"),
    "link loop": (lambda export: os.symlink("loop", export / "assets/loop"), "loop: It is a link that leads nowhere"),
    "weights cut off": (truncate_weights, "The weights cannot be read"),
    "no weights": (lambda export: shutil.rmtree(export / "variables"), "There is no such file in variables/"),
    "no weights, no card": (
        lambda export: (shutil.rmtree(export / "variables"), (export / "keras_bert_layers.json").unlink()),
        "There is no such file in variables/, and the graph has variables: every request fails.",
    ),
    "dtype of a signature": (
        on_graph(lambda graph: setattr(graph.signature_def["serving_default"].inputs["text"], "dtype", 9999)),
        "signature serving_default, text: Its dtype has the number 9999, which no dtype has.",
    ),
    "dtype of a constant": (
        on_graph(lambda graph: setattr(a_constant(graph).attr["value"].tensor, "dtype", 9999)),
        "The dtype of the constant has the number 9999",
    ),
    "bytes of a constant": (
        on_graph(lambda graph: setattr(a_constant(graph).attr["value"].tensor, "tensor_content", b"123")),
        "values that its shape says. The file is broken",
    ),
    "dtype of an attribute": (
        on_graph(lambda graph: setattr(a_constant(graph).attr["dtype"], "type", 9999)), "Const",
    ),
    "zero byte in a name": (on_graph(add_asset), r"assets/a\x00b: The asset is missing"),
    "two tags": (on_graph(lambda graph: graph.meta_info_def.tags.append("tpu")), "No graph has the tag 'serve' alone"),
    "4 * 10^9 columns": (claim(4 * 10**9), "Its input 'text' has not the 4000000000 values that its shape says"),
    "2^62 columns": (claim(2**62), "Its input 'text' has not the 4611686018427387904 values"),
    "2^50 bytes": (
        lambda export: (export / "assets.extra/tf_serving_warmup_requests").write_bytes(struct.pack("<QQ", 2**50, 0)),
        "record 1: It is broken: not a TFRecord",
    ),
    "deep card": (write_card("[" * 200_000), "The card is nested too deep"),
    "deep value": (write_card('{"format": ' + "[" * 900 + "]" * 900 + "}"), "nested too deep|Its format is"),
    "large card": (write_card(" " * 17 * 2**20), "no card has over"),
    "large batching file": (
        lambda export: (export / "batching_params.pbtxt").write_bytes(b" " * 2**21), "no such file has over",
    ),
    "half a character": (write_card('{"format": 1, "dtype": "\\ud800"}'), "The card holds half a character"),
    "sequence longer than positions": (
        lambda export: change_card(export, sequence_length=513),
        "Rows have up to 513 tokens, and the encoder has 512 positions: a long text fails",
    ),
}  # fmt: skip


class TestDamages:
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_are_findings(self, damage, export):
        change, message = DAMAGES[damage]
        change(export)
        found = errors(export, run=False)
        assert any(part in error for error in found for part in message.split("|")), found
        assert not [error for error in found if LAST_RESORT in error]

    def test_a_version_that_is_no_number(self, export):
        for name, number in (("v0.1", 1), ("-1", 1), ("1.0", 1), ("0012", 0), ("20260101120000", 0)):
            export = export.rename(export.parent / name)
            found = [finding for finding in check(export, run=False) if "is not a number" in finding.problem]
            assert len(found) == number
            assert all(finding.where == name for finding in found)

    def test_weights_that_are_not_finite(self, tmp_path):
        values = np.arange(32, dtype="float32")
        values[5] = np.nan
        weight = tf.Variable(values.reshape(16, 2))
        (error,) = errors(save(tmp_path / "1", lambda x: x + weight[0], weight, golden=False))
        assert "1 weights hold NaN or infinite values" in error

    @pytest.mark.parametrize(
        ("more", "severity", "message"),
        [
            (-2, "error", "a text with one of the last 2 tokens fails"),
            (128, "warning", "128 of them no text can reach"),
        ],
    )
    def test_a_vocabulary_and_an_embedding_table_of_different_sizes(self, more, severity, message, export, vocabulary):
        def resize(meta_graph):
            nodes = meta_graph.object_graph_def.nodes
            (table,) = [node.variable for node in nodes if "word_embeddings" in node.variable.name]
            assert table.shape.dim[0].size == len(vocabulary)
            table.shape.dim[0].size += more

        change_graph(export, resize)
        (finding,) = check(export, run=False)
        assert finding.severity == severity
        assert f"has {len(vocabulary)} tokens, and the embedding table {len(vocabulary) + more} rows" in finding.problem
        assert message in finding.problem

    def test_a_vocabulary_that_goes_in_circles(self):
        """From any node of the tree one step back to itself."""
        tokenizer = tf_text.FastWordpieceTokenizer(["[UNK]", "a", "##a", "b"], no_pretokenization=True)
        model = tokenizer._model.numpy().tobytes()
        letter = ord("a")
        circle = struct.pack("<I", letter << 10 | letter)
        found = [graph_vocabulary([model[:i] + circle + model[i + 4 :]]) for i in range(0, len(model) - 3, 4)]
        assert None in found

    def test_a_link_out_of_the_export_whose_name_moves_the_cursor(self, export, tmp_path):
        (tmp_path / "secret").write_text("a")
        os.symlink(tmp_path / "secret", export / "assets/\x1b[2J")
        result = CliRunner().invoke(main, ["check", str(export)])
        assert result.exit_code == 1
        assert r"error: assets/\x1b[2J: It is a link to a file outside" in result.output
        assert "`check` did not run the graph." in result.output


MUTATIONS = [
    None,
    True,
    -1,
    0,
    1.5,
    float("nan"),
    10**400,
    "",
    "a",
    "\ud800",
    [],
    [[]],
    [1, [2]],
    {},
    {"a": None},
    2**62,
]


def mutate(card: Any, random_: random.Random) -> None:
    """Replaces, removes or renames one value somewhere in a card."""
    parent, key = None, None
    while isinstance(card, (dict, list)) and card and (parent is None or random_.random() < 0.8):
        parent, key = card, random_.choice(list(card)) if isinstance(card, dict) else random_.randrange(len(card))
        card = card[key]
    kind = random_.random()
    if kind < 0.15:
        del parent[key]
    elif kind < 0.25 and isinstance(parent, dict):
        parent[f"{key}?"] = parent.pop(key)
    else:
        parent[key] = random_.choice(MUTATIONS)


class TestCards:
    @pytest.fixture(scope="class")
    @staticmethod
    def small(tmp_path_factory) -> tuple[pathlib.Path, dict[str, Any]]:
        directory = save(tmp_path_factory.mktemp("small") / "1", lambda x: 2 * x)
        output = {"shape": [2, 2], "values": [2.0, 4.0, 6.0, 8.0], "stride": 1, "tolerance": 1e-4}
        spec = {"dtype": "float32", "shape": [None, 2]}
        card = {
            "format": 1,
            "versions": {"keras": "3", "keras_bert_layers": None},
            "target": "cpu",
            "dtype": "float32",
            "quantize": None,
            "loss_against_float32": {"serving_default": {"y": {"max_absolute": 0.1, "mean_cosine": 1.0}}},
            "encoders": [{"name": "bert", "class": "BertEncoder", "layers": [1], "combine": None, "hidden_size": 16}],
            "vocabulary": {"size": 2, "sha256": "0" * 64},
            "tokenizer": {"lowercase": True},
            "sequence_length": 16,
            "length_buckets": [8, 16],
            "allowed_batch_sizes": [1, 4],
            "signatures": {"serving_default": {"inputs": {"x": spec}, "outputs": {"y": spec}}},
            "golden": {"serving_default": {"inputs": {"x": [[1.0, 2.0], [3.0, 4.0]]}, "outputs": {"y": output}}},
            "ops": ["AddV2"],
        }
        return directory, card

    def test_a_mutated_card_gives_findings_and_nothing_else(self, small):
        directory, card = small
        random_ = random.Random(13)
        outcomes = set()
        for _ in range(200):
            changed = copy.deepcopy(card)
            for _ in range(random_.choice([1, 1, 1, 3])):
                mutate(changed, random_)
            (directory / "keras_bert_layers.json").write_text(json.dumps(changed))
            findings = check(directory, run=False)
            assert not [finding for finding in findings if LAST_RESORT in finding.problem], changed
            outcomes |= {finding.problem.split(",")[0] for finding in findings if "is expected" in finding.problem}
        # Of many kinds, so that the mutations are not all alike.
        assert len(outcomes) > 40

    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            (
                "golden.serving_default.outputs.y.stride",
                0,
                "Its golden.serving_default.outputs.y.stride is 0, and an int",
            ),
            ("golden.serving_default.outputs.y.values", [1.0], "and as many values as its shape and stride say"),
            ("golden.serving_default.outputs.y.tolerance", None, "tolerance is None, and a number is expected"),
            ("golden.serving_default.inputs.x", [[1.0], [1.0, 2.0]], "and lists of one shape, of numbers and texts"),
            (
                "allowed_batch_sizes",
                [4, 1],
                "Its allowed_batch_sizes is [4, 1], and a list of ascending ints, from 1 is",
            ),
            ("vocabulary.size", True, "Its vocabulary.size is True, and an int of at least 1 is expected"),
            ("target", ["cpu"], "Its target is ['cpu'], and cpu or gpu is expected"),
            ("format", True, "Its format is True, and this version of keras_bert_layers reads 1"),
            ("signatures.serving_default.inputs.x.dtype", "float31", "dtype is 'float31', and the name of a dtype"),
        ],
    )
    def test_the_sentence_names_the_place(self, path, value, message, small):
        directory, card = small
        changed = copy.deepcopy(card)
        *parents, last = path.split(".")
        parent = changed
        for name in parents:
            parent = parent[name]
        parent[last] = value
        (directory / "keras_bert_layers.json").write_text(json.dumps(changed))
        (error,) = [error for error in errors(directory, run=False) if "keras_bert_layers.json" in error]
        assert message in error

    def test_texts_among_the_outputs(self, tmp_path):
        """In one process: what is right, another text, and a number where a text is meant."""
        names = tf.constant(["schlecht", "gut 好"])
        module = tf.Module()

        @tf.function(input_signature=[NUMBERS])
        def serve(x):
            label = tf.gather(names, tf.argmax(x, axis=1))
            return {"label": label, "other": label, "number": x[:, 0]}

        module.serve = serve
        tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": serve})
        labels = {"shape": [2], "values": ["gut 好", "schlecht"], "stride": 1, "tolerance": 0.0}
        outputs = {"label": labels, "other": labels | {"values": ["gut", "schlecht"]}, "number": labels}
        golden = {"serving_default": {"inputs": {"x": [[0.0, 1.0], [1.0, 0.0]]}, "outputs": outputs}}
        (tmp_path / "1/keras_bert_layers.json").write_text(json.dumps({"format": 1, "golden": golden}))
        found = errors(tmp_path / "1")
        assert len(found) == 2
        assert any(
            "output other: It differs from what the export answered when it was made in text." in e for e in found
        )
        assert any("output number: It differs" in e and "in kind: one is text" in e for e in found)


class TestWhatNobodyForesaw:
    def test_is_a_finding_and_stops_the_run(self, export, monkeypatch):
        module = importlib.import_module("keras_bert_layers.serving.check")
        ran = []

        def check_something(export):
            raise KeyError("a")

        monkeypatch.setattr(module, "CHECKS", (check_something, lambda export: ran.append(export.may_run)))
        (error,) = errors(export)
        assert error.startswith("error: check_something: The check ended with KeyError: 'a'.")
        assert ran == [False]

    @pytest.mark.parametrize("directory", [None, 5, b"1"])
    def test_what_is_no_path(self, directory):
        with pytest.raises(
            TypeError, match="Expected `directory` to be the path of a SavedModel. Received: directory="
        ):
            check(directory)

    def test_another_machine(self):
        with pytest.raises(ValueError, match=r"on this machine. Received: directory='gs://bucket/1'. Copy the export"):
            check("gs://bucket/1")

    @pytest.mark.parametrize("directory", ["nowhere", "a\0b", "x" * 5000])
    def test_no_directory(self, directory):
        (error,) = errors(directory)
        assert "There is no such directory." in error


class TestCommandLine:
    def test_without_running(self, export):
        change_card(export, golden={"serving_default": {"inputs": {"text": ["a"]}, "outputs": {}}})
        result = CliRunner().invoke(main, ["check", str(export), "--no-run"])
        assert (result.exit_code, result.output) == (0, "no errors, 0 warnings\n")

    def test_no_directory(self, tmp_path):
        result = CliRunner().invoke(main, ["check", str(tmp_path / "1")])
        assert result.exit_code == 2
        assert "does not exist" in result.output

    def test_interrupted(self, export, monkeypatch):
        def interrupted(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(serving, "check", interrupted)
        result = CliRunner().invoke(main, ["check", str(export)])
        assert result.exit_code == 1
        assert result.output.strip() == "Aborted!"


@pytest.mark.parametrize("vocabulary", [["[UNK]", "a", "b"], ["a", "[UNK]", "##b"], ["##\x11", "[UNK]", "a"]])
def test_a_vocabulary_of_whole_words_is_read_back_whole(vocabulary):
    """Where no token begins with ##, tf.text adds one."""
    tokenizer = tf_text.FastWordpieceTokenizer(vocabulary, no_pretokenization=True)
    assert graph_vocabulary([tokenizer._model.numpy().tobytes()]) == vocabulary
