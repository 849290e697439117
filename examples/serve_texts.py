"""Loads an exported classifier and serves texts: TensorFlow alone, no Keras model and no vocabulary file.

python examples/serve_texts.py serving/tickets/1 --classes account billing --texts "Where is my refund?"
"""

import argparse
import os

# TensorFlow's start-up messages; set before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
import tensorflow_text  # noqa: F401 - the export uses its operations, which TensorFlow knows only after this import


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", help="the SavedModel")
    parser.add_argument("--classes", nargs="+", required=True)
    parser.add_argument("--texts", nargs="+", required=True)
    arguments = parser.parse_args()

    serve = tf.saved_model.load(arguments.directory).signatures["serving_default"]
    probabilities = serve(text=tf.constant(arguments.texts))["probabilities"].numpy()
    for text, row in zip(arguments.texts, probabilities, strict=True):
        print(f"  {arguments.classes[row.argmax()]:10s} {row.max():.2f}  {text}")


if __name__ == "__main__":
    main()
