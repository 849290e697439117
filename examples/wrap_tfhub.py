"""The quickstart's model around a text encoder of TensorFlow Hub, of any architecture that returns its layers.

    python examples/wrap_tfhub.py --encoder https://tfhub.dev/tensorflow/small_bert/bert_en_uncased_L-2_H-128_A-2/2

The ids come from BertPreprocessor with the encoder's own vocabulary, or from TF Hub's own preprocessing model with
`--preprocessor`. Handles need the extra `tfhub`: pip install 'keras-bert-layers[tfhub]'; directories do not.
"""

import argparse
import csv
import os
import pathlib

# TensorFlow's start-up messages; set before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

import keras_bert_layers as kbl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", required=True, help="URL handle or directory of a TF Hub encoder")
    parser.add_argument("--preprocessor", help="URL handle or directory of its preprocessing model")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path(__file__).with_name("support_tickets.csv"))
    parser.add_argument("--output", default="serving/wrapped_tfhub/1")
    parser.add_argument("--texts", type=int, default=None, help="train on so many texts only")
    arguments = parser.parse_args()

    with arguments.data.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[: arguments.texts]
    classes = sorted({row["label"] for row in rows})
    texts, labels = [row["text"] for row in rows], [classes.index(row["label"]) for row in rows]
    dataset = tf.data.Dataset.from_tensor_slices((texts, labels)).shuffle(len(rows), seed=0).batch(16)

    encoder = kbl.TFHubEncoder(arguments.encoder, layers="last2", combine="weighted", pooler=False)
    if arguments.preprocessor:
        preprocessor = kbl.TFHubPreprocessor(arguments.preprocessor, sequence_length=64)
    else:
        preprocessor = kbl.BertPreprocessor.from_pretrained(encoder.saved_model.loaded, sequence_length=64)

    text = keras.Input(shape=(), dtype="string", name="text")
    features = encoder(preprocessor(text))
    sentence = kbl.SequencePooling("mean")(features["encoder_outputs"], mask=features["mask"])
    model = keras.Model(text, keras.layers.Dense(len(classes), activation="softmax", name="probabilities")(sentence))
    model.compile(keras.optimizers.AdamW(1e-4), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(dataset, epochs=1, shuffle=False)
    print("Weights of the last 2 layers:", encoder.combination.layer_weights.round(3))
    kbl.export_saved_model(model, arguments.output, overwrite=True)
    print(f"Exported to {arguments.output}")


if __name__ == "__main__":
    main()
