"""How long does one text of 32 tokens take? BERT-base, float32, all layers.

python benchmarks/latency.py
"""

import statistics

import tensorflow as tf
from measure import report, seconds_in_turns, spread
from peers import MAKERS, Peer

LENGTHS = [32]


def main():
    functions = {name: Peer(name).on(LENGTHS) for name in MAKERS}
    weights = [tf.Variable(tf.random.normal((768, 9216))) for _ in range(12)]
    functions["reading 85 M weights once"] = tf.function(lambda: [tf.reduce_max(weight) for weight in weights])
    times = seconds_in_turns(functions, 20)
    ours = statistics.median(times["ours"])
    rows = [
        {"what": name, "ms": spread(seconds), "ours / theirs": ours / statistics.median(seconds)}
        for name, seconds in times.items()
    ]
    report("latency", rows)


if __name__ == "__main__":
    main()
