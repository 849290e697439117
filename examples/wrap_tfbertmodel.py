"""The quickstart's model around your own TFBertModel: its variables are trained, not copies.

    python examples/wrap_tfbertmodel.py --model google-bert/bert-base-uncased

Needs the extra `huggingface`: pip install 'keras-bert-layers[huggingface]'.
"""

import argparse
import csv
import os
import pathlib

# TensorFlow's start-up messages; set before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from model_argument import add_model_argument
from transformers import TFBertModel

import keras_bert_layers as kbl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_argument(parser)
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path(__file__).with_name("support_tickets.csv"))
    parser.add_argument("--output", default="serving/wrapped_tfbertmodel/1")
    parser.add_argument("--texts", type=int, default=None, help="train on so many texts only")
    arguments = parser.parse_args()

    with arguments.data.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[: arguments.texts]
    classes = sorted({row["label"] for row in rows})
    texts, labels = [row["text"] for row in rows], [classes.index(row["label"]) for row in rows]
    dataset = tf.data.Dataset.from_tensor_slices((texts, labels)).shuffle(len(rows), seed=0).batch(16)

    tf_model = TFBertModel.from_pretrained(arguments.model)
    preprocessor = kbl.BertPreprocessor.from_pretrained(arguments.model, sequence_length=64)
    encoder = kbl.HuggingFaceEncoder(tf_model, layers="last4", combine="weighted", pooler=False)

    text = keras.Input(shape=(), dtype="string", name="text")
    features = encoder(preprocessor(text))
    sentence = kbl.SequencePooling("mean")(features["encoder_outputs"], mask=features["mask"])
    model = keras.Model(text, keras.layers.Dense(len(classes), activation="softmax", name="probabilities")(sentence))

    first = tf_model.trainable_variables[0]
    before = tf.identity(first)
    model.compile(keras.optimizers.AdamW(5e-5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(dataset, epochs=1, shuffle=False)
    moved = float(tf.reduce_max(tf.abs(first - before)))
    print(f"The TFBertModel itself has learned: {first.name} moved by up to {moved:.1e}")
    print("Weights of the last 4 layers:", encoder.combination.layer_weights.round(3))
    kbl.export_saved_model(model, arguments.output, overwrite=True)
    print(f"Exported to {arguments.output}")


if __name__ == "__main__":
    main()
