"""Damage to files: to their bytes, to the structure of their JSON, and to what stands under their name."""

import copy
import json
import os
import pathlib
import random
from collections.abc import Sequence
from typing import Any

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4" * 64 + b"\nsize 440473133\n"
DEEP = "[" * 100_000 + "]" * 100_000
# Values that a reader meets where it wanted another.
HOSTILE: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 7, 8, 30, 1.5, 0.0, -0.0, 1e308, float("nan"), float("inf"), 2**31, 2**32 + 5),
    *(2**63, 10**30, 10**400, -(2**63), "", " ", "x", "8", "null", "\x00", "\ud800", "é", "[PAD]", "[SEP]", "a\nb"),
    *("../../etc/passwd", "/etc/passwd", "gs://bucket/1", "http://localhost:1/x", "builtins.eval", "os.system"),
    *("a" * 5000, "9" * 5000, [], {}, [[]], [None], {"a": {}}, [0, 1, 2], ["[PAD]"] * 3, {"b64": "YQ=="}),
]


def mutate_bytes(random: random.Random, content: bytes) -> tuple[bytes, str]:
    """Other bytes, and what was done."""
    place = random.randrange(len(content) + 1)
    end = min(len(content), place + random.choice((1, 2, 8, 100)))
    kind = random.choice("flip flip flip cut cut grow zero repeat swap empty pointer mark utf16 page huge".split())
    if kind == "flip" and content:
        changed = bytearray(content)
        for _ in range(random.choice((1, 1, 2, 10))):
            changed[random.randrange(len(changed))] = random.randrange(256)
        return bytes(changed), "bytes changed"
    if kind == "cut":
        return content[:place], f"cut off at {place} of {len(content)}"
    if kind == "grow":
        return content + random.randbytes(random.choice((1, 8, 1000))), "bytes appended"
    if kind == "zero":
        return content[:place] + bytes(end - place) + content[end:], f"zeros at {place} to {end}"
    if kind == "repeat":
        return content[:end] + content[place:], f"bytes {place} to {end} repeated"
    if kind == "swap":
        return content[end:] + content[:end], f"turned at {end}"
    if kind == "pointer":
        return LFS_POINTER, "a pointer of Git LFS"
    if kind == "mark":
        return b"\xef\xbb\xbf" + content, "a byte order mark"
    if kind == "utf16":
        return content.decode("latin-1").encode("utf-16"), "UTF-16"
    if kind == "page":
        return b"<!doctype html><title>401 Unauthorized</title>", "an HTML page"
    if kind == "huge":
        return random.choice((b"[", b'{"a":', b"9", b"\x80", b"\n")) * 200_000, "one thing 200,000 times"
    return b"", "empty"


def mutate_json(random: random.Random, value: Any, times: int | None = None) -> tuple[Any, str]:
    """Another structure, and what was done."""
    value, done = copy.deepcopy(value), []
    for _ in range(times or random.choice((1, 1, 1, 2, 3))):
        parents = list(_containers(value))
        if not parents:
            return random.choice(HOSTILE), "replaced as a whole"
        # Small containers hold what matters, and a vocabulary is most of the places.
        path, parent = random.choice(sorted(parents, key=lambda item: len(item[1]))[: max(1, random.randrange(40))])
        keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        kind = random.choice("replace replace replace replace remove rename add wrap swap".split())
        if not keys:
            kind = "add"
        key = random.choice(keys) if keys else None
        if kind == "replace":
            parent[key] = copy.deepcopy(random.choice(HOSTILE))
            done.append(f"{path}[{key!r}] = {repr(parent[key])[:40]}")
        elif kind == "remove":
            del parent[key]
            done.append(f"{path}[{key!r}] removed")
        elif kind == "wrap":
            parent[key] = random.choice(([parent[key]], {"content": parent[key]}, str(parent[key])))
            done.append(f"{path}[{key!r}] wrapped")
        elif kind == "swap":
            other = random.choice(keys)
            parent[key], parent[other] = parent[other], parent[key]
            done.append(f"{path}[{key!r}] and [{other!r}] exchanged")
        elif isinstance(parent, dict):
            name = random.choice(("", "x", "\x00", "../x", "a" * 5000, "0", *map(str, keys)))
            parent[name] = parent.pop(key) if kind == "rename" and key is not None else random.choice(HOSTILE)
            done.append(f"{path}[{name[:20]!r}] put in")
        else:
            parent.insert(random.randrange(len(parent) + 1), copy.deepcopy(random.choice(HOSTILE)))
            done.append(f"{path} lengthened")
    return value, "; ".join(done)


def _containers(value: Any, path: str = "") -> Any:
    if isinstance(value, (dict, list)):
        yield path, value
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _containers(item, f"{path}[{str(key)[:30]}]")


def dump(value: Any) -> bytes:
    """JSON, with what Python's writer refuses as other programs write it."""
    return json.dumps(value).encode()


def mutate_file(random: random.Random, file: pathlib.Path, others: Sequence[pathlib.Path]) -> str:
    """Changes a file in place, and says how."""
    if file.is_symlink() or not file.is_file():
        # Already something else.
        return f"{file.name}: once more"
    content = file.read_bytes()
    kind = random.choice("bytes bytes bytes json json json json json json place".split())
    if kind == "json":
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            kind = "bytes"
        else:
            value, what = mutate_json(random, value)
            if random.random() < 0.03:
                value, what = "deep", "100,000 lists in each other"
            file.write_bytes(DEEP.encode() if value == "deep" else dump(value))
            return f"{file.name}: {what}"
    if kind == "bytes":
        content, what = mutate_bytes(random, content)
        file.write_bytes(content)
        return f"{file.name}: {what}"
    file.unlink()
    kind = random.choice("missing directory pipe loop dangling other".split())
    if kind == "directory":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "loop":
        file.symlink_to(file.name)
    elif kind == "dangling":
        file.symlink_to("nowhere")
    elif kind == "other":
        file.symlink_to(random.choice(others).name)
    return f"{file.name}: {kind}"


def safetensors_parts(content: bytes) -> tuple[Any, bytes]:
    """Header and data."""
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def safetensors_bytes(header: Any, data: bytes) -> bytes:
    """A file with this header, whatever it says."""
    text = dump(header)
    return len(text).to_bytes(8, "little") + text + data
