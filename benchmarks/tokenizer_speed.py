"""Time `BertTokenizer` against tf.text's `FastBertTokenizer` and Hugging Face's batch encoding.

    python benchmarks/tokenizer_speed.py DATA

DATA is a folder with `vocabularies/`, `stsb/`, `movie_reviews/`, `multilingual/udhr2.zip` (default:
$KERAS_BERT_LAYERS_DATA). One process, batches of 256; ours takes turns with each of the others, and the median round
counts.
"""

import argparse
import csv
import os
import pathlib
import platform
import resource
import statistics
import time
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
import tensorflow_text as tf_text
import tokenizers
import transformers

from keras_bert_layers.text.bert_tokenizer import BertTokenizer

BATCH = 256


def english_sentences(data):
    with open(data / "stsb" / "stsb-en-train.csv", encoding="utf-8", newline="") as file:
        return [row[0] for row in csv.reader(file)]


def movie_reviews(data):
    with zipfile.ZipFile(data / "movie_reviews" / "movie_reviews.zip") as archive:
        names = [name for name in archive.namelist() if "/neg/" in name or "/pos/" in name]
        return [archive.read(name).decode("utf-8", "replace") for name in names if name.endswith(".txt")]


def declaration(data, *languages):
    """Return the lines of these languages in turn, over and over, 4,096 in all."""
    with zipfile.ZipFile(data / "multilingual" / "udhr2.zip") as archive:
        texts = [archive.read(f"udhr2/{language}.txt").decode("utf-8").split("\n") for language in languages]
    lines = [line for lines in zip(*texts, strict=False) for line in lines if line.strip()]
    return (lines * (4096 // len(lines) + 1))[:4096]


def seconds_in_turns(ours, theirs, our_batches, their_batches, rounds):
    """Return the two functions' median times for all batches, taking turns; who goes first changes every round."""
    times = {ours: [], theirs: []}
    turns = [(ours, our_batches), (theirs, their_batches)]
    for round_number in range(rounds + 1):
        for function, batches in turns:
            started = time.perf_counter()
            for batch in batches:
                function(batch)
            if round_number:
                times[function].append(time.perf_counter() - started)
        turns.reverse()
    return statistics.median(times[ours]), statistics.median(times[theirs])


def time_large_texts(data):
    tokenizer = BertTokenizer(data / "vocabularies" / "bert-base-uncased.vocab.txt")
    prose = " ".join(movie_reviews(data))
    for name, text in (
        ("1 MB of English", prose[:1_000_000]),
        ("1 MB of Chinese", "世界人权宣言，" * (1_000_000 // 21)),
        ("1 MB without a space", "a" * 1_000_000),
        ("1 MB of accents", "é" * 500_000),
    ):
        for method in (tokenizer.tokenize, tokenizer.tokenize_with_offsets):
            function = tf.function(method, input_signature=[tf.TensorSpec([None], tf.string)])
            function(tf.constant(["warm up é"]))
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            started = time.perf_counter()
            function(tf.constant([text]))
            seconds = time.perf_counter() - started
            extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            print(f"{name:24} {method.__name__:24} {seconds:6.3f} s, peak memory grew by {extra:.0f} MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default=os.environ.get("KERAS_BERT_LAYERS_DATA"), help="the data folder")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("the data folder is expected, as an argument or in KERAS_BERT_LAYERS_DATA")
    data = pathlib.Path(arguments.data)
    cores = len(os.sched_getaffinity(0))
    print(
        f"{platform.machine()}, {cores} cores, {platform.system()}, Python {platform.python_version()}, TensorFlow "
        f"{tf.__version__}, tensorflow-text {tf_text.__version__}, transformers {transformers.__version__}, tokenizers "
        f"{tokenizers.__version__}; batches of {BATCH}"
    )
    # First, while the process is small: what counts is by how much its peak grows.
    time_large_texts(data)
    corpora = [
        ("English, stsb", "bert-base-uncased", True, english_sentences(data)),
        ("English, movie reviews", "bert-base-uncased", True, movie_reviews(data)),
        ("Chinese", "bert-base-chinese", False, declaration(data, "cmn_hans")),
        ("Arabic", "bert-base-multilingual-cased", False, declaration(data, "arb")),
        ("Hindi", "bert-base-multilingual-cased", False, declaration(data, "hin")),
        (
            "mixed",
            "bert-base-multilingual-cased",
            False,
            declaration(data, "eng", "cmn_hans", "arb", "hin", "rus", "tha"),
        ),
        (
            "mixed, lower-cased",
            "bert-base-uncased",
            True,
            declaration(data, "eng", "cmn_hans", "arb", "hin", "rus", "tha"),
        ),
    ]
    print(f"{'texts per second':24} {'ours':>9} {'tf.text':>9} {'HF':>9} {'/ tf.text':>10} {'/ HF':>7}")
    for name, vocabulary, lowercase, texts in corpora:
        path = data / "vocabularies" / f"{vocabulary}.vocab.txt"
        started = time.perf_counter()
        tokenizer = BertTokenizer(path, lowercase=lowercase)
        built = time.perf_counter() - started
        fast = tf_text.FastBertTokenizer(
            tokenizer.vocabulary, lower_case_nfd_strip_accents=lowercase, token_out_type=tf.int32
        )
        reference = transformers.BertTokenizerFast(
            vocab_file=str(path), do_lower_case=lowercase, split_special_tokens=True
        )
        signature = [tf.TensorSpec([None], tf.string)]
        lists = [texts[i : i + BATCH] for i in range(0, len(texts) - BATCH + 1, BATCH)]
        tensors = [tf.constant(batch) for batch in lists]
        ours = tf.function(tokenizer.tokenize, input_signature=signature)
        fast = tf.function(fast.tokenize, input_signature=signature)
        our_seconds, fast_seconds = seconds_in_turns(ours, fast, tensors, tensors, arguments.rounds)
        our_seconds_beside, reference_seconds = seconds_in_turns(
            ours, lambda batch, tokenizer=reference: tokenizer(batch, add_special_tokens=False), tensors, lists, 5
        )
        count = len(lists) * BATCH
        print(
            f"{name:24} {count / our_seconds:9,.0f} {count / fast_seconds:9,.0f} {count / reference_seconds:9,.0f} "
            f"{fast_seconds / our_seconds:10.2f} "
            f"{reference_seconds / our_seconds_beside:7.1f}  (built in {built:.2f} s)",
            flush=True,
        )


if __name__ == "__main__":
    main()
