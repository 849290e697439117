"""What the scripts of this folder share: timing in turns, the machine, results as JSON and as a table."""

import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

# Lengths in word pieces, [CLS] and [SEP] included, cut at 512: sentences of the STS benchmark and movie reviews of
# Pang and Lee, in their order, by the vocabulary of bert-base-uncased.
TEXT_LENGTHS = json.loads((pathlib.Path(__file__).parent / "text_lengths.json").read_text())
PACKAGES = ("tensorflow", "keras", "transformers", "torch", "onnxruntime", "keras-hub")


def seconds_in_turns(functions, rounds, warm=False):
    """Times functions in turns, after one unmeasured turn.

    Args:
        functions: name -> function without arguments.
        rounds: how many times each is called; who goes first changes every round.
        warm: whether they have run before, so that the unmeasured turn is left out.

    Returns:
        name -> list of seconds.
    """
    times = {name: [] for name in functions}
    names = list(functions)
    for number in range(0 if warm else -1, rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            # Threads of another library may spin for a while after its turn.
            time.sleep(0.2)
            started = time.perf_counter()
            functions[name]()
            if number >= 0:
                times[name].append(time.perf_counter() - started)
    return times


def large_matmul():
    """Returns a function that multiplies float32 [2048, 3072] x [3072, 3072] four times, and the FLOPs of that."""
    a, b = tf.random.normal((2048, 3072)), tf.random.normal((3072, 3072))
    multiply = tf.function(lambda: tf.matmul(a, b))
    return lambda: [multiply() for _ in range(4)], 4 * 2 * 2048 * 3072 * 3072


def useful_flops(lengths, layers=12, hidden=768, intermediate=3072):
    """Returns the FLOPs that texts of these lengths need: dense layers and attention on real tokens alone."""
    dense = 2 * sum(lengths) * (4 * hidden * hidden + 2 * hidden * intermediate)
    return layers * (dense + sum(4 * length * length * hidden for length in lengths))


def report(name, rows, notes=()):
    """Prints a table and the machine, and writes both to `benchmarks/results/NAME.json`.

    Args:
        name: name of the script.
        rows: list of dicts with the same keys.
        notes: further lines.
    """
    # Here, for `compare_trees.py` imports this module beside other versions of the package.
    from keras_bert_layers.keras_compatibility import onednn_is_on

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    machine = f"{_processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    machine += f", oneDNN {'on' if onednn_is_on() else 'off'}"
    print(f"\n{name}: {machine}; " + ", ".join(f"{package} {version}" for package, version in versions.items()))
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print(
            "| "
            + " | ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values())
            + " |"
        )
    print(*notes, sep="\n", flush=True)
    folder = pathlib.Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    result = {"machine": machine, "versions": versions, "rows": rows, "notes": list(notes)}
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


def spread(seconds):
    """Median with the smallest and the largest, in ms."""
    return f"{1e3 * statistics.median(seconds):.1f} ({1e3 * min(seconds):.1f} to {1e3 * max(seconds):.1f})"


def _processor():
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
        lines = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
        # Those that TensorFlow, oneDNN and ONNX Runtime choose their code by.
        known = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_tile")
        found = [name for name in known if name in lines["flags"].split()]
        return f"{lines['model name']} (family {lines['cpu family']}, model {lines['model']}: {' '.join(found)})"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()
