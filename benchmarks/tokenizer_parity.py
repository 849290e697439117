"""Count where `BertTokenizer` differs from Hugging Face's, and how often tf.text's `FastBertTokenizer` does.

    python benchmarks/tokenizer_parity.py DATA --table parity.md

DATA is a folder with `vocabularies/`, `multilingual/udhr2.zip` and `xquad/` (default: $KERAS_BERT_LAYERS_DATA). The
reference is `BertTokenizerFast(..., split_special_tokens=True)`. A mismatch is a text whose ids are not the same; for
the lines of real text also one whose offsets or word ids differ. Beside a combining mark that stripping accents keeps
(`reordered_marks`), the reference may place a token on a neighbouring accent; random texts with one count apart.

    python benchmarks/tokenizer_parity.py DATA --sentence-piece

counts the same of `SentencePieceTokenizer`, on models that the `sentencepiece` package trains on the declarations. The
reference there is that package, as XLM-R's and ALBERT's own classes of transformers call it; the other column counts
where Hugging Face's fast tokenizers differ from it.
"""

import argparse
import io
import json
import os
import pathlib
import platform
import tempfile
import time
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text
import tokenizers
import transformers

from keras_bert_layers.text.bert_tokenizer import BertTokenizer
from keras_bert_layers.text.sentence_piece_tokenizer import SentencePieceTokenizer
from keras_bert_layers.text.unicode_normalization import reordered_marks

# Name, vocabulary file, lowercase. bert-base-chinese is published as not lower-casing; both ways are tested.
SETTINGS = [
    ("uncased", "bert-base-uncased.vocab.txt", True),
    ("cased", "bert-base-cased.vocab.txt", False),
    ("chinese", "bert-base-chinese.vocab.txt", False),
    ("chinese lower-cased", "bert-base-chinese.vocab.txt", True),
    ("multilingual-cased", "bert-base-multilingual-cased.vocab.txt", False),
]
FORMS = {"a + c + b": "a{}b", "c": "{}", "c + c": "{0}{0}"}
BATCH = 8192


def reference_tokenizer(vocabulary_file, lowercase, split_special_tokens=True, **settings):
    """Return the `tokenizers` object inside Hugging Face's fast tokenizer."""
    tokenizer = transformers.BertTokenizerFast(vocab_file=str(vocabulary_file), do_lower_case=lowercase, **settings)
    tokenizer.backend_tokenizer.encode_special_tokens = split_special_tokens
    return tokenizer.backend_tokenizer


def reference_ids(tokenizer, texts):
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def wrong_ids(tokenize, tokenizer, texts):
    """Return the texts, str or bytes, whose ids from the function `tokenize` are not the reference's."""
    wrong = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        expected = reference_ids(
            tokenizer, [t.decode("utf-8", "replace") if isinstance(t, bytes) else t for t in batch]
        )
        ids = tokenize(tf.constant(batch)).to_list()
        wrong += [text for text, a, b in zip(batch, ids, expected, strict=True) if a != b]
    return wrong


def wrong_offsets(tokenizer, reference, texts):
    """Return the texts whose offsets, in characters or in bytes, or whose word ids are not the reference's."""
    wrong = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        ids, starts, ends = tokenizer.tokenize_with_offsets(batch, unit="characters")
        _, first_bytes, end_bytes = tokenizer.tokenize_with_offsets(batch)
        columns = (ids, starts, ends, first_bytes, end_bytes, tokenizer.word_ids(ids))
        rows = zip(batch, *(column.to_list() for column in columns), strict=True)
        for row, encoding in zip(rows, reference.encode_batch(batch, add_special_tokens=False), strict=True):
            text, row_ids, row_starts, row_ends, row_first_bytes, row_end_bytes, words = row
            utf8 = text.encode()
            pieces = [utf8[a:b].decode() for a, b in zip(row_first_bytes, row_end_bytes, strict=True)]
            if (
                row_ids != encoding.ids
                or list(zip(row_starts, row_ends, strict=True)) != encoding.offsets
                or pieces != [text[a:b] for a, b in encoding.offsets]
                or words != encoding.word_ids
            ):
                wrong.append(text)
    return wrong


def code_point_texts(form, code_points=range(0x110000)):
    """Return one text for each code point that UTF-8 can hold."""
    return [form.format(chr(c)) for c in code_points if not 0xD800 <= c < 0xE000]


def real_lines(data):
    """Return the lines of each language of the Universal Declaration of Human Rights and of XQuAD."""
    lines = {}
    with zipfile.ZipFile(data / "multilingual" / "udhr2.zip") as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".txt"):
                lines[pathlib.PurePath(name).stem] = archive.read(name).decode("utf-8").split("\n")
    for path in sorted((data / "xquad").glob("*.json")):
        texts = []
        for article in json.loads(path.read_text("utf-8"))["data"]:
            for paragraph in article["paragraphs"]:
                texts += [paragraph["context"], *(qa["question"] for qa in paragraph["qas"])]
        lines[path.stem] = texts
    return lines


def random_texts(count, vocabulary, seed=0):
    """Return texts that mix scripts, emoji sequences, combining marks, controls, spaces and long words."""
    generator = np.random.default_rng(seed)
    blocks = [(0x20, 0x7F), (0xA0, 0x250), (0x370, 0x590), (0x590, 0x700), (0x900, 0xE80), (0x1E00, 0x2070)]
    blocks += [(0x2070, 0x2C00), (0x3000, 0x3100), (0x4E00, 0xA000), (0xAC00, 0xD7B0), (0xF900, 0x10000)]
    blocks += [(0x1F1E6, 0x1F200), (0x1F300, 0x1FB00), (0x20000, 0x2A6E0), (0, 0xD800), (0x10000, 0x110000)]
    spaces = " \t\n\r\u00a0\u2003\u2028\u3000\u200b\u180e"
    controls = "\x00\x01\x0b\x1f\x7f\x85\xad\u200c\u200d\u202e\ufeff\ufffd\ufe0f\ue000"
    emoji = ["👩‍👩‍👧‍👦", "👍🏽", "🇩🇪", "❤️", "☺", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]
    specials = ["[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]", "[sep]", "##ing", "[UNUSED1]"]

    def part():
        kind = generator.integers(10)
        if kind < 3:
            start, end = blocks[generator.integers(len(blocks))]
            return "".join(map(chr, generator.integers(start, end, generator.integers(1, 8)).tolist()))
        if kind < 6:
            return vocabulary[generator.integers(len(vocabulary))].removeprefix("##")
        if kind == 6:
            return "".join(map(chr, generator.integers(0x300, 0x370, generator.integers(1, 4)).tolist()))
        if kind == 7:
            return spaces[generator.integers(len(spaces))]
        if kind == 8:
            return controls[generator.integers(len(controls))]
        if generator.integers(20) == 0:
            return chr(generator.integers(0x61, 0x2000)) * int(generator.integers(95, 106))
        pool = emoji if generator.integers(2) else specials
        return pool[generator.integers(len(pool))]

    texts = ["".join(part() for _ in range(generator.integers(0, 16))) for _ in range(count)]
    return ["".join(c for c in text if not "\ud800" <= c < "\ue000") for text in texts]


def random_bytes(count, seed=0):
    """Return texts that are not UTF-8: cut, overlong, surrogate and random sequences among good ones."""
    generator = np.random.default_rng(seed)
    parts = [b"\x80", b"\xc3", b"\xe4\xb8", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xff"]
    parts += [b"word", b" ", b"\xe4\xb8\xad", b"\xc3\xa9", b"\xf0\x9f\x98\x80", b",", b"\x00"]
    texts = []
    for _ in range(count):
        chosen = [parts[i] for i in generator.integers(len(parts), size=generator.integers(1, 12))]
        texts.append(b"".join([*chosen, generator.bytes(int(generator.integers(4)))]))
    return texts


# Name, class of transformers, file, and how its model is trained.
SENTENCE_PIECES = [
    ("XLM-R", "XLMRobertaTokenizer", "sentencepiece.bpe.model", {}),
    (
        "ALBERT",
        "AlbertTokenizer",
        "spiece.model",
        {
            **dict(zip(("pad_id", "unk_id", "bos_id", "eos_id"), (0, 1, -1, -1), strict=True)),
            "control_symbols": ["[CLS]", "[SEP]", "[MASK]"],
            "user_defined_symbols": list("()-.–£€"),
        },
    ),
]


def sentence_piece_tokenizers(lines, class_name, file, options):
    """Return ours, the class of transformers that calls the package, Hugging Face's fast one, and the package's."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=8000,
        character_coverage=0.9995,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
        **options,
    )
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, file)
        path.write_bytes(model.getvalue())
        fast = getattr(transformers, f"{class_name}Fast")(str(path))
        fast.save_pretrained(directory)
        ours = SentencePieceTokenizer.from_pretrained(directory)
        slow = getattr(transformers, class_name)(str(path))
    fast.backend_tokenizer.encode_special_tokens = True
    return ours, slow, fast.backend_tokenizer, sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def report_sentence_pieces(lines, count):
    for name, class_name, file, options in SENTENCE_PIECES:
        started = time.perf_counter()
        all_lines = [line for texts in lines.values() for line in texts]
        ours, slow, fast, package = sentence_piece_tokenizers(all_lines, class_name, file, options)
        tokenize = tf.function(ours.tokenize)

        def report(what, texts, name=name, ours=ours, slow=slow, fast=fast, package=package, tokenize=tokenize):
            wrong = wrong_fast = wrong_offsets = 0
            for start in range(0, len(texts), BATCH):
                batch = texts[start : start + BATCH]
                ids = tokenize(tf.constant(batch)).to_list()
                if isinstance(batch[0], bytes):
                    expected = [[i + 1 if i else 3 for i in row] for row in package.encode(batch)]
                    wrong += sum(a != b for a, b in zip(ids, expected, strict=True))
                    continue
                expected = [slow.convert_tokens_to_ids(slow._tokenize(text)) for text in batch]
                wrong += sum(a != b for a, b in zip(ids, expected, strict=True))
                wrong_fast += sum(a != b for a, b in zip(reference_ids(fast, batch), expected, strict=True))
                if name == "XLM-R":
                    _, starts, ends = ours.tokenize_with_offsets(batch, unit="characters")
                    rows = zip(batch, starts.to_list(), ends.to_list(), strict=True)
                    for text, first, last in rows:
                        offsets = package.encode(text, return_type="offset_mapping")["offsets"]
                        wrong_offsets += offsets != list(zip(first, last, strict=True))
            print(
                f"{len(texts):>9,}  {wrong:>13,}  {wrong_fast:>8,}  {name}: {what}; offsets: {wrong_offsets:,}",
                flush=True,
            )

        for form, pattern in FORMS.items():
            report(f"code points, {form}", code_point_texts(pattern))
        report(f"lines of {len(lines)} languages", all_lines)
        report("random strings", random_texts(count, ours.vocabulary))
        if name == "XLM-R":
            report("random bytes", random_bytes(count))
        print(f"{time.perf_counter() - started:.0f} s")


def tf_text_tokenizer(vocabulary_file, lowercase):
    vocabulary = BertTokenizer(vocabulary_file).vocabulary
    return tf_text.FastBertTokenizer(vocabulary, lower_case_nfd_strip_accents=lowercase, token_out_type=tf.int32)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default=os.environ.get("KERAS_BERT_LAYERS_DATA"), help="the data folder")
    parser.add_argument("--table", help="Markdown file to write: per language, the lines that are wrong")
    parser.add_argument("--sentence-piece", action="store_true", help="compare SentencePieceTokenizer instead")
    parser.add_argument("--random", type=int, default=100_000, help="number of random strings")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("the data folder is expected, as an argument or in KERAS_BERT_LAYERS_DATA")
    data = pathlib.Path(arguments.data)
    versions = (
        f"Python {platform.python_version()}, TensorFlow {tf.__version__}, tensorflow-text {tf_text.__version__}, "
        f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}"
    )
    print(versions)
    lines = real_lines(data)
    if arguments.sentence_piece:
        print(f"{'texts':>9}  {'ours':>13}  {'HF fast':>8}  wrong, of")
        report_sentence_pieces(lines, arguments.random)
        return
    total = sum(map(len, lines.values()))
    ours = dict.fromkeys(lines, 0)
    theirs = {name: dict.fromkeys(lines, 0) for name, _, _ in SETTINGS}

    marks = set(reordered_marks())
    print(f"{'texts':>9}  {'BertTokenizer':>13}  {'tf.text':>8}  wrong, of")
    for name, file, lowercase in SETTINGS:
        started = time.perf_counter()
        path = data / "vocabularies" / file
        tokenizer, reference = BertTokenizer(path, lowercase=lowercase), reference_tokenizer(path, lowercase)
        tokenize, tokenize_fast = (
            tf.function(tokenizer.tokenize),
            tf.function(tf_text_tokenizer(path, lowercase).tokenize),
        )

        def report(what, texts, wrong, wrong_fast=None, name=name):
            fast = "" if wrong_fast is None else f"{wrong_fast:,}"
            print(f"{texts:>9,}  {wrong:>13,}  {fast:>8}  {name}: {what}", flush=True)

        for form, pattern in FORMS.items():
            texts = code_point_texts(pattern)
            wrong = wrong_ids(tokenize, reference, texts)
            report(f"code points, {form}", len(texts), len(wrong), len(wrong_ids(tokenize_fast, reference, texts)))

        wrong_offset_count = 0
        for language, texts in lines.items():
            wrong = set(wrong_ids(tokenize, reference, texts))
            wrong_there = set(wrong_offsets(tokenizer, reference, texts))
            wrong_offset_count += len(wrong_there)
            ours[language] += len(wrong | wrong_there)
            theirs[name][language] = len(wrong_ids(tokenize_fast, reference, texts))
        report(f"lines of {len(lines)} languages", total, sum(ours.values()), sum(theirs[name].values()))
        report("the same, offsets and word ids", total, wrong_offset_count)

        texts = random_texts(arguments.random, tokenizer.vocabulary)
        wrong = wrong_ids(tokenize, reference, texts)
        report("random strings", len(texts), len(wrong), len(wrong_ids(tokenize_fast, reference, texts)))
        marked = [text for text in texts if not set(text).isdisjoint(marks)]
        unmarked = [text for text in texts if set(text).isdisjoint(marks)]
        report("the same, offsets and word ids", len(unmarked), len(wrong_offsets(tokenizer, reference, unmarked)))
        report("the same, with kept marks", len(marked), len(wrong_offsets(tokenizer, reference, marked)))

        texts = random_bytes(arguments.random)
        wrong = wrong_ids(tokenize, reference, texts)
        report("random bytes", len(texts), len(wrong), len(wrong_ids(tokenize_fast, reference, texts)))

        texts = random_texts(arguments.random // 10, [*tokenizer.vocabulary[:104]] * 2 + tokenizer.vocabulary[-100:], 1)
        special = BertTokenizer(path, lowercase=lowercase, special_tokens_in_text=True)
        special_reference = reference_tokenizer(path, lowercase, split_special_tokens=False)
        wrong = wrong_ids(tf.function(special.tokenize), special_reference, texts)
        report("special tokens in the text", len(texts), len(wrong))
        unmarked = [text for text in texts if set(text).isdisjoint(marks)]
        wrong = wrong_offsets(special, special_reference, unmarked)
        report("the same, offsets and word ids", len(unmarked), len(wrong))

        ids = reference_ids(reference, [line for texts in lines.values() for line in texts[:20]])
        decoded = [reference.decode(row, skip_special_tokens=False) for row in ids]
        detokenized = [text.decode() for text in tokenizer.detokenize(tf.ragged.constant(ids, tf.int32)).numpy()]
        wrong = [a for a, b in zip(decoded, detokenized, strict=True) if a != b]
        report("detokenize", len(ids), len(wrong))
        print(f"{time.perf_counter() - started:.0f} s")

    if arguments.table:
        columns = [name for name, _, _ in SETTINGS]
        rows = [
            "# Lines whose ids differ, by language\n",
            f"Made by `python benchmarks/tokenizer_parity.py DATA --table {arguments.table}`.\n",
            f"Lines whose ids are not Hugging Face's. {versions}.\n",
            "| language | lines | BertTokenizer, all vocabularies | "
            + " | ".join(f"tf.text, {c}" for c in columns)
            + " |",
            "|---|" + "---:|" * (len(columns) + 2),
        ]
        for language, texts in lines.items():
            counts = " | ".join(str(theirs[name][language]) for name in columns)
            rows.append(f"| {language} | {len(texts)} | {ours[language]} | {counts} |")
        counts = " | ".join(str(sum(theirs[name].values())) for name in columns)
        rows.append(f"| all | {total} | {sum(ours.values())} | {counts} |")
        pathlib.Path(arguments.table).write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
