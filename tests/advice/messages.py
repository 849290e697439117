"""Finds the messages of the package that say what to do, in its source."""

from __future__ import annotations

import ast
import pathlib
import re
from collections.abc import Iterator

PACKAGE = pathlib.Path(__file__).parents[2] / "keras_bert_layers"

# What a sentence of advice has: an imperative at its beginning or behind a colon or a comma, the call of something,
# an argument with its value, code in backticks, or a command.
IMPERATIVES = (
    "Add Allow Ask Build Call Check Choose Connect Copy Do Export Give Install Leave List Load Log Look Make Merge "
    "Name Pad Pass Put Read Remove Replace Run Save Say Select Set Take Tokenise Try Unpack Unset Use Wrap "
    "Write"
).split()
_ADVICE = re.compile(
    rf"(^|[:,;] |\b(or|and|then|fail): ?)({'|'.join(IMPERATIVES)})\b|\bor ({'|'.join(IMPERATIVES).lower()})\b"
    r"|[\w}]\([^)]*\)|\w=[\w'\"]|`[^`]+`|\bpip install\b|\bcan wrap\b|\bthere is \w+Encoder",
    re.IGNORECASE,
)


def _text(node: ast.AST, constants: dict[str, str]) -> str:
    """The text of an expression of strings, with `{}` where a value comes in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.FormattedValue):
        # Whatever code fetches a value is no advice.
        return constants.get(node.value.id, "{}") if isinstance(node.value, ast.Name) else "{}"
    return "".join(_text(child, constants) for child in ast.iter_child_nodes(node))


def _way_out(text: str) -> str:
    """The sentences of a message that say what to do: none where there is no such thing.

    They stand after the sentence of "Received: ..."; a message or a part of one without that word is all looked at.
    """
    before, received, after = text.strip().partition("Received:")
    sentences = re.split(r"(?<=[.)}])\s+(?=[A-Z`{]|[a-z_.]+\()", after if received else before)[1 if received else 0 :]
    return " ".join(
        sentence for sentence in sentences if _ADVICE.search(sentence) and not sentence.startswith("Expected")
    )


def _strings_by_name(tree: ast.AST, names: set[str]) -> Iterator[tuple[int, ast.AST]]:
    """What is given to the names of which messages are put together: by assignment."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Name, ast.Attribute)):
            target = node.targets[0]
            if (target.id if isinstance(target, ast.Name) else target.attr) in names:
                yield node.lineno, node.value


def _strings_of_functions(tree: ast.AST, names: set[str]) -> Iterator[tuple[int, ast.AST]]:
    """What functions return that make a part of a message, and what they are given for it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in names:
            yield from ((part.lineno, part.value) for part in ast.walk(node) if isinstance(part, ast.Return))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield from ((part.lineno, part) for part in node.args if isinstance(part, ast.Constant))


def collect() -> dict[str, str]:
    """The place of each message that says what to do, as `file:line`, and the advice in it."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
    found, parts = {}, {"way_out", "instead", "_refusal", "reason", "windows", "end"}
    functions = {"way_out", "_instead_of_a_file"}
    for path, tree in trees.items():
        constants = {
            node.targets[0].id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
            if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        }
        messages = [
            (node.lineno, node.exc if isinstance(node, ast.Raise) else node)
            for node in ast.walk(tree)
            if (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call))
            or (isinstance(node, ast.Call) and re.search(r"(^[A-Z]\w*Error|\bwarn)$", ast.unparse(node.func)))
        ]
        messages += [*_strings_by_name(tree, parts), *_strings_of_functions(tree, functions)]
        for line, node in messages:
            advice = _way_out(_text(node, constants))
            if advice:
                found[f"{path.relative_to(PACKAGE)}:{line}"] = advice
    return found
