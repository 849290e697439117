"""What memory does a training step of BERT-base take, and what does recomputation save? Float32.

    python benchmarks/training_memory.py

The highest resident size of a process of its own (`--peak recompute 8`) that takes two steps on 8 x 512 tokens, less
what it had before the first. (32 x 512 tokens without recomputation need more than 24 x 512, which are 16 GB.)
"""

import resource
import subprocess
import sys

import tensorflow as tf
from measure import report
from peers import ids_and_mask
from training_step import our_step


def peak(recompute, texts):
    step = our_step(None, recompute=recompute)
    ids, mask = map(tf.constant, ids_and_mask([512] * texts))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        step(ids, mask, tf.zeros(texts, tf.int32))
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def main():
    rows = []
    for form, texts in (("plain", 8), ("recompute", 8), ("plain", 24), ("recompute", 24), ("recompute", 32)):
        command = [sys.executable, __file__, "--peak", form, str(texts)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows.append({"tokens": f"{texts} x 512", "form": form, "MB": round(float(printed))})
    report("training_memory", rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        peak(sys.argv[2] == "recompute", int(sys.argv[3]))
    else:
        main()
