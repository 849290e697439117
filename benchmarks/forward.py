"""How fast does BERT-base give all its layers, next to what one would use instead?

    python benchmarks/forward.py

Float32. Texts of mixed length (padded to the longest of their batch), full batches, and sentences sorted by length.
Needs torch, onnxruntime, onnx and keras-hub beside the package.
"""

import statistics

from measure import TEXT_LENGTHS, large_matmul, report, seconds_in_turns, spread, useful_flops
from peers import MAKERS, Peer

MIXED = [10, 10, 10, 11, 11, 11, 12, 13, 13, 14, 14, 15, 16, 18, 19, 20]
MIXED += [20, 21, 21, 22, 22, 23, 24, 25, 26, 27, 30, 30, 32, 32, 43, 69]


def batches(lengths, count):
    return [lengths[start : start + 32] for start in range(0, 32 * count, 32)]


# Name -> the lengths of the texts of each batch, rounds, and whether the functions have run before.
WORKLOADS = {
    "8 x 128, full": ([[128] * 8], 5, False),
    "4 x 512, full": ([[512] * 4], 5, True),
    "32 texts, 10 to 69 tokens": ([MIXED], 5, True),
    "stsb in order, 4 x 32": (batches(TEXT_LENGTHS["stsb"], 4), 5, True),
    "movie_reviews in order, 32": (batches(TEXT_LENGTHS["movie_reviews"], 1), 2, True),
    "stsb sorted by length, 8 x 32": (batches(sorted(TEXT_LENGTHS["stsb"][:256]), 8), 3, True),
}


def main():
    peers = {name: Peer(name) for name in MAKERS}
    rows = []
    for workload, (texts, rounds, warm) in WORKLOADS.items():
        functions = {}
        for name, peer in peers.items():
            runs = [peer.on(lengths) for lengths in texts]
            functions[name] = lambda runs=runs: [run() for run in runs]
        functions["matmul"], matmul_flops = large_matmul()
        times = seconds_in_turns(functions, rounds, warm)
        peak = matmul_flops / statistics.median(times["matmul"])
        ours = statistics.median(times["ours"])
        real = sum(map(sum, texts))
        rate = sum(map(useful_flops, texts)) / ours
        row = {
            "texts": workload,
            "padded / real tokens": sum(len(lengths) * max(lengths) for lengths in texts) / real,
            "ours, ms": spread(times["ours"]),
            "tokens/s": round(real / ours),
            "of a matmul's FLOP/s": f"{rate / peak:.0%} of {peak / 1e9:.0f} G",
        }
        for name in list(peers)[1:]:
            row[f"x {name}"] = f"{statistics.median(times[name]) / ours:.2f}"
        rows.append(row)
        print(row, flush=True)
    report("forward", rows)


if __name__ == "__main__":
    main()
