"""Does the time grow linearly in the number of tokens? BERT-base, float32, sentences of stsb.

python benchmarks/scaling.py
"""

import math
import statistics

import tensorflow as tf
from measure import TEXT_LENGTHS, report, seconds_in_turns

import keras_bert_layers as kbl

SHAPE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


def main():
    encoder = kbl.BertEncoder(kbl.BertConfig(vocab_size=1000, **SHAPE), combine="last", pooler=False)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def run(mask):
        return encoder({"input_word_ids": mask * 7, "input_mask": mask})["encoder_outputs"]

    # The same sentences in every batch, so that the distribution of lengths is the same at every size.
    lengths = TEXT_LENGTHS["stsb"][:106]
    points = []
    for copies, rounds in ((1, 9), (4, 5), (20, 2), (100, 1)):
        mask = tf.sequence_mask(lengths * copies, dtype=tf.int32)
        times = seconds_in_turns({"run": lambda mask=mask: run(mask)}, rounds, warm=copies > 1)["run"]
        points.append((sum(lengths) * copies, statistics.median(times)))
    logs = [(math.log(tokens), math.log(seconds)) for tokens, seconds in points]
    x, y = (statistics.fmean(values) for values in zip(*logs, strict=True))
    slope = sum((a - x) * (b - y) for a, b in logs) / sum((a - x) ** 2 for a, _ in logs)
    rows = [{"tokens": tokens, "s": seconds, "tokens/s": round(tokens / seconds)} for tokens, seconds in points]
    report("scaling", rows, [f"Slope of log time over log tokens: {slope:.3f}"])


if __name__ == "__main__":
    main()
