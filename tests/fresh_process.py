"""Runs Python where nothing of the test's own process is left: no objects, no imports, another directory."""

import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping

import keras_bert_layers

PACKAGE_PARENT = pathlib.Path(keras_bert_layers.__file__).parents[1]
# What the test's process, or transformers in it, may have set for itself.
_OWN_VARIABLES = ("TF_USE_LEGACY_KERAS", "KERAS_BACKEND", "PYTHONPATH")


def run_in_fresh_process(
    program: str | pathlib.Path,
    *arguments: object,
    cwd: pathlib.Path,
    variables: Mapping[str, str] | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Runs a program in a Python of its own, which finds the package and nothing of the tests.

    Args:
        program: source code, or the path of a script.
        *arguments: the program's `sys.argv[1:]`.
        cwd: the directory that it runs in.
        variables: environment variables to set.
        check: whether it must end well.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _OWN_VARIABLES}
    environment |= {"PYTHONPATH": str(PACKAGE_PARENT), "TF_CPP_MIN_LOG_LEVEL": "3", **(variables or {})}
    script = [str(program)] if isinstance(program, pathlib.Path) else ["-c", program]
    command = [sys.executable, *script, *map(str, arguments)]
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if check:
        assert result.returncode == 0, result.stderr
    return result
