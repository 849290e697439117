import math
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.framework import graph_pb2, node_def_pb2, tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from keras_bert_layers.serving.card_schema import read_card
from keras_bert_layers.serving.check.tensor_fault import is_dtype, tensor_fault
from keras_bert_layers.serving.export_files import BATCHING, CARD, SAVED_MODEL, VARIABLES, WARMUP
from keras_bert_layers.serving.finding import Finding
from keras_bert_layers.serving.saved_graph import nodes, read_saved_model

EXPORT_AGAIN = "Export the model again with `export_saved_model`."

# What must be files and not folders.
_FILES = (SAVED_MODEL, CARD, BATCHING, WARMUP, f"{VARIABLES}.index")
_MAX_TEXT = 600


class Export:
    """An export as the checks see it: what is read of it once, and what was found.

    Args:
        directory: the SavedModel.
        server: the version of TensorFlow Serving.
        version: the name of the directory that it is served from.
        run: whether the graph may be run.

    Attributes:
        findings: what was found so far.
        card: as `read_card` gives it; empty where there is none that can be used.
        meta_graph: the graph that a server loads.
        may_run: `run`, until something was found for which nobody should run the graph.
    """

    def __init__(self, directory: pathlib.Path, server: str, version: str, run: bool):
        self.directory = directory
        self.server = server
        self.version = version
        self.findings: list[Finding] = []
        self.card: dict[str, Any] = {}
        self.meta_graph = meta_graph_pb2.MetaGraphDef()
        self.may_run = run

    def error(self, where: str, problem: str, fix: str) -> None:
        self.findings.append(Finding("error", _printable(problem), _printable(fix), _printable(where)))

    def warning(self, where: str, problem: str, fix: str) -> None:
        self.findings.append(Finding("warning", _printable(problem), _printable(fix), _printable(where)))

    def refuse(self, where: str, problem: str, fix: str) -> None:
        """An error for which the graph is not run."""
        self.may_run = False
        self.error(where, f"{problem} `check` did not run the graph.", fix)

    def read(self) -> bool:
        """Reads graph and card; whether there is anything that can be checked."""
        if not self._has_only_files() or not self._read_graph():
            return False
        self._read_card()
        return True

    def _has_only_files(self) -> bool:
        """Whether nothing would be waited for, or never end, when it is read."""
        if not os.path.isdir(self.directory):
            self.error(
                str(self.directory), "There is no such directory.", "Give the directory that holds saved_model.pb."
            )
            return False
        for root, folders, files in os.walk(self.directory):
            for name in [".", *folders, *files] if root == str(self.directory) else folders + files:
                path = pathlib.Path(root, name)
                where = str(path.relative_to(self.directory))
                if not os.path.exists(path):
                    self.error(
                        where, "It is a link that leads nowhere.", "Copy what it should lead to into the export."
                    )
                    return False
                if not (os.path.isdir(path) and where not in _FILES) and not os.path.isfile(path):
                    self.error(
                        where,
                        "It is not a file but a folder or something else that a server cannot read (a pipe, a device).",
                        "Remove it, or put the file there.",
                    )
                    return False
                if not os.access(path, os.R_OK | (os.X_OK if os.path.isdir(path) else 0)):
                    self.error(where, "You may not read it.", "Give your user, and the server's, the right to read it.")
                    return False
        return True

    def _read_graph(self) -> bool:
        path = self.directory / SAVED_MODEL
        if not path.exists():
            versions = sorted(path.parent.name for path in self.directory.glob(f"*/{SAVED_MODEL}"))
            fix = f"Check a directory in it: {', '.join(versions)}." if versions else EXPORT_AGAIN
            self.error(path.name, "There is no such file, and the server finds no version to load.", fix)
            return False
        try:
            saved_model = read_saved_model(self.directory)
        except DecodeError:
            self.error(path.name, "The file is broken, and the server cannot load it.", EXPORT_AGAIN)
            return False
        graphs = [graph for graph in saved_model.meta_graphs if set(graph.meta_info_def.tags) == {"serve"}]
        if not graphs:
            self.error(path.name, "No graph has the tag 'serve' alone, which the server loads.", EXPORT_AGAIN)
            return False
        self.meta_graph = graphs[0]
        if not self.signatures:
            self.error(path.name, "There are no signatures, and the server has nothing to run.", EXPORT_AGAIN)
        for where, fault in self._broken_tensors():
            self.error(where, f"{fault} The file is broken, and the server cannot load it.", EXPORT_AGAIN)
            return False
        return True

    def _broken_tensors(self) -> Iterator[tuple[str, str]]:
        """What the graph says of its tensors and cannot be."""
        for signature_name, signature in self.signatures.items():
            for name, tensor in (*signature.inputs.items(), *signature.outputs.items()):
                where = f"signature {signature_name}, {name}"
                if not is_dtype(tensor.dtype):
                    yield where, f"Its dtype has the number {tensor.dtype}, which no dtype has."
                sizes = [dim.size for dim in tensor.tensor_shape.dim]
                if min(sizes, default=0) < -1 or math.prod(map(abs, sizes)) >= 2**63:
                    yield where, f"Its shape is {shape_of(tensor)}."
        for where, constant in self.constants():
            if not is_dtype(constant.dtype):
                yield where, f"The dtype of the constant has the number {constant.dtype}, which no dtype has."
            elif fault := tensor_fault(constant):
                yield where, f"The constant has {fault}."

    def _read_card(self) -> None:
        path = self.directory / CARD
        if not path.exists():
            self.warning(
                CARD,
                "There is no card: golden example, vocabulary and batch sizes were not checked.",
                "Export with `keras_bert_layers.export_saved_model`, which writes one.",
            )
            return
        try:
            self.card = read_card(path)
        except ValueError as error:
            newer = str(error).startswith("Its format")
            self.error(CARD, str(error), "Check it with the version that wrote it." if newer else EXPORT_AGAIN)

    @property
    def signatures(self) -> dict[str, meta_graph_pb2.SignatureDef]:
        # TensorFlow's own, which initialises, has no inputs to call it with.
        return {
            name: signature for name, signature in self.meta_graph.signature_def.items() if not name.startswith("__")
        }

    @property
    def graph(self) -> graph_pb2.GraphDef:
        return self.meta_graph.graph_def

    def nodes(self) -> Iterator[tuple[str, node_def_pb2.NodeDef]]:
        """Every node, with where it stands in words."""
        for function, node in nodes(self.graph):
            yield f"{node.name} in {function}" if function else node.name, node

    def constants(self) -> Iterator[tuple[str, tensor_pb2.TensorProto]]:
        """Every constant, with where it stands in words."""
        for where, node in self.nodes():
            if node.op == "Const":
                yield where, node.attr["value"].tensor

    def sentence_piece_models(self) -> Iterator[bytes]:
        for _, node in self.nodes():
            if node.op == "SentencepieceOp":
                yield node.attr["model"].s

    def embedding_rows(self, table: str) -> set[int]:
        """How many rows the embedding tables of a kind have: `"word"` or `"position"`."""
        pattern = re.compile(rf"{table}_embeddings?\b(?!.*_scale)")
        variables = [
            node.variable for node in self.meta_graph.object_graph_def.nodes if node.WhichOneof("kind") == "variable"
        ]
        return {v.shape.dim[0].size for v in variables if pattern.search(v.name) and len(v.shape.dim) == 2}


def shape_of(tensor: meta_graph_pb2.TensorInfo) -> list[int | None]:
    return [None if dim.size == -1 else dim.size for dim in tensor.tensor_shape.dim]


def _printable(text: str) -> str:
    """One line without control characters, whatever a file calls its nodes."""
    if len(text) > _MAX_TEXT:
        text = f"{text[: _MAX_TEXT // 2]}...{text[-_MAX_TEXT // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
