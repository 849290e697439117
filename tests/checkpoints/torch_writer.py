"""Writes what `torch.save` writes, without PyTorch: by Python's own pickle, and zip or the form before PyTorch 1.6."""

import collections
import io
import pathlib
import pickle
import struct
import sys
import types
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
}


class Tensor:
    """A tensor as PyTorch pickles it; what is not given is that of a contiguous one."""

    def __init__(self, numbers: np.ndarray, offset: int = 0, shape: Any = None, strides: Any = None) -> None:
        self.numbers = np.ascontiguousarray(numbers).ravel()
        self.shape = numbers.shape if shape is None else shape
        contiguous = [int(np.prod(self.shape[i + 1 :])) for i in range(len(self.shape))]
        self.arguments = offset, tuple(self.shape), tuple(contiguous if strides is None else strides)


def save_torch(path: pathlib.Path, contents: Any, legacy: bool = False, is_parameter: bool = False) -> None:
    """Writes a dict of arrays and `Tensor`s, or anything else."""
    storages: dict[str, np.ndarray] = {}
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        function = types.FunctionType((lambda *arguments: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)
    torch._utils = utils

    class Storage:
        def __init__(self, numbers: np.ndarray) -> None:
            self.numbers = numbers

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            if not isinstance(value, Storage):
                return None
            key = str(len(storages))
            storages[key] = value.numbers
            kind = getattr(torch, STORAGES[value.numbers.dtype.name])
            return ("storage", kind, key, "cpu", value.numbers.size, *([None] if legacy else []))

        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, np.ndarray):
                value = Tensor(value)
            if not isinstance(value, Tensor):
                return NotImplemented
            hooks: Any = collections.OrderedDict()
            rebuilt = utils._rebuild_tensor_v2, (Storage(value.numbers), *value.arguments, False, hooks)
            return (utils._rebuild_parameter, (Reduced(*rebuilt), True, hooks)) if is_parameter else rebuilt

    class Reduced:
        def __init__(self, *reduced: Any) -> None:
            self.reduced = reduced

        def __reduce__(self) -> Any:
            return self.reduced

    def pickled(value: Any) -> bytes:
        stream = io.BytesIO()
        Pickler(stream, protocol=2).dump(value)
        return stream.getvalue()

    modules = {"torch": torch, "torch._utils": utils}
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        body = pickled(contents)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    if legacy:
        with path.open("wb") as file:
            for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001}):
                file.write(pickle.dumps(value, protocol=2))
            file.write(body + pickle.dumps(sorted(storages), protocol=2))
            for key in sorted(storages):
                file.write(struct.pack("<q", storages[key].size) + storages[key].tobytes())
    else:
        save_zip(path, body, {key: numbers.tobytes() for key, numbers in storages.items()})


def save_zip(path: pathlib.Path, body: bytes, storages: Mapping[str, bytes], **options: Any) -> None:
    """Writes the zip form of a pickle and of the storages that it names."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", body)
        archive.writestr("archive/byteorder", "little")
        for key, numbers in storages.items():
            archive.writestr(f"archive/data/{key}", numbers)
        archive.writestr("archive/version", "3\n")
