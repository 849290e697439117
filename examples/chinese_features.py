"""Chinese texts -> [CLS], pooled, token and layer features, the classic use of BERT as a feature extractor.

    python examples/chinese_features.py --model google-bert/bert-base-chinese
    python examples/chinese_features.py --vocabulary bert-base-chinese.vocab.txt

The second form needs no download: a small BERT with random weights over the real vocabulary, to see shapes and ids.
"""

import argparse
import os

# TensorFlow's start-up messages; set before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import keras_bert_layers as kbl

TEXTS = ["今天天气很好，我们去公园吧。", "语言模型的每一层都知道不同的东西！", "ＢＥＲＴ有１２层"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="google-bert/bert-base-chinese", help="directory or Hugging Face repository")
    parser.add_argument("--vocabulary", help="a vocab.txt, for random weights in place of --model")
    parser.add_argument("--output", help="an NPZ file to write the features to")
    arguments = parser.parse_args()

    if arguments.vocabulary:
        preprocessor = kbl.BertPreprocessor(arguments.vocabulary, sequence_length=32)
        config = kbl.BertConfig(
            vocab_size=preprocessor.tokenizer.vocabulary_size,
            hidden_size=64,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=128,
        )
        encoder = kbl.BertEncoder(config, layers="all+embeddings", combine="stack")
    else:
        preprocessor = kbl.BertPreprocessor.from_pretrained(arguments.model, sequence_length=32)
        encoder = kbl.BertEncoder.from_pretrained(arguments.model, layers="all+embeddings", combine="stack")

    ids = preprocessor(TEXTS)
    outputs = encoder(ids)
    features = {
        "cls": outputs["sequence_output"][:, 0],
        "tokens": outputs["sequence_output"],
        "layers": outputs["encoder_outputs"],
        "mean_of_last_layer": kbl.SequencePooling("mean")(outputs["sequence_output"]),
        "token_ids": ids["input_word_ids"],
        "mask": outputs["mask"],
    }
    if "pooled_output" in outputs:
        features["pooled"] = outputs["pooled_output"]
    for text, row, mask in zip(TEXTS, ids["input_word_ids"].numpy(), outputs["mask"].numpy(), strict=True):
        print(text, "->", " ".join(preprocessor.tokenizer.id_to_token(int(token)) for token in row[mask]))
    for name, value in features.items():
        print(f"{name:20s} {tuple(value.shape)}")
    if arguments.output:
        np.savez_compressed(arguments.output, **{name: value.numpy() for name, value in features.items()})
        print(f"Written to {arguments.output}")


if __name__ == "__main__":
    main()
