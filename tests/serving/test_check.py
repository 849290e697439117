"""What `check` finds, what it lets pass, and how the command line says it."""

import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from tensorflow.core.protobuf import saved_model_pb2

import keras_bert_layers as kbl
from keras_bert_layers.cli import main
from keras_bert_layers.serving import check
from keras_bert_layers.serving.server_operations import server_operations

from .export_factory import change_card, make_export, warmup_record, write_batching, write_warmup

pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api")


@pytest.fixture(scope="module")
def another(tmp_path_factory, vocabulary) -> pathlib.Path:
    """An export of the same model with other weights and another vocabulary of the same size."""
    directory = tmp_path_factory.mktemp("another") / "1"
    make_export(directory, [*vocabulary[:-2], vocabulary[-1], vocabulary[-2]])
    return directory


@pytest.fixture
def export(sound, tmp_path) -> pathlib.Path:
    """A copy to break; without the golden example, which costs a process."""
    shutil.copytree(sound, tmp_path / "1")
    change_card(tmp_path / "1", golden={})
    return tmp_path / "1"


def errors(directory: pathlib.Path, server: str = "2.20.0") -> list[str]:
    return [str(finding) for finding in check(directory, server) if finding.severity == "error"]


def warnings(directory: pathlib.Path) -> list[str]:
    return [str(finding) for finding in check(directory) if finding.severity == "warning"]


def save(directory: pathlib.Path, function: Callable, spec: tf.TensorSpec, *tracked: object) -> pathlib.Path:
    """A SavedModel of one function."""
    module = tf.Module()
    module.tracked = list(tracked)
    module.serve = tf.function(function, input_signature=[spec])
    tf.saved_model.save(module, str(directory), signatures={"serving_default": module.serve})
    return directory


NUMBERS = tf.TensorSpec([None, 2], tf.float32, "x")


class TestSound:
    def test_nothing_is_found(self, sound):
        assert check(sound) == []

    @pytest.mark.parametrize("minor", range(13, 21))
    def test_on_every_server(self, minor, export):
        assert errors(export, f"2.{minor}.0") == []

    def test_a_plain_saved_model_passes_and_hears_what_was_left_out(self, tmp_path):
        save(tmp_path / "1", lambda x: {"y": 2 * x}, NUMBERS)
        assert errors(tmp_path / "1") == []
        card, warmup = sorted(warnings(tmp_path / "1"), key=lambda text: "warmup" in text)
        assert "There is no card: golden example, vocabulary and batch sizes were not checked. Export with" in card
        assert "the first requests wait" in warmup


class TestOperations:
    def test_one_that_the_server_lacks(self, tmp_path):
        import tensorflow_text as tf_text

        trimmer = tf_text.RoundRobinTrimmer(4)
        tf_text.ShrinkLongestTrimmer(4)

        def serve(text):
            return {"y": trimmer.trim([tf.strings.split(text)])[0].to_tensor()}

        directory = save(tmp_path / "1", serve, tf.TensorSpec([None], tf.string, "text"))
        (error,) = errors(directory, "2.19.0")
        assert "TensorFlow Serving 2.19.0 has no operation TFText>RoundRobinTrim" in error
        assert "'Op type not registered'. Leave out the layer that it comes from, or run a server that has it." in error
        assert errors(directory, "2.20.0") == []

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda node: node.attr["grad_z"].CopyFrom(node.attr["T"]), "has no attribute 'grad_z'"),
            (lambda node: node.attr.pop("T"), "MatMul needs the attribute 'T'"),
            (lambda node: setattr(node.attr["T"], "type", tf.string.as_datatype_enum), "takes no such 'T': it allows"),
        ],
    )
    def test_attributes(self, change, message, tmp_path):
        directory = save(tmp_path / "1", lambda x: {"y": x @ tf.ones([2, 2])}, NUMBERS)
        path = directory / "saved_model.pb"
        saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
        functions = saved_model.meta_graphs[0].graph_def.library.function
        changed = [node for function in functions for node in function.node_def if node.op == "MatMul"]
        assert changed
        for node in changed:
            change(node)
        path.write_bytes(saved_model.SerializeToString())
        (error,) = errors(directory)
        assert message in error
        assert "MatMul" in error

    def test_lists_are_those_of_servers(self):
        text = {name for name in server_operations("2.19.0") if name.startswith("TFText>")}
        assert len(text) == 10
        assert text < {name for name in server_operations("2.20.0") if name.startswith("TFText>")}
        for minor in range(13, 21):
            assert {"MatMul", "XlaLaunch", "TFText>WhitespaceTokenizeWithOffsetsV2"} <= set(
                server_operations(f"2.{minor}.1")
            )

    def test_unknown_servers_are_refused(self, sound):
        with pytest.raises(ValueError, match=r"from 2\.13 to 2\.20\. Received: server='2\.12\.0'"):
            check(sound, "2.12.0")


class TestSignatures:
    def test_the_batch_is_not_first(self, tmp_path):
        directory = save(tmp_path / "1", lambda x: {"y": tf.transpose(x)}, NUMBERS)
        (error,) = errors(directory)
        assert "signature serving_default, output y: Its shape is [2, None]" in error
        assert "Put the batch first" in error

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_half_precision(self, dtype, tmp_path):
        directory = save(tmp_path / "1", lambda x: {"y": tf.cast(x, dtype)}, NUMBERS)
        (error,) = errors(directory)
        assert re.search("output y: Its dtype is DT_(HALF|BFLOAT16), for which the server's REST", error)
        assert "Cast it to float32" in error

    @pytest.mark.parametrize(("target", "severity"), [("cpu", "error"), ("gpu", "warning")])
    def test_xla(self, target, severity, tmp_path):
        jitted = tf.function(lambda x: 2 * x, jit_compile=True)
        directory = save(tmp_path / "1", lambda x: {"y": jitted(x)}, NUMBERS)
        (directory / "keras_bert_layers.json").write_text(json.dumps({"format": 1, "target": target}))
        (finding,) = [finding for finding in check(directory) if "XLA" in finding.problem]
        assert finding.severity == severity
        assert "--xla_gpu_compilation_enabled" in finding.fix or target == "cpu"


class TestWeights:
    def test_stored_twice(self, tmp_path):
        values = np.random.default_rng(0).normal(size=(2, 64)).astype("float32")
        one, two = tf.Variable(values), tf.Variable(values)
        directory = save(tmp_path / "1", lambda x: {"y": x @ one + x @ two}, NUMBERS, one, two)
        (error,) = errors(directory)
        assert "1 weights (0.0 MB) are stored twice" in error

    def test_keras_own_export(self, tmp_path, sound_model):
        """Which stores each weight twice (keras issue 23553)."""
        sound_model[0].export(str(tmp_path / "1"), verbose=False)
        (error,) = [error for error in errors(tmp_path / "1") if "stored twice" in error]
        assert "and not with Keras's `model.export`" in error

    def test_equal_constants_may_be(self, tmp_path):
        zeros = [tf.Variable(tf.zeros([2, 64])) for _ in range(2)]
        directory = save(tmp_path / "1", lambda x: {"y": x @ zeros[0] + x @ zeros[1]}, NUMBERS, *zeros)
        assert errors(directory) == []

    def test_weights_that_cannot_be_read(self, export):
        (export / "variables/variables.index").write_bytes(b"nothing")
        assert any("variables/: The weights cannot be read" in error for error in errors(export))


class TestFiles:
    def test_a_link_out_of_the_directory(self, export, tmp_path):
        (tmp_path / "vocab.txt").write_text("[PAD]")
        (export / "assets").mkdir(exist_ok=True)
        os.symlink(tmp_path / "vocab.txt", export / "assets/vocab.txt")
        (error,) = errors(export)
        assert error.startswith("error: assets/vocab.txt: It is a link to a file outside the directory")

    def test_a_path_in_the_graph(self, tmp_path):
        (tmp_path / "words.txt").write_text("a")
        path = str(tmp_path / "words.txt")

        def serve(x):
            return {"y": x + tf.cast(tf.strings.length(tf.io.read_file(path)), "float32")}

        named, read = errors(save(tmp_path / "1", serve, NUMBERS))
        assert "The operation ReadFile (1 of them) may touch files outside the export" in named + read
        assert f"The graph names a file outside the directory, {path!r}" in named + read

    @pytest.mark.parametrize("name", ["../../words.txt", "gone.txt"])
    def test_an_asset_that_is_not_there(self, name, tmp_path):
        (tmp_path / "words.txt").write_text("a")
        asset = tf.saved_model.Asset(str(tmp_path / "words.txt"))
        directory = save(
            tmp_path / "1",
            lambda x: {"y": x + tf.cast(tf.strings.length(tf.io.read_file(asset)), "float32")},
            NUMBERS,
            asset,
        )
        assert errors(directory) == []
        path = directory / "saved_model.pb"
        saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
        saved_model.meta_graphs[0].asset_file_def[0].filename = name
        path.write_bytes(saved_model.SerializeToString())
        (error,) = errors(directory)
        assert f"assets/{name}: The asset" in error

    @pytest.mark.parametrize(
        ("content", "message"), [(None, "There is no such file"), (b"nothing", "The file is broken"), (b"", "No graph")]
    )
    def test_a_graph_that_is_not_there(self, content, message, export):
        path = export / "saved_model.pb"
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        (error,) = errors(export)
        assert message in error

    def test_the_directory_of_the_versions(self, export):
        (error,) = errors(export.parent)
        assert f"Check a directory in it: {export.name}." in error


class TestBatching:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("max_batch_size: 4", "The server cannot read it"),
            ("max_batch_size { value: 8 }\nallowed_batch_sizes: [1, 4]", "must ascend and end in max_batch_size, 8"),
            ("max_batch_size { value: 1 }\nallowed_batch_sizes: [4, 1]", "must ascend and end in max_batch_size"),
            ("max_batch_size { value: 2 }\nallowed_batch_sizes: [1, 2]", "are not those that the export was made for"),
            (
                "max_batch_size { value: 4 }\nallowed_batch_sizes: [1, 4]\nnum_batch_threads { value: 0 }",
                "num_batch_threads is below 1",
            ),
        ],
    )
    def test_file(self, content, message, export):
        (export / "batching_params.pbtxt").write_text(content)
        assert any(message in error for error in errors(export))

    def test_a_response_over_4_mb(self, tmp_path):
        wide = tf.ones([2, 16_384])
        directory = save(tmp_path / "1", lambda x: {"y": x @ wide}, NUMBERS)
        (directory / "keras_bert_layers.json").write_text(json.dumps({"format": 1, "allowed_batch_sizes": [1, 64]}))
        write_batching(directory, [1, 64])
        assert not [warning for warning in warnings(directory) if "4 MB" in warning]
        (directory / "keras_bert_layers.json").write_text(json.dumps({"format": 1, "allowed_batch_sizes": [1, 65]}))
        write_batching(directory, [1, 65])
        (warning,) = [warning for warning in warnings(directory) if "4 MB" in warning]
        assert "A batch of 65 answers with 4.1 MB" in warning
        assert "max_response_bytes" in warning

    def test_the_size_of_unknown_dimensions_is_that_of_the_longest_sequence(self, tmp_path):
        directory = save(tmp_path / "1", lambda x: {"y": x[:, :, None] * tf.ones([1, 1, 256])},
                         tf.TensorSpec([None, None], tf.float32, "x"))  # fmt: skip
        output = {"shape": [1, 2, 256], "values": [1.0], "stride": 512, "tolerance": 0.0}
        # Without inputs it is not run, which costs a process.
        golden = {"inputs": {}, "outputs": {"y": output}}
        card = {"format": 1, "allowed_batch_sizes": [16], "golden": {"serving_default": golden}}
        (directory / "keras_bert_layers.json").write_text(json.dumps(card | {"sequence_length": 512}))
        assert any("answers with 8.0 MB" in warning for warning in warnings(directory))


class TestWarmup:
    @pytest.mark.parametrize(
        ("record", "message"),
        [
            (lambda: b"nothing", "It is broken"),
            (lambda: warmup_record({"text": tf.constant(["a"])}, "embed"), "There is no signature 'embed'"),
            (lambda: warmup_record({"x": tf.constant(["a"])}), "It gives ['x'] to 'serving_default', which takes"),
            (lambda: warmup_record({"text": tf.constant([1.0])}), "Its input 'text' is DT_FLOAT"),
            (lambda: warmup_record({"text": tf.constant([["a"]])}), "has the shape [1, 1], and [None] is expected"),
        ],
    )
    def test_a_broken_record(self, record, message, export):
        write_warmup(export, [warmup_record({"text": tf.constant(["a"])}), record()])
        (error,) = errors(export)
        assert "tf_serving_warmup_requests, record 2: " in error
        assert message in error
        assert "refuses the version" in error

    def test_a_file_that_ends_too_early(self, export):
        path = export / "assets.extra/tf_serving_warmup_requests"
        path.write_bytes(path.read_bytes()[:-3])
        (error,) = errors(export)
        assert "not a TFRecord of a PredictionLog" in error

    @pytest.mark.parametrize(("count", "found"), [(1000, False), (1001, True)])
    def test_too_many(self, count, found, export):
        write_warmup(export, [warmup_record({"text": tf.constant(["a"])})] * count)
        assert any(f"{count} records are more than the 1000" in error for error in errors(export)) == found


class TestCard:
    def test_a_changed_vocabulary(self, export, vocabulary):
        for change in (
            {"size": len(vocabulary), "sha256": "0" * 64},
            {"size": len(vocabulary) + 1, "sha256": "0" * 64},
        ):
            change_card(export, vocabulary=change)
            (error,) = errors(export)
            assert "is not the one that the export was made with" in error
            assert "every answer is wrong" in error

    def test_the_card_of_another_export(self, sound, another, tmp_path, vocabulary):
        """The graph of one export under the card of another."""
        directory = shutil.copytree(another, tmp_path / "1")
        shutil.copy(sound / "keras_bert_layers.json", directory / "keras_bert_layers.json")
        found = errors(directory)
        assert len(found) == 3
        assert any(f"The vocabulary in the graph ({len(vocabulary)} tokens)" in error for error in found)
        assert sum("It differs from what the export answered when it was made by" in error for error in found) == 2

    @pytest.mark.parametrize(
        ("tokens", "options"), [([], {"special_tokens_in_text": True}), (["no word", "##"], {}), (["é", "##中"], {})]
    )
    def test_every_vocabulary_can_be_read_back(self, tokens, options, tmp_path, vocabulary):
        make_export(tmp_path / "1", [*vocabulary, *tokens], **options)
        change_card(tmp_path / "1", golden={})
        assert errors(tmp_path / "1") == []
        change_card(tmp_path / "1", vocabulary={"size": len(vocabulary) + len(tokens) + 1, "sha256": "0" * 64})
        (error,) = errors(tmp_path / "1")
        assert f"The vocabulary in the graph ({len(vocabulary) + len(tokens)} tokens)" in error

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"format": 2}, "Its format is 2, and this version of keras_bert_layers reads 1"),
            ({"ops": ["MatMul"]}, "Its list of operations is not that of the graph"),
            ({"signatures": {}}, "It describes the signatures [], and the graph has ['serving_default']"),
        ],
    )
    def test_of_another_graph(self, changes, message, export):
        change_card(export, **changes)
        (error,) = errors(export)
        assert message in error

    @pytest.mark.parametrize("content", ["{", "[1]"])
    def test_that_is_no_json(self, content, export):
        (export / "keras_bert_layers.json").write_text(content)
        assert any("The card is not " in error for error in errors(export))


class TestCommandLine:
    def test_passes(self, export):
        result = CliRunner().invoke(main, ["check", str(export), "--server", "2.19.0"])
        assert result.exit_code == 0, result.output
        assert "no errors, 1 warnings" in result.output

    def test_fails(self, export):
        change_card(export, format=2)
        result = CliRunner().invoke(main, ["check", str(export)])
        assert result.exit_code == 1
        assert "error: keras_bert_layers.json: Its format is 2" in result.output
        assert "1 errors" in result.output

    def test_unknown_server(self, export):
        result = CliRunner().invoke(main, ["check", str(export), "--server", "1.0"])
        assert result.exit_code == 2
        assert "from 2.13 to 2.20" in result.output

    def test_is_installed_with_the_package(self):
        setup = (pathlib.Path(kbl.__file__).parents[1] / "setup.cfg").read_text()
        assert "keras-bert-layers = keras_bert_layers.cli:main" in setup
