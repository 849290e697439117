"""A Python that has TensorFlow and tf.text imported, and is forked for each program that is to run in a fresh process.

`check` runs an export's golden example in a Python of its own, whose start takes five seconds, and most tests of
exports do so. What is forked here has imported no more than that program imports, and nothing of this package.
"""

import json
import subprocess
import sys
from typing import Any

_FORKS = """
import json, os, sys, tempfile, time
import tensorflow, tensorflow_text

for line in sys.stdin:
    order = json.loads(line)
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as given:
        given.write(order["input"].encode())
        given.seek(0)
        child = os.fork()
        if child == 0:
            os.dup2(given.fileno(), 0)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(errors.fileno(), 2)
            os.chdir(order["cwd"])
            os.environ.clear()
            os.environ.update(order["env"])
            sys.stdin = open(0)
            status = 1
            try:
                exec(order["program"], {"__name__": "__main__"})
                status = 0
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(status)
        end, status = time.monotonic() + order["timeout"], None
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            time.sleep(0.01)
        else:
            os.kill(child, 9)
            os.waitpid(child, 0)
            status = None
        errors.seek(0)
        answer = {"status": status, "stderr": errors.read().decode(errors="replace")}
    print(json.dumps(answer), flush=True)
"""


class WarmStart:
    """Has `run` in place of `subprocess.run`, for `[python, "-c", program]`."""

    TimeoutExpired = subprocess.TimeoutExpired

    def __init__(self):
        self._forks: subprocess.Popen[str] | None = None

    def run(
        self, command: list[str], *, input: str, cwd: Any, env: dict[str, str], timeout: float, **_: Any
    ) -> subprocess.CompletedProcess[str]:
        if self._forks is None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self._forks = subprocess.Popen([sys.executable, "-c", _FORKS], text=True, env=env, **pipes)
        order = {"program": command[2], "input": input, "cwd": str(cwd), "env": env, "timeout": timeout}
        self._forks.stdin.write(json.dumps(order) + "\n")
        self._forks.stdin.flush()
        answer = json.loads(self._forks.stdout.readline())
        if answer["status"] is None:
            raise subprocess.TimeoutExpired(command, timeout)
        # As subprocess has it: the exit status, or the number of a signal, negative.
        status = answer["status"]
        code = -(status & 0x7F) if status & 0x7F else status >> 8
        return subprocess.CompletedProcess(command, code, "", answer["stderr"])

    def close(self) -> None:
        if self._forks is not None:
            self._forks.stdin.close()
            self._forks.wait()
            self._forks.stdout.close()
