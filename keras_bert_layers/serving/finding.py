import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that `check` found.

    Args:
        severity: `"error"`, what makes a server or its clients fail; or `"warning"`, worth knowing.
        problem: what goes wrong, and with what words where TensorFlow Serving has its own.
        fix: what to do about it.
        where: the file, signature or node.

    Example:

    >>> print(Finding("error", "The server has no operation Foo.", "Leave it out.", "saved_model.pb"))
    error: saved_model.pb: The server has no operation Foo. Leave it out.
    """

    severity: Literal["error", "warning"]
    problem: str
    fix: str
    where: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.problem} {self.fix}"
