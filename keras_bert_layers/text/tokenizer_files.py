import os
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_bert_layers.checkpoints.bert_config import CONFIG_FILES
from keras_bert_layers.checkpoints.json_file import read_json_object
from keras_bert_layers.checkpoints.source import TOKENIZER_FILES

# Models whose first token has the position behind the id of padding, which is 1.
_POSITIONS_FROM_PADDING, _UNUSED_POSITIONS = ("camembert", "mpnet", "roberta", "xlm-roberta"), 2
# The generic classes of transformers, which do what `tokenizer.json` says.
GENERIC_TOKENIZERS = {"PreTrainedTokenizer", "TokenizersBackend"}
SPLIT_OUTSIDE = "Tokenise with transformers, and give the encoder the ids."

_KINDS = {dict: "an object", list: "a list", str: "a string", int: "a whole number", bool: "true or false"}


class TokenizerFiles:
    """The JSON files of a checkpoint that say something of its tokenizer; those that are not there are empty.

    Args:
        directory: the checkpoint's directory.

    Attributes:
        contents: the files that are there, by name.

    Raises:
        ValueError, OSError: for a file that is damaged or cannot be read, by its name.
    """

    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        names = (*CONFIG_FILES, *(name for name in TOKENIZER_FILES.optional if name not in CONFIG_FILES))
        # `lexists`: a link that leads nowhere is damage, too.
        self.contents = {
            name: read_json_object(directory / name) for name in names if os.path.lexists(directory / name)
        }

    def path(self, name: str) -> pathlib.Path:
        """The path of a file."""
        return self.directory / name

    def __contains__(self, name: str) -> bool:
        return name in self.contents

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self.contents.get(name, {})

    @property
    def config(self) -> str:
        """The name of the file that says what the model is."""
        return next((name for name in CONFIG_FILES if name in self), CONFIG_FILES[0])

    def get(self, name: str, key: str, kind: type, default: Any = None, null: bool = False) -> Any:
        """Returns a value of a file, as `typed_value` does."""
        return typed_value(self.path(name), self[name], key, kind, default, null)

    def max_positions(self) -> int | None:
        """Returns the longest sequence that the checkpoint has positions for; None where it does not say."""
        config = self[self.config]
        positions = config.get("max_position_embeddings")
        if positions is not None and (not isinstance(positions, int) or isinstance(positions, bool) or positions < 3):
            raise ValueError(
                f"Expected {self.path(self.config)} to have a whole number from 3 as `max_position_embeddings`. "
                f"Received: max_position_embeddings={positions!r}. Copy or download the file again."
            )
        if positions is not None and config.get("model_type") in _POSITIONS_FROM_PADDING:
            return positions - _UNUSED_POSITIONS
        return positions

    def special_tokens(self, defaults: Mapping[str, str]) -> dict[str, str]:
        """Returns the names of the special tokens.

        Args:
            defaults: a name for each key, as `{"cls_token": "[CLS]"}`, where the files say none.

        Raises:
            ValueError: where two files say different ones.
        """
        names = dict(defaults)
        for key in defaults:
            said = {}
            for name in ("tokenizer_config.json", "special_tokens_map.json"):
                token = token_content(self.path(name), key, self[name].get(key))
                if token is not None:
                    said[name] = token
            if len(set(said.values())) > 1:
                raise ValueError(
                    f"Expected one `{key}`. Received: "
                    + " and ".join(f"{key}={token!r} in {self.path(name)}" for name, token in said.items())
                    + ". Take both files from one checkpoint."
                )
            names[key] = next(iter(said.values()), names[key])
        return names

    def check_sides(self) -> None:
        """Refuses a tokenizer that pads or cuts on the left."""
        config, fast = self["tokenizer_config.json"], self["tokenizer.json"]
        said = [("tokenizer_config.json", key, config.get(key)) for key in ("padding_side", "truncation_side")]
        for key in ("padding", "truncation"):
            part = self.get("tokenizer.json", key, dict, {}, null=True) if fast else {}
            said.append(("tokenizer.json", f"{key}.direction", part.get("direction")))
        for name, key, side in said:
            if side is not None and str(side).lower() != "right":
                raise ValueError(
                    "Expected a tokenizer that pads and cuts on the right. "
                    f"Received: {key}={side!r} in {self.path(name)}. {SPLIT_OUTSIDE}"
                )


def token_content(path: pathlib.Path, key: str, value: Any) -> str | None:
    """Returns the text of a special token, which stands in the files as such or as an object."""
    content = value.get("content") if isinstance(value, dict) else value
    if value is not None and not isinstance(content, str):
        raise ValueError(
            f"Expected {path} to have a string as `{key}`. Received: {key} of type {type(value).__name__}. "
            "Copy or download the file again."
        )
    return content


def typed_value(
    path: pathlib.Path, values: dict[str, Any], key: str, kind: type, default: Any = None, null: bool = False
) -> Any:
    """Returns a value out of a JSON object, after checking its type.

    Args:
        path: the file, for the message.
        values: the object.
        key: the key.
        kind: the type that the value must have: dict, list, str, int or bool.
        default: what is returned where there is no such key.
        null: whether null stands for the default too.

    Raises:
        ValueError: for a value of another type.
    """
    value = values.get(key, default)
    if key not in values or (null and value is None):
        return default
    # JSON's true is not a number.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(
            f"Expected {path} to have {_KINDS[kind]} as `{key}`. "
            f"Received: {key} of type {type(value).__name__}. Copy or download the file again."
        )
    return value
