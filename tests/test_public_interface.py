"""What `import keras_bert_layers` gives, what it imports, and the set-ups in which it refuses to run."""

import ast
import dataclasses
import importlib.util
import inspect
import json
import os
import pathlib
import re
import sys
import types

import keras
import pytest

import keras_bert_layers as kbl
from keras_bert_layers.keras_compatibility import check_keras

from .fresh_process import run_in_fresh_process

PUBLIC_NAMES = {
    "BertConfig",
    "BertEncoder",
    "BertPreprocessor",
    "BertTokenizer",
    "HuggingFaceEncoder",
    "LayerCombination",
    "SentencePieceTokenizer",
    "SequencePooling",
    "TFHubEncoder",
    "TFHubPreprocessor",
    "WindowedEncoder",
    "WordPooling",
    "align_labels",
    "bucket_by_length",
    "export_saved_model",
    "save_pretrained",
}
LAYERS = [
    value
    for value in (getattr(kbl, name) for name in sorted(PUBLIC_NAMES))
    if isinstance(value, type) and issubclass(value, keras.layers.Layer)
]
HAS_TF_KERAS = importlib.util.find_spec("tf_keras") is not None


def arguments(function):
    """The names of a function's or a constructor's own arguments."""
    parameters = inspect.signature(function).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [parameter.name for parameter in parameters if parameter.kind not in variadic]


class TestNames:
    def test_are_exactly_these(self):
        assert set(kbl.__all__) == PUBLIC_NAMES
        assert sorted(kbl.__all__) == kbl.__all__

    def test_nothing_else_is_public(self):
        others = {name for name in dir(kbl) if not name.startswith("_")} - PUBLIC_NAMES
        strangers = [
            name
            for name in others
            if not isinstance(getattr(kbl, name), types.ModuleType)
            or getattr(kbl, name).__name__ != f"keras_bert_layers.{name}"
        ]
        assert strangers == []

    @pytest.mark.parametrize("name", sorted(PUBLIC_NAMES))
    def test_each_lives_in_the_file_that_is_named_after_it(self, name):
        module = getattr(kbl, name).__module__.split(".")[-1]
        assert module.replace("_", "") == name.replace("_", "").lower()

    def test_type_checkers_know_that_the_package_is_typed(self):
        assert (pathlib.Path(kbl.__file__).parent / "py.typed").is_file()

    def test_every_layer_has_a_name_in_files(self):
        for layer in LAYERS:
            assert keras.saving.get_registered_name(layer) == f"keras_bert_layers>{layer.__name__}"


class TestDocstrings:
    @pytest.mark.parametrize("name", sorted(PUBLIC_NAMES))
    def test_say_all_arguments_and_show_an_example(self, name):
        value = getattr(kbl, name)
        documentation = inspect.getdoc(value)
        assert not documentation.startswith(f"{name}("), "is what `dataclass` writes"
        section = documentation.split("Args:\n")[1].split("\n\n")[0]
        for argument in arguments(value):
            assert re.search(rf"^ {{4}}(\w+, )*{argument}(, \w+)*:", section, re.MULTILINE), f"{argument} of {name}"
        assert ">>> " in documentation or "```python" in documentation

    @pytest.mark.parametrize("name", [name for name in sorted(PUBLIC_NAMES) if isinstance(getattr(kbl, name), type)])
    def test_public_methods_have_one(self, name):
        value = getattr(kbl, name)
        keras_names = set(dir(keras.layers.Layer)) | {"build", "call", "from_config"}
        fields = {field.name for field in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else set()
        for owner in value.__mro__:
            if not owner.__module__.startswith("keras_bert_layers"):
                continue
            for method, function in vars(owner).items():
                if not (callable(function) or isinstance(function, (classmethod, property))):
                    continue
                if method.startswith("_") or method in keras_names | fields:
                    continue
                documentation = inspect.getdoc(getattr(value, method))
                assert documentation, f"{owner.__name__}.{method}"


_IMPORTED = """
import json, os, sys
import huggingface_hub, keras, numpy, safetensors, tensorflow, tensorflow_text
before = {name.split(".")[0] for name in sys.modules}
import keras_bert_layers
after = {name.split(".")[0] for name in sys.modules}
print(json.dumps({
    "modules": sorted(after),
    "new": sorted(after - before),
    "legacy": os.environ["TF_USE_LEGACY_KERAS"],
}))
"""


def test_import_leaves_the_optional_packages_alone(tmp_path):
    """And the settings that are Keras 3 on TensorFlow are taken, however they are said."""
    variables = {"TF_USE_LEGACY_KERAS": "0", "KERAS_BACKEND": "tensorflow"}
    result = json.loads(run_in_fresh_process(_IMPORTED, cwd=tmp_path, variables=variables).stdout)
    assert {"keras", "keras_bert_layers", "tensorflow", "tensorflow_text"} <= set(result["modules"])
    optional = {
        "transformers",
        "tensorflow_hub",
        "tensorflow_serving",
        "tf_keras",
        "torch",
        "jax",
        "matplotlib",
        "pandas",
        "sklearn",
        "pytest",
    }
    # What TensorFlow and Keras import by themselves where it is installed is not ours: Keras takes pandas, scikit-learn
    # and matplotlib.
    assert optional & set(result["new"]) == set()
    assert result["legacy"] == "0"


class TestKerasSetup:
    @pytest.fixture(autouse=True)
    def clean_environment(self, monkeypatch):
        for name in ("TF_USE_LEGACY_KERAS", "KERAS_BACKEND"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.delitem(sys.modules, "transformers", raising=False)

    @pytest.mark.parametrize(
        ("variables", "message"),
        [
            (
                {"TF_USE_LEGACY_KERAS": "1"},
                "tf_keras, in whose models a Keras 3 layer has no weights and never trains. "
                "Received: TF_USE_LEGACY_KERAS=1. Unset the variable",
            ),
            (
                {"KERAS_BACKEND": "jax"},
                "expects Keras to run on TensorFlow: its tokenizer, its encoders and its exports are TensorFlow "
                "graphs. Received: KERAS_BACKEND=jax. Set the environment variable KERAS_BACKEND=tensorflow",
            ),
        ],
        ids=["legacy", "jax"],
    )
    def test_the_import_itself_is_refused(self, variables, message, tmp_path):
        program = "import keras_bert_layers"
        result = run_in_fresh_process(program, cwd=tmp_path, variables=variables, check=False)
        assert result.returncode != 0
        error = result.stderr.strip().splitlines()[-1]
        assert error.startswith("ImportError: keras_bert_layers")
        assert message in error

    @pytest.mark.parametrize("value", ["1", "true", "True"])
    def test_every_spelling_of_legacy_keras(self, value, monkeypatch):
        monkeypatch.setenv("TF_USE_LEGACY_KERAS", value)
        with pytest.raises(ImportError, match=rf"legacy\s+tf_keras.*Received: TF_USE_LEGACY_KERAS={value}\. Unset"):
            check_keras()

    @pytest.mark.parametrize("value", ["", "0", "false", "False"])
    def test_legacy_keras_that_is_off(self, value, monkeypatch):
        monkeypatch.setenv("TF_USE_LEGACY_KERAS", value)
        check_keras()

    def test_transformers_sets_the_variable_for_itself(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", types.ModuleType("transformers"))
        monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
        check_keras()

    @pytest.mark.parametrize("variable", ["", "tensorflow", None])
    def test_backend_of_a_keras_that_is_imported_already(self, variable, monkeypatch):
        """The variable may say TensorFlow when it is too late, and the file keras.json says it without a variable."""
        if variable is not None:
            monkeypatch.setenv("KERAS_BACKEND", variable)
        check_keras()
        monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
        with pytest.raises(ImportError, match=r"KERAS_BACKEND=torch\. Set the environment.*~/\.keras/keras\.json"):
            check_keras()


class TestLegacyTensors:
    """A Keras 3 layer in a model of tf_keras has no weights and never trains, without a word."""

    @pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
    def test_every_layer_checks_its_own_calls(self, layer):
        assert layer.__call__ is not keras.layers.Layer.__call__

    @pytest.mark.skipif(not HAS_TF_KERAS, reason="needs tf_keras")
    @pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
    @pytest.mark.parametrize("structure", ["tensor", "list", "tuple", "dict"])
    def test_are_refused_by_every_layer(self, layer, structure):
        import tf_keras

        tensor = tf_keras.Input((None, 4), name="legacy")
        inputs = {
            "tensor": tensor,
            "list": [tensor, tensor],
            "tuple": (keras.Input((None, 4)), tensor),
            "dict": {"input_word_ids": tensor},
        }[structure]
        # Without a constructor, which for the wrapping layers needs something to wrap: the refusal needs nothing else.
        instance = layer.__new__(layer)
        parameters = list(inspect.signature(layer.__call__).parameters.values())[2:]
        required = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        others = [keras.Input((None,), dtype="int32") for _ in required]
        with pytest.raises(
            TypeError,
            match=rf"{layer.__name__} is a Keras 3 layer and expects Keras 3 inputs.*have no weights and never train\. "
            r"Received: inputs=.*\(of type tf_keras\..*KerasTensor\)\. Build the model with `import keras`",
        ):
            instance(inputs, *others)

    @pytest.mark.skipif(not HAS_TF_KERAS, reason="needs tf_keras")
    def test_are_refused_by_a_real_layer_in_a_real_model(self):
        import tf_keras

        config = kbl.BertConfig(
            vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4
        )
        encoder = kbl.BertEncoder(config)
        with pytest.raises(TypeError, match=r"BertEncoder is a Keras 3 layer"):
            encoder({"input_word_ids": tf_keras.Input((5,), dtype="int32")})
        # An eager result of a tf_keras model is a plain tensor, and welcome.
        states = tf_keras.layers.Dense(4)(keras.ops.ones((2, 3, 4)))
        assert kbl.SequencePooling("mean")(states, mask=[[1, 1, 1]] * 2).shape == (2, 4)


def test_the_readme_names_only_what_is_public():
    readme = pathlib.Path(kbl.__file__).parents[1] / "README.md"
    if not readme.is_file():
        pytest.skip("the package is installed without its repository")
    used = set(re.findall(r"\bkbl\.([A-Za-z_]\w*)", readme.read_text(encoding="utf-8")))
    assert used
    assert used <= PUBLIC_NAMES | {"analysis", "serving", "tasks"}


def test_all_is_a_literal():
    """So that type checkers and readers can tell it without running anything."""
    tree = ast.parse(pathlib.Path(kbl.__file__).read_text(encoding="utf-8"))
    assigned = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"]
    assert [ast.literal_eval(value) for value in assigned] == [kbl.__all__]
    assert os.path.basename(kbl.__file__) == "__init__.py"
