import functools
import logging
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_bert_layers.checkpoints.json_file import read_json_object
from keras_bert_layers.layers.layer_combination import LayerCombination
from keras_bert_layers.tasks.model_folder import MODULES_FILE, SETTINGS_FILE, ModelFolder
from keras_bert_layers.tasks.module_list import ModuleEntry, read_module_list
from keras_bert_layers.tasks.module_settings import unsupported
from keras_bert_layers.tasks.prompt import Prompt, chosen_prompt
from keras_bert_layers.tasks.prompt_mask import PromptMask
from keras_bert_layers.tasks.sentence_modules import MODULES, WITH_WEIGHTS, Features, mean, truncate, weighted_layers
from keras_bert_layers.tasks.transformer_module import TransformerModule
from keras_bert_layers.text.bert_preprocessor import BertPreprocessor

logger = logging.getLogger(__name__)

_TRANSFORMER, _LAYER_MIX = "Transformer", "WeightedLayerPooling"
_SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
# What the last layer is called, after which an export names the output.
_OUTPUT = "embedding"


def from_pretrained(
    source: str | os.PathLike[str],
    *,
    prompts: Mapping[str, str] | None = None,
    prompt_name: str | None = None,
    truncate_dim: int | None = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    **arguments: Any,
) -> keras.Model:
    """Makes a whole sentence model from its files: texts -> vectors, as sentence-transformers' `encode` gives them.

    `modules.json` says which modules it has; these are read: `Transformer` with an encoder that `BertEncoder` knows,
    `WeightedLayerPooling` right behind it, `Pooling`, `Dense`, `Normalize`, `LayerNorm`. Any other is refused by name.
    A text is cut to the `max_seq_length` of `sentence_bert_config.json`. Without a `modules.json`, an encoder with no
    head is a sentence model with the mean of its tokens, as in sentence-transformers.

    Args:
        source: a directory of sentence-transformers, or the id of a Hugging Face repository.
        prompts: prompts by name, such as `{"query": "query: "}`, beside those that the files hold and before them.
        prompt_name: the prompt that the model puts before each text; None is the files' default, if there is one.
            `kbl.tasks.with_prompt` gives the same model with another.
        truncate_dim: keep the first so many dimensions, for models trained for it (Kusupati et al. 2022). Where
            the last module is `Normalize`, they are normalised afterwards.
        revision, cache_dir, token, local_files_only: as in `BertEncoder.from_pretrained`.
        **arguments: other arguments of `BertEncoder`, such as `trainable=False` or `dtype=`; not `layers` and
            `combine`.

    Returns:
        A functional model from strings `[batch]` to `[batch, dimensions]`, to predict, fine-tune and export. Its last
        layer is called "embedding".

    Raises:
        FileNotFoundError, PermissionError, OSError: if files cannot be found or downloaded.
        ValueError: if the model has a module or a setting that is not supported, or its files are damaged.

    Example:

    ```python
    model = kbl.tasks.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")
    vectors = model.predict(tf.constant(["a text", "another"]))
    ```
    """
    download = {"revision": revision, "cache_dir": cache_dir, "token": token, "local_files_only": local_files_only}
    folder = ModelFolder(source, **download)
    modules = _modules(folder)
    default_name, stored_prompts = _prompts(folder.root / SETTINGS_FILE)
    prompts = {**stored_prompts, **(prompts or {})}
    prompt_name = default_name if prompt_name is None else prompt_name
    chosen_prompt(prompts, prompt_name)

    transformer = TransformerModule(folder, modules.pop(0).path)
    layers: int | range = -1
    combine: str | LayerCombination = "last"
    if modules and modules[0].kind == _LAYER_MIX:
        layers, combine = weighted_layers(transformer.config, folder.folder(modules.pop(0).path, WITH_WEIGHTS))
    preprocessor = transformer.preprocessor()
    encoder = transformer.encoder(layers, combine, **arguments)

    text = prompted = keras.Input(shape=(), dtype="string", name="text")
    if prompts:
        prompted = Prompt(prompts, prompt_name, name="prompt")(text)
    outputs = encoder(preprocessor(prompted))
    mask = outputs["mask"]
    without_prompt = None
    if prompts:
        lengths = {name: _token_count(preprocessor, prompt) for name, prompt in prompts.items()}
        without_prompt = PromptMask(lengths, prompt_name, name="prompt_mask")(mask)
    features = Features({"token_embeddings": outputs["encoder_outputs"]}, mask, without_prompt)
    steps: list[Callable[..., None]] = [
        functools.partial(MODULES[kind].add, folder=folder.folder(path, MODULES[kind].files)) for kind, path in modules
    ] or [mean]
    if truncate_dim is not None:
        last = modules[-1].kind if modules else ""
        steps.insert(len(steps) - (last == "Normalize"), functools.partial(truncate, truncate_dim=truncate_dim))
    for number, step in enumerate(steps, 1):
        step(features, name=_OUTPUT if number == len(steps) else None)
    return keras.Model(text, features.tensors["sentence_embedding"], name="sentence_model")


def _modules(folder: ModelFolder) -> list[ModuleEntry]:
    """The modules, the first of which is the transformer; alone where the files list none."""
    file = folder.root / MODULES_FILE
    if not os.path.lexists(file):
        _refuse_head(folder.root)
        return [ModuleEntry(_TRANSFORMER, "")]
    modules = read_module_list(file)
    kinds = [kind for kind, _ in modules]
    behind = kinds[2:] if kinds[1:2] == [_LAYER_MIX] else kinds[1:]
    others = [kind for kind in behind if kind not in MODULES]
    if kinds[:1] != [_TRANSFORMER] or others or "Pooling" not in behind:
        expected = f"{_TRANSFORMER}, perhaps {_LAYER_MIX}, then modules among {', '.join(MODULES)}, Pooling one of them"
        raise unsupported(file, "modules", kinds, expected)
    return modules


def _refuse_head(directory: pathlib.Path) -> None:
    """A model that was trained to do something else gives no sentence vectors that anybody meant."""
    file = directory / "config.json"
    names = read_json_object(file).get("architectures") if os.path.lexists(file) else None
    heads = [name for name in names or () if "For" in str(name)]
    if heads:
        raise ValueError(
            f"Expected a sentence model: a directory with {MODULES_FILE}, or an encoder without a head. Received: "
            f"architectures={names} in {file}. For vectors of its encoder: "
            "BertEncoder.from_pretrained(source, layers=-1, combine='last') and SequencePooling('mean')."
        )


def _prompts(file: pathlib.Path) -> tuple[str | None, dict[str, str]]:
    """The name of the default prompt, and the prompts by name."""
    settings = read_json_object(file) if os.path.lexists(file) else {}
    model_type, similarity = settings.get("model_type"), settings.get("similarity_fn_name")
    if model_type not in (None, "SentenceTransformer"):
        raise unsupported(file, "model_type", model_type, "a model of the type SentenceTransformer")
    if similarity not in (None, *_SIMILARITIES):
        raise unsupported(file, "similarity_fn_name", similarity, f"a similarity among {', '.join(_SIMILARITIES)}")
    logger.info("The vectors of %s are compared by: %s.", file.parent, similarity or _SIMILARITIES[0])
    prompts, name = settings.get("prompts") or {}, settings.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(prompt, str) for prompt in prompts.values()):
        raise ValueError(
            f"Expected {file} to have prompts as texts by name. Received: prompts={str(prompts)[:200]}. "
            "Copy or download the file again."
        )
    return name, prompts


def _token_count(preprocessor: BertPreprocessor, prompt: str) -> int:
    """How many tokens stand before the text that follows a prompt, [CLS] among them."""
    return int(preprocessor([prompt])["input_mask"].numpy().sum()) - 1 if prompt else 0
