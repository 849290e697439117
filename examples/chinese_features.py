"""Chinese texts -> [CLS], pooled, token and layer features, the classic use of BERT as a feature extractor.

    python examples/chinese_features.py --model google-bert/bert-base-chinese --figure scatter.png
    python examples/chinese_features.py --vocabulary bert-base-chinese.vocab.txt

The second form needs no download: a small BERT with random weights over the real vocabulary, to see shapes and ids.
`--figure` draws texts of three topics as points, in the first and in the last layer; it needs
pip install 'keras-bert-layers[analysis]', and a font with Chinese characters for the names of the topics.
"""

import argparse
import os

# TensorFlow's start-up messages; set before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import keras_bert_layers as kbl

TEXTS = ["今天天气很好，我们去公园吧。", "语言模型的每一层都知道不同的东西！", "ＢＥＲＴ有１２层"]
TOPICS = {
    "天气": ["明天有大雨，记得带伞。", "北方今晚开始下雪。", "台风正在靠近南部海岸。", "这个周末天晴，气温很高。"],
    "体育": ["主队在最后一分钟进了球。", "她打破了百米世界纪录。", "决赛将在下周日举行。", "教练换下了受伤的前锋。"],
    "电脑": ["手机更新以后不能上网。", "请先保存文件再关机。", "这个程序占用太多内存。", "键盘上的几个按键失灵了。"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="google-bert/bert-base-chinese", help="directory or Hugging Face repository")
    parser.add_argument("--vocabulary", help="a vocab.txt, for random weights in place of --model")
    parser.add_argument("--output", help="an NPZ file to write the features to")
    parser.add_argument("--figure", help="a PNG file to draw texts of three topics to")
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
    if arguments.figure:
        texts = [text for group in TOPICS.values() for text in group]
        topics = [topic for topic, group in TOPICS.items() for _ in group]
        embeddings = kbl.analysis.extract_embeddings(encoder, preprocessor, texts, "first_last", pooling="mean")
        embeddings.plot(topics).savefig(arguments.figure)
        print(f"Drawn to {arguments.figure}")


if __name__ == "__main__":
    main()
