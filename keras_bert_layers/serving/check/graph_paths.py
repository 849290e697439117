"""Ways through a graph and its functions: what is reached from where, and where a tensor comes from."""

from collections.abc import Iterable, Iterator

from tensorflow.core.framework import node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from keras_bert_layers.serving.saved_graph import node_name, nodes

# A function's name, or "" for the graph itself; and a node's name.
Place = tuple[str, str]

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


class GraphPaths:
    """The graph of a SavedModel as a net of nodes, those of its functions included.

    Args:
        meta_graph: the graph with its functions, and with the objects that Python loads.
    """

    def __init__(self, meta_graph: meta_graph_pb2.MetaGraphDef):
        self._meta_graph = meta_graph
        self._objects = meta_graph.object_graph_def
        self._functions = {function.signature.name: function for function in meta_graph.graph_def.library.function}
        # By function, "" for the graph itself, and by name.
        self._nodes: dict[str, dict[str, node_def_pb2.NodeDef]] = {name: {} for name in ("", *self._functions)}
        for scope, node in nodes(meta_graph.graph_def):
            self._nodes[scope][node.name] = node
        self._assets = {node_name(asset.tensor_info.name) for asset in meta_graph.asset_file_def}
        self._callers: dict[str, list[Place]] = {}
        for scope, inside in self._nodes.items():
            for name, node in inside.items():
                for called in self._called(node):
                    self._callers.setdefault(called, []).append((scope, name))

    def reached_by_requests(self) -> set[Place]:
        """What runs for a signature, when a server starts, or when Python calls or restores the objects."""
        signatures = self._meta_graph.signature_def.values()
        tensors = [tensor.name for signature in signatures for tensor in signature.outputs.values()]
        for collection in self._meta_graph.collection_def.values():
            tensors += collection.node_list.value
        return self._reached(map(node_name, tensors), self._objects.concrete_functions)

    def reached_by_restoring(self) -> set[Place]:
        """What runs when the variables are read."""
        return self._reached([node_name(self._meta_graph.saver_def.restore_op_name)], [])

    def comes_from_assets(self, place: Place, number: int) -> bool:
        """Whether an input of a node, a file name, can be nothing but that of an asset of the SavedModel."""
        scope, name = place
        pending = [(scope, self._nodes[scope][name].input[number])]
        seen = set()
        while pending:
            scope, tensor = pending.pop()
            if (scope, tensor) in seen:
                continue
            seen.add((scope, tensor))
            name = node_name(tensor)
            node = self._nodes[scope].get(name)
            arguments = [argument.name for argument in self._functions[scope].signature.input_arg] if scope else []
            if name in arguments:
                values = self._argument_values(scope, arguments.index(name), len(arguments))
            elif not scope and name in self._assets:
                values = []
            elif node is not None and node.op == "Identity":
                values = [(scope, node.input[0])]
            elif node is not None and node.op == "ReadVariableOp" and not scope:
                values = self._assigned(node_name(node.input[0]))
            else:
                values = None
            if values is None:
                return False
            pending += values
        return True

    def _called(self, node: node_def_pb2.NodeDef) -> Iterator[str]:
        if node.op in self._functions:
            yield node.op
        for attribute in node.attr.values():
            for function in (attribute.func, *attribute.list.func):
                if function.name in self._functions:
                    yield function.name

    def _reached(self, names: Iterable[str], functions: Iterable[str]) -> set[Place]:
        pending = [("", name) for name in names if name in self._nodes[""]]
        pending += [(function, name) for function in functions for name in self._nodes.get(function, ())]
        reached: set[Place] = set()
        while pending:
            place = pending.pop()
            if place in reached:
                continue
            reached.add(place)
            scope, name = place
            node = self._nodes[scope][name]
            inputs = map(node_name, node.input)
            pending += [(scope, input) for input in inputs if input in self._nodes[scope]]
            pending += [(function, inner) for function in self._called(node) for inner in self._nodes[function]]
        return reached

    def _argument_values(self, function: str, number: int, count: int) -> list[tuple[str, str]] | None:
        """What every caller gives for an argument; None where that cannot be told."""
        values = []
        for scope, name in self._callers.get(function, ()):
            node = self._nodes[scope][name]
            if node.op not in (*_CALLS, function) or number >= len(node.input):
                return None
            values.append((scope, node.input[number]))
        if function in self._objects.concrete_functions:
            # Python binds the last arguments to objects.
            bound = self._objects.concrete_functions[function].bound_inputs
            first = count - len(bound)
            if number < first or self._objects.nodes[bound[number - first]].WhichOneof("kind") != "asset":
                return None
        elif not values:
            return None
        return values

    def _assigned(self, variable: str) -> list[tuple[str, str]] | None:
        """What the graph assigns to a variable that goes nowhere else."""
        values = []
        for node in self._nodes[""].values():
            if variable in map(node_name, node.input):
                if node.op == "AssignVariableOp":
                    values.append(("", node.input[1]))
                elif node.op not in ("ReadVariableOp", "VarIsInitializedOp"):
                    return None
        return values or None
