from collections.abc import Mapping
from typing import Any

from keras_bert_layers.serving.check.export import Export
from keras_bert_layers.serving.check.tensor_fault import dtype_name, is_dtype
from keras_bert_layers.serving.saved_graph import function_names
from keras_bert_layers.serving.server_operations import server_operations


def check_operations(export: Export) -> None:
    known = server_operations(export.server)
    own = function_names(export.graph)
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
            elif value.WhichOneof("value") == "type" and value.type and not is_dtype(value.type):
                wrong.setdefault(f"The {name!r} of a {node.op} has the number {value.type}, which no dtype has.", where)
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
    for problem, place in wrong.items():
        export.error(
            place,
            f"{problem} Loading into TensorFlow Serving {export.server} fails.",
            "Run a server as new as the TensorFlow that exported, or export with one as old as the server.",
        )


def _is_allowed(value: Any, attribute: Mapping[str, Any]) -> bool:
    allowed = attribute.get("allowed")
    if not allowed or value.WhichOneof("value") in (None, "placeholder"):
        return True
    kind = value.WhichOneof("value")
    if kind == "type":
        return dtype_name(value.type) in allowed
    if kind == "s":
        return value.s.decode("utf-8", "replace") in allowed
    if kind == "list":
        return all(dtype_name(number) in allowed for number in value.list.type)
    return True
