"""What do the combine modes cost, in time and in memory, against the last layer alone? BERT-base, float32.

    python benchmarks/combine_modes.py

Memory: the highest resident size of a process of its own (`--peak MODE`) that runs 32 x 256 tokens, less what it had
before the first run.
"""

import resource
import statistics
import subprocess
import sys

import keras
import tensorflow as tf
from measure import TEXT_LENGTHS, report, seconds_in_turns, spread

import keras_bert_layers as kbl

MODES = ("last", "sum", "mean", "max", "weighted")
SHAPE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


def runner(mode, lengths):
    keras.utils.set_random_seed(0)
    encoder = kbl.BertEncoder(kbl.BertConfig(vocab_size=1000, **SHAPE), combine=mode, pooler=False)
    mask = tf.sequence_mask(lengths, dtype=tf.int32)
    run = tf.function(lambda: encoder({"input_word_ids": mask * 7, "input_mask": mask})["encoder_outputs"])
    encoder.build()
    return run


def peak(mode):
    """Prints the highest resident size over that before the first run, in MB."""
    run = runner(mode, [256] * 32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        run()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def main():
    lengths = TEXT_LENGTHS["stsb"][:64]
    megabytes = {}
    for mode in MODES:
        command = [sys.executable, __file__, "--peak", mode]
        megabytes[mode] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    # After the processes above, whose highest size begins with that of this one.
    times = seconds_in_turns({mode: runner(mode, lengths) for mode in MODES}, 7)
    rows = [
        {
            "combine": mode,
            "ms": spread(times[mode]),
            "x time of last": f"{statistics.median(times[mode]) / statistics.median(times['last']):.3f}",
            "MB at the peak": round(megabytes[mode]),
            "x memory of last": f"{megabytes[mode] / megabytes['last']:.3f}",
        }
        for mode in MODES
    ]
    report("combine_modes", rows, ["64 sentences of stsb for the time, 32 x 256 tokens for the memory."])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        peak(sys.argv[2])
    else:
        main()
