"""Does BERT-base learn the same as TFBertModel? Their losses over 50 steps.

    python benchmarks/training_curve.py

The same weights, head, optimizer and batch as in training_step.py, dropout 0. Five minutes.
"""

import keras
import numpy as np
from measure import report
from tqdm import trange
from training_step import batch, new_peer, our_step, peer_step

STEPS = 50


def main():
    model = new_peer()
    steps = {"ours": our_step(model), "TFBertModel": peer_step(model)}
    inputs = batch()
    losses = {name: [] for name in steps}
    for _ in trange(STEPS):
        for name, step in steps.items():
            losses[name].append(float(step(*inputs)))
    ours, theirs = (np.array(losses[name]) for name in steps)
    rows = [
        {"step": number, "loss of ours": f"{ours[number - 1]:.6f}", "of TFBertModel": f"{theirs[number - 1]:.6f}"}
        for number in (1, 10, 20, 30, 40, STEPS)
    ]
    report("training_curve", rows, [f"Largest relative difference: {np.max(np.abs(ours - theirs) / theirs):.1e}"])


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    main()
