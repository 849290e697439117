"""What does TensorFlow's oneDNN gain, which is off by default on processors without instructions for neural networks?

    python benchmarks/onednn.py

BERT-base, float32, all layers, beside TFBertModel, in a process with `TF_ENABLE_ONEDNN_OPTS=1` and in one with 0.
"""

import json
import os
import statistics
import subprocess
import sys

from forward import MIXED
from measure import large_matmul, report, seconds_in_turns, spread, useful_flops

WORKLOADS = {"8 x 128, full": [128] * 8, "4 x 512, full": [512] * 4, "32 texts, 10 to 69 tokens": MIXED, "1 x 32": [32]}


def measure_in_this_process():
    from peers import Peer

    peers = {name: Peer(name) for name in ("ours", "TFBertModel")}
    for lengths in WORKLOADS.values():
        functions = {name: peer.on(lengths) for name, peer in peers.items()}
        functions["matmul"], flops = large_matmul()
        times = seconds_in_turns(functions, 15 if len(lengths) == 1 else 7)
        print(json.dumps({"times": times, "rate": flops / statistics.median(times["matmul"])}), flush=True)


def main():
    results = {}
    for setting in ("1", "0"):
        child = subprocess.run(
            [sys.executable, __file__, "--measure"],
            env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": setting},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        results[setting] = [json.loads(line) for line in child.stdout.splitlines() if line.startswith("{")]
    rows = []
    for number, (workload, lengths) in enumerate(WORKLOADS.items()):
        ours = {setting: statistics.median(results[setting][number]["times"]["ours"]) for setting in results}
        for setting, name in (("1", "on"), ("0", "off")):
            times, rate = results[setting][number]["times"], results[setting][number]["rate"]
            rows.append(
                {
                    "texts": workload,
                    "oneDNN": name,
                    "ours, ms": spread(times["ours"]),
                    "of a matmul's FLOP/s": f"{useful_flops(lengths) / ours[setting] / rate:.0%} of {rate / 1e9:.0f} G",
                    "x TFBertModel": f"{statistics.median(times['TFBertModel']) / ours[setting]:.2f}",
                    "x ours, oneDNN on": f"{ours['1'] / ours[setting]:.2f}",
                }
            )
    report("onednn", rows)


if __name__ == "__main__":
    measure_in_this_process() if "--measure" in sys.argv else main()
