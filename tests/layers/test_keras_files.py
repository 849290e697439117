"""The layers come back from `.keras` files: all in one fresh process, whose start takes most of the time."""

from ..layer_test_case import run_saving_test
from . import test_layer_combination, test_sequence_pooling, test_word_pooling


def test_keras_files(tmp_path):
    modules = {"combination": test_layer_combination, "sequence": test_sequence_pooling, "words": test_word_pooling}
    cases = {f"{name}_{saved}": case for name, module in modules.items() for saved, case in module.SAVED.items()}
    run_saving_test(cases, tmp_path)
