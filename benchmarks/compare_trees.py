"""Does a refactoring change any output, or any time? Two trees of this project against each other.

    python benchmarks/compare_trees.py OLD_TREE NEW_TREE --outputs
    python benchmarks/compare_trees.py OLD_TREE NEW_TREE --times [--rows NAME ...] [--seconds N]

`--outputs`: each tree writes what `recorded_outputs.py` records in a process of its own. Printed are the entries whose
largest absolute difference is above 1e-6, those that are text or integers and not equal, and those that one tree
lacks; any of them makes the exit status 1. `--groups` takes some of the groups alone. For a tree may stand a file that
its `recorded_outputs.py` wrote.

`--times`: two processes, one for each tree, hold BERT-base with random weights and run the rows of `forward.py` and
`latency.py` in turns, old and new, who goes first changing every round, after one run of each that does not count. Each
row takes half a minute (`--seconds`), and at least 3 rounds. The ratio that decides is that of the smallest times, old
/ new; below 0.98 the exit status is 1. The median of the rounds' ratios stands beside it.

A worktree of the commit to compare with makes a tree: `git worktree add ../old COMMIT`.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
TOLERANCE = 1e-6
SLOWEST = 0.98
ROUNDS = 3


def environment(tree):
    """Returns the environment of a process that imports the package from `tree`."""
    tree = pathlib.Path(tree).resolve()
    if not (tree / "keras_bert_layers" / "__init__.py").is_file():
        raise SystemExit(f"Expected a tree of this project. Received: {tree}, without keras_bert_layers/__init__.py.")
    return {**os.environ, "PYTHONPATH": os.fspath(tree), "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONDONTWRITEBYTECODE": "1"}


def record(tree, path, groups):
    """Returns name -> array of a tree, or of a file that `recorded_outputs.py` wrote."""
    if pathlib.Path(tree).is_file():
        path = tree
    else:
        run_recorder(tree, path, groups)
    with np.load(path) as file:
        arrays = dict(file)
    return {name: array for name, array in arrays.items() if not groups or name.split("/")[0] in groups}


def run_recorder(tree, path, groups):
    command = [sys.executable, os.fspath(HERE / "recorded_outputs.py"), os.fspath(path), *groups]
    subprocess.run(command, env=environment(tree), check=True)


def difference(old, new):
    """Returns what is wrong between two arrays, or the largest absolute difference."""
    if old.shape != new.shape:
        return f"the shape is {new.shape}, and was {old.shape}"
    if old.dtype.kind != "f":
        wrong = int(np.sum(old != new))
        return f"{wrong} of {old.size} are not equal" if wrong else 0.0
    if not np.array_equal(np.isnan(old), np.isnan(new)):
        return "NaN stands elsewhere"
    same = (old == new) | np.isnan(old)
    return float(np.max(np.abs(np.where(same, 0, new) - np.where(same, 0, old)), initial=0.0))


def compare_outputs(old_tree, new_tree, groups):
    with tempfile.TemporaryDirectory() as folder:
        old, new = (
            record(tree, pathlib.Path(folder, f"{name}.npz"), groups)
            for name, tree in (("old", old_tree), ("new", new_tree))
        )
    wrong = [f"{name}: only in the old tree" for name in old if name not in new]
    wrong += [f"{name}: only in the new tree" for name in new if name not in old]
    largest, exact = 0.0, 0
    for name in old.keys() & new.keys():
        found = difference(old[name], new[name])
        if isinstance(found, str) or not found <= TOLERANCE:
            wrong.append(f"{name}: {found}")
        else:
            largest = max(largest, found)
            exact += found == 0
    failed = sorted(name for name in old.keys() | new.keys() if name.endswith("/failed"))
    wrong += [f"{name}: {'old' if name in old else 'new'} tree, {(old | new)[name]}" for name in failed]
    print(*sorted(wrong), sep="\n")
    print(
        f"{len(old.keys() | new.keys())} entries: {len(wrong)} wrong, {exact} equal bit for bit, the others at most ",
        end="",
    )
    print(f"{largest:.1e} apart.", flush=True)
    return not wrong


class Runner:
    """A process that holds BERT-base of one tree and runs rows when it is asked to."""

    def __init__(self, tree):
        command = [sys.executable, os.fspath(HERE / "compare_trees.py"), "--worker"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self._process = subprocess.Popen(command, env=environment(tree), **pipes)

    def seconds(self, row):
        """Runs a row once and returns how long that took."""
        print(row, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def stop(self):
        self._process.stdin.close()
        self._process.wait()


def rows():
    """Returns name -> the lengths of the texts of each batch."""
    import forward
    import latency

    found = {name: texts for name, (texts, _, _) in forward.WORKLOADS.items()}
    return {f"latency, 1 x {latency.LENGTHS[0]}": [latency.LENGTHS], **found}


def work():
    """Answers each row's name on the standard input with the seconds of one run."""
    answers = os.fdopen(os.dup(1), "w")
    # What else prints must not stand among the answers.
    os.dup2(2, 1)
    from peers import Peer

    peer, runs = Peer("ours"), {}
    known = rows()
    for line in sys.stdin:
        row = line.rstrip("\n")
        if row not in runs:
            runs[row] = [peer.on(lengths) for lengths in known[row]]
        started = time.perf_counter()
        for run in runs[row]:
            run()
        print(json.dumps(time.perf_counter() - started), file=answers, flush=True)


def compare_times(old_tree, new_tree, names, seconds):
    from measure import report

    known = rows()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"Expected --rows to be among {list(known)}. Received: {unknown}.")
    runners = {"old": Runner(old_tree), "new": Runner(new_tree)}
    results = []
    for row in names or known:
        times = {name: [] for name in runners}
        for runner in runners.values():
            runner.seconds(row)
        while len(times["old"]) < ROUNDS or sum(map(sum, times.values())) < seconds:
            for name in sorted(runners, reverse=len(times["old"]) % 2 == 0):
                # Threads of the other may spin for a while after its turn.
                time.sleep(0.2)
                times[name].append(runners[name].seconds(row))
        smallest = {name: min(runs) for name, runs in times.items()}
        ratios = [old / new for old, new in zip(times["old"], times["new"], strict=True)]
        results.append(
            {
                "row": row,
                "rounds": len(ratios),
                "old, ms": 1e3 * smallest["old"],
                "new, ms": 1e3 * smallest["new"],
                "old / new, smallest": f"{smallest['old'] / smallest['new']:.3f}",
                "old / new, median": f"{statistics.median(ratios):.3f}",
            }
        )
        print(results[-1], flush=True)
    for runner in runners.values():
        runner.stop()
    report("compare_trees", results)
    return all(float(result["old / new, smallest"]) >= SLOWEST for result in results)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--outputs", action="store_true", help="compare outputs")
    parser.add_argument("--groups", nargs="*", default=[], help="of the outputs, these groups alone")
    parser.add_argument("--times", action="store_true", help="compare times")
    parser.add_argument("--rows", nargs="*", default=[], help="of the times, these rows alone")
    parser.add_argument("--seconds", type=float, default=30.0, help="for each row")
    arguments = parser.parse_args()
    if not (arguments.outputs or arguments.times):
        parser.error("expected --outputs, --times or both")
    good = True
    if arguments.outputs:
        good &= compare_outputs(arguments.old, arguments.new, arguments.groups)
    if arguments.times:
        good &= compare_times(arguments.old, arguments.new, arguments.rows, arguments.seconds)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    if sys.argv[1:] == ["--worker"]:
        work()
    else:
        main()
