"""Words and their pieces as Hugging Face's tokenizer sees them, for the tests of what is done with words."""

import pathlib
from typing import Any

import numpy as np


def load_tokenizer(vocabulary: pathlib.Path, lowercase: bool = True) -> Any:
    import transformers

    return transformers.BertTokenizerFast(str(vocabulary), do_lower_case=lowercase, split_special_tokens=True)


def encode(tokenizer: Any, texts: list, length: int) -> dict[str, np.ndarray]:
    """Texts, or lists of words -> ids, mask and `word_ids()` with -1 for None, int32 `[batch, length]`."""
    encoded = tokenizer(
        texts,
        is_split_into_words=not isinstance(texts[0], str),
        padding="max_length",
        truncation=True,
        max_length=length,
        return_tensors="np",
    )
    word_ids = [[-1 if word is None else word for word in encoded.word_ids(row)] for row in range(len(texts))]
    return {
        "input_word_ids": encoded["input_ids"].astype("int32"),
        "input_mask": encoded["attention_mask"].astype("int32"),
        "word_ids": np.array(word_ids, "int32"),
    }


def read_wnut17(directory: pathlib.Path, count: int) -> tuple[list[list[str]], list[list[int]]]:
    """The first sentences of WNUT 2017 as words, and the numbers of their tags."""
    sentences: list[list[str]] = [[]]
    tags: list[list[str]] = [[]]
    for line in (directory / "wnut17" / "wnut17train.conll").read_text(encoding="utf-8").split("\n"):
        if line.strip():
            word, tag = line.split("\t")
            sentences[-1].append(word)
            tags[-1].append(tag)
        elif sentences[-1]:
            sentences.append([])
            tags.append([])
    names = sorted({tag for row in tags for tag in row})
    return sentences[:count], [[names.index(tag) for tag in row] for row in tags[:count]]
