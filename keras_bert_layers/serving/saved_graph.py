"""The graph of a SavedModel: read, written and walked through, the functions inside it included."""

import pathlib
from collections.abc import Iterator

from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.core.protobuf import saved_model_pb2

from keras_bert_layers.serving.export_files import SAVED_MODEL


def read_saved_model(directory: pathlib.Path) -> saved_model_pb2.SavedModel:
    """Reads the graphs of a SavedModel.

    Raises:
        google.protobuf.message.DecodeError: for a damaged file.
        OSError: where it cannot be read.
    """
    return saved_model_pb2.SavedModel.FromString((directory / SAVED_MODEL).read_bytes())


def write_saved_model(directory: pathlib.Path, saved_model: saved_model_pb2.SavedModel) -> None:
    """Writes the graphs of a SavedModel."""
    (directory / SAVED_MODEL).write_bytes(saved_model.SerializeToString(deterministic=True))


def nodes(graph: graph_pb2.GraphDef) -> Iterator[tuple[str, node_def_pb2.NodeDef]]:
    """Every node of a graph with the function that it is in; "" for the graph itself."""
    for node in graph.node:
        yield "", node
    for function in graph.library.function:
        for node in function.node_def:
            yield function.signature.name, node


def function_names(graph: graph_pb2.GraphDef) -> set[str]:
    """The functions that a graph brings with it."""
    return {function.signature.name for function in graph.library.function}


def operations(graph: graph_pb2.GraphDef) -> set[str]:
    """TensorFlow's operations in a graph and its functions."""
    return {node.op for _, node in nodes(graph)} - function_names(graph)


def node_name(tensor: str) -> str:
    """The node that makes a tensor, of what stands among the inputs of a node.

    Example:

    >>> node_name("layer/MatMul:product:0"), node_name("^Assert")
    ('layer/MatMul', 'Assert')
    """
    return tensor.removeprefix("^").split(":")[0]
