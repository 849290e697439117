"""What do layers cost that nobody uses? BERT-base, float32: the layers 1 to k of 12, `encoder_outputs` alone fetched.

python benchmarks/unused_layers.py
"""

import statistics

import tensorflow as tf
from measure import TEXT_LENGTHS, report, seconds_in_turns, spread

import keras_bert_layers as kbl

SHAPE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


def main():
    mask = tf.sequence_mask(TEXT_LENGTHS["stsb"][:64], dtype=tf.int32)
    functions = {}
    for top in (3, 6, 9, 12):
        encoder = kbl.BertEncoder(kbl.BertConfig(vocab_size=1000, **SHAPE), layers=range(1, top + 1))
        functions[top] = tf.function(
            lambda encoder=encoder: encoder({"input_word_ids": mask * 7, "input_mask": mask})["encoder_outputs"]
        )
    times = seconds_in_turns(functions, 7)
    rows = [
        {
            "layers": f"1 to {top}",
            "ms": spread(times[top]),
            "of the time of all": f"{statistics.median(times[top]) / statistics.median(times[12]):.3f}",
            "k / 12": f"{top / 12:.3f}",
        }
        for top in times
    ]
    report("unused_layers", rows)


if __name__ == "__main__":
    main()
