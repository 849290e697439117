import dataclasses
from typing import Any

import numpy as np


class Result:
    """What the analysis returns: dataclasses whose `repr` is one line, however much they hold."""

    def __repr__(self) -> str:
        fields: Any = dataclasses.fields(self)  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(f'{one.name}={_short(getattr(self, one.name))}' for one in fields)})"


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"<{value.dtype} {list(value.shape)}>"
    if isinstance(value, (list, tuple)):
        if len(value) <= 32 and all(isinstance(one, int) for one in value):
            return repr(value)
        return f"<{len(value)} of {type(value[0]).__name__}>"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
