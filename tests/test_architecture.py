"""The arrows between the parts point one way (docs/architecture.md), read from the imports."""

import ast
import pathlib
from collections.abc import Iterator

import pytest

import keras_bert_layers

ROOT = pathlib.Path(keras_bert_layers.__file__).parent
PACKAGE = "keras_bert_layers"
FILES = {str(file.relative_to(ROOT)): ast.parse(file.read_text(encoding="utf-8")) for file in ROOT.rglob("*.py")}

# A part -> what it may import besides itself and `FOUNDATION`: parts, or single modules of them.
FOUNDATION = {"keras_compatibility", "atomic_directory", "local_path", "token_inputs"}
BELOW = {"checkpoints", "encoders", "layers", "tasks", "text", "training"}
ARROWS = {
    "keras_compatibility": set(),
    "atomic_directory": set(),
    "local_path": set(),
    "token_inputs": set(),
    "checkpoints": set(),
    "layers": set(),
    "text": {
        "checkpoints.bert_config",
        "checkpoints.checkpoint_file",
        "checkpoints.json_file",
        "checkpoints.source",
        "checkpoints.tfhub_saved_model",
    },
    "encoders": {"checkpoints", "layers"},
    "training": {"encoders", "layers"},
    "tasks": {"checkpoints", "encoders", "layers", "text"},
    "serving": BELOW,
    "analysis": BELOW,
    "cli": BELOW | {"analysis", "serving"},
    # The public names.
    "__init__": BELOW | {"analysis", "serving"},
}
# The only modules that may import these.
OPTIONAL_PACKAGES = {
    "transformers": {"encoders/huggingface_encoder.py"},
    "tensorflow_hub": {"checkpoints/tfhub_saved_model.py"},
    "tensorflow_serving": set(),
    "tf_keras": set(),
    "torch": set(),
    "grpc": {"serving/grpc_transport.py"},
    "httpx": {"serving/rest_transport.py"},
}


def part_of(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def imported_modules(file: str, tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Every module that a file imports, wherever in it, with its full name."""
    package = [PACKAGE, *file.split("/")[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                module = ".".join([*package[: len(package) - node.level + 1], *([module] if module else [])])
            # `from package import module` imports a module too.
            for alias in node.names:
                full = f"{module}.{alias.name}"
                yield (full if is_module(full) else module), node


def is_module(name: str) -> bool:
    first, *rest = name.split(".")
    path = ROOT.joinpath(*rest)
    return first == PACKAGE and (path.is_dir() or path.with_suffix(".py").is_file())


def wrong_arrows(file: str, tree: ast.AST) -> list[str]:
    """The imports of a file that its part may not have."""
    part = part_of(file)
    allowed = ARROWS[part] | FOUNDATION | {part}
    wrong = []
    for module, _ in imported_modules(file, tree):
        if module == PACKAGE or module.startswith(f"{PACKAGE}."):
            inner = module.removeprefix(PACKAGE).removeprefix(".")
            if not any(inner == name or inner.startswith(f"{name}.") for name in allowed):
                wrong.append(module)
    return wrong


def test_every_part_has_its_place():
    assert {part_of(file) for file in FILES} <= set(ARROWS)


@pytest.mark.parametrize("file", sorted(FILES))
def test_arrows_point_one_way(file):
    assert wrong_arrows(file, FILES[file]) == []


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("layers/a.py", "from keras_bert_layers.encoders.bert_encoder import BertEncoder", ["encoders.bert_encoder"]),
        ("layers/a.py", "import keras_bert_layers.text.packing", ["text.packing"]),
        ("layers/a.py", "def f():\n    from keras_bert_layers.checkpoints import source", ["checkpoints.source"]),
        ("layers/a.py", "from ..serving import export_saved_model", ["serving.export_saved_model"]),
        ("layers/a.py", "from .layer_selection import select_layers", []),
        ("layers/a.py", "import keras_bert_layers", [""]),
        ("layers/a.py", "from keras_bert_layers import BertEncoder", [""]),
        ("layers/a.py", "from keras_bert_layers.keras_compatibility import check_keras", []),
        ("checkpoints/a.py", "from keras_bert_layers.layers.layer_selection import x", ["layers.layer_selection"]),
        ("text/a.py", "from keras_bert_layers.checkpoints.source import find_checkpoint", []),
        ("text/a.py", "from keras_bert_layers.checkpoints import source", []),
        ("text/a.py", "from keras_bert_layers.checkpoints.checkpoint import read", ["checkpoints.checkpoint"]),
        ("text/a.py", "from keras_bert_layers import checkpoints", ["checkpoints"]),
        ("encoders/a.py", "from keras_bert_layers.layers.layer_selection import select_layers", []),
        ("encoders/a.py", "from keras_bert_layers.text.packing import pack", ["text.packing"]),
        ("serving/a.py", "from keras_bert_layers.analysis.probes import probe", ["analysis.probes"]),
    ],
)  # fmt: skip
def test_wrong_arrows_are_seen(file, source, expected):
    assert wrong_arrows(file, ast.parse(source)) == [f"{PACKAGE}.{name}".rstrip(".") for name in expected]


@pytest.mark.parametrize("package", OPTIONAL_PACKAGES)
def test_optional_packages_are_imported_late_and_in_one_place(package):
    for file, tree in FILES.items():
        for module, node in imported_modules(file, tree):
            if module.split(".")[0] == package:
                assert file in OPTIONAL_PACKAGES[package]
                # Not when the module is imported: inside a function.
                functions = [other for other in ast.walk(tree) if isinstance(other, ast.FunctionDef)]
                assert any(node in ast.walk(function) for function in functions)


def test_no_drawer_for_odds_and_ends():
    assert not [file for file in FILES if pathlib.Path(file).stem in ("utils", "util", "helpers", "misc", "common")]


@pytest.mark.parametrize("file", sorted(file for file in FILES if part_of(file) != "cli"))
def test_the_library_does_not_print(file):
    calls = [node for node in ast.walk(FILES[file]) if isinstance(node, ast.Call)]
    assert not [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]


def test_every_folder_is_a_package():
    """Or the wheel leaves it out."""
    folders = {file.parent for file in ROOT.rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)
