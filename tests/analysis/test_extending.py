"""The recipe for a measure in docs/extending.md is followed."""

import pathlib
import re
import sys
import textwrap
import types

import numpy as np
import pytest

from .made_encoder import Reference

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture
def recipe(monkeypatch):
    """The module of the first step."""
    section = PAGE.read_text(encoding="utf-8").split("## A measure of the analysis")[1]
    code = textwrap.dedent(re.search(r"```python\n(.*?)```\n\n {4}`Wanted`", section, re.DOTALL)[1])
    module = types.ModuleType("token_norm")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, str(PAGE), "exec"), vars(module))
    return module


def test_a_measure(recipe, made_encoder, preprocessor, texts):
    result = recipe.token_norm(made_encoder, preprocessor, texts, layers=[0, 2])
    reference = Reference(made_encoder, preprocessor, texts)
    expected = [np.linalg.norm(reference.tokens(layer), axis=1).mean() for layer in (0, 2)]
    np.testing.assert_allclose(result.norm, expected, atol=1e-5)
    assert result.to_dataframe().norm.tolist() == result.norm.tolist()
    assert repr(result) == f"TokenNorm(layers=[0, 2], norm=<float64 [2]>, tokens={result.tokens})"
    (axis,) = result.plot().axes
    assert axis.lines[0].get_ydata().tolist() == result.norm.tolist()
