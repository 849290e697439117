"""Finds a checkpoint's files, and downloads them where they are not on this machine."""

from __future__ import annotations

import logging
import os
import pathlib
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from keras_bert_layers.checkpoints.bert_config import CONFIG_FILES
from keras_bert_layers.checkpoints.directory_names import list_names, way_out
from keras_bert_layers.local_path import local_path

logger = logging.getLogger(__name__)


class WantedFiles(NamedTuple):
    """Which files of a repository are downloaded.

    Args:
        required: Groups of names; of each group the first that the repository has.
        optional: Names of files that are downloaded where the repository has them.
        parts: For files that name others, such as the index of shards, what reads their names, which are required too.

    Example:

    >>> WantedFiles(required=(("vocab.txt",),)).optional
    ()
    """

    required: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ()
    parts: Mapping[str, Callable[[pathlib.Path], list[str]]] = {}


CONFIGURATION_FILES = WantedFiles(required=(CONFIG_FILES,))
# XLM-R's and CamemBERT's, and ALBERT's.
SENTENCE_PIECE_MODELS = ("sentencepiece.bpe.model", "spiece.model")
TOKENIZER_FILES = WantedFiles(
    required=(("vocab.txt", "tokenizer.json", *SENTENCE_PIECE_MODELS),),
    optional=(
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
        *CONFIG_FILES,
    ),
)

_COMMIT = re.compile(r"[0-9a-f]{40}")

_ARCHIVES = {".7z", ".bz2", ".gz", ".tar", ".tgz", ".xz", ".zip"}

# What the file begins with, and the class that reads it.
_OTHER_WEIGHTS = {"pytorch_model": "AutoModel (needs PyTorch)", "tf_model": "TFAutoModel"}


def find_checkpoint(
    source: str | os.PathLike[str],
    wanted: WantedFiles,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> pathlib.Path:
    """Finds the directory of a checkpoint; a Hugging Face repository is downloaded.

    Downloads go through huggingface_hub and so honour `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE`.

    Args:
        source: A directory, which is returned as it is, or the id of a repository, such as
            `"google-bert/bert-base-uncased"`. A directory of that name comes first.
        wanted: What to download: `CONFIGURATION_FILES`, `TOKENIZER_FILES` or the `CHECKPOINT_FILES` of `formats`.
        revision: Branch, tag or commit of the repository.
        cache_dir: Directory to download to, in place of Hugging Face's own cache.
        token: Access token for the repository, in place of the environment variable `HF_TOKEN`.
        local_files_only: Whether to use only what was downloaded before.

    Returns:
        The directory that holds the files.

    Raises:
        FileNotFoundError: If there is no such directory or repository, it lacks a required file, or the file was not
            downloaded before and there is no connection to the server.
        NotADirectoryError: If the source is a file.
        OSError: If the server answers with an error.
        PermissionError: If the repository is gated, the token is refused, or this account may not read the directory.
        TypeError: If the source is no str and no path object.
        ValueError: If the source or `cache_dir` is a URL, or the repository has no such revision.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     find_checkpoint(directory, CONFIGURATION_FILES) == pathlib.Path(directory)
    True
    """
    directory = local_path(
        source, "source", "A repository of Hugging Face is given by its id, such as 'google-bert/bert-base-uncased'."
    )
    if cache_dir is not None:
        cache_dir = local_path(cache_dir, "cache_dir")
    name = os.fspath(source)
    if not isinstance(revision, (str, type(None))):
        raise TypeError(
            "Expected `revision` to be a branch, tag or commit, as a str, or None. "
            f"Received: revision={revision!r} of type {type(revision).__name__}."
        )
    try:
        mode = directory.stat().st_mode
    except PermissionError as error:
        raise PermissionError(
            f"A directory that this account may read is expected. Received: source={name!r}, {error.strerror}. "
            "Allow it, with `chmod u+rx` on the directory and those above it, or copy the directory."
        ) from error
    except OSError:
        # There is nothing of this name: it may be a repository.
        pass
    else:
        if not stat.S_ISDIR(mode):
            raise NotADirectoryError(
                f"The directory of a checkpoint is expected. Received: source={name!r}, which is a file. "
                f"{_instead_of_a_file(directory, wanted)}"
            )
        return directory
    if not isinstance(source, str) or not _is_repository_id(name):
        raise FileNotFoundError(
            "A directory, or a repository id such as 'google-bert/bert-base-uncased', is expected. "
            f"Received: source={name!r}. There is no such directory or repository: seen from {os.getcwd()!r} no "
            "directory has this path, and it cannot be the id of a repository, which is `name` or `owner/name`. "
            "Check the path."
        )
    repository = _Repository(name, revision, cache_dir, token, local_files_only)
    directory = repository.fetch_required(wanted.required[0]).parent
    for group in wanted.required[1:]:
        file = repository.fetch_required(group)
        if file.name in wanted.parts:
            for part in wanted.parts[file.name](file):
                repository.fetch_required((part,))
    for filename in wanted.optional:
        repository.fetch_optional(filename)
    return directory


def missing_files_error(where: str, expected: Iterable[str], names: Iterable[str] | None) -> FileNotFoundError:
    """Makes the error for a place that has none of the files that were expected.

    Args:
        where: The place, as the error calls it.
        expected: Names of which one was expected.
        names: Names of the files that are there, or None where they cannot be listed.

    Returns:
        The error, which says how to get the expected files from others that are there.

    Example:

    >>> print(missing_files_error("The directory bert", ["model.safetensors"], ["config.json"]))
    The directory bert is expected to hold model.safetensors. Received: config.json. ...
    """
    expected = list(expected)
    names = None if names is None else sorted(names)
    instead = way_out(names, "Give the directory or repository of a BERT in Hugging Face's format.")
    if "model.safetensors" in expected:
        for start, reader in _OTHER_WEIGHTS.items():
            others = [name for name in names or () if name.startswith(start)]
            if others:
                instead = (
                    f"Its weights are only in {', '.join(others)}. Save it once more as safetensors, through "
                    f"transformers' {reader}: `model = {reader.split()[0]}.from_pretrained(...)`, then "
                    "`model.save_pretrained(directory, safe_serialization=True)`, and give that directory."
                )
                break
    return FileNotFoundError(
        f"{where} is expected to hold {' or '.join(expected)}. Received: {list_names(names)}. {instead}"
    )


def _instead_of_a_file(path: pathlib.Path, wanted: WantedFiles) -> str:
    if path.suffix in _ARCHIVES:
        return f"Unpack it, and give the directory that then holds {' or '.join(wanted.required[0])}."
    if path.suffix == ".txt" and path.name != "vocab.txt":
        return (
            "A vocabulary alone goes to the constructor: BertTokenizer(path, lowercase=...), or BertPreprocessor "
            "likewise."
        )
    return f"Give the directory that holds it: {str(path.parent)!r}."


def _is_repository_id(name: str) -> bool:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


class _NotCachedError(OSError):
    """The file is neither in the cache nor within reach."""


class _Repository:
    """One Hugging Face repository, at one commit from the first file on."""

    def __init__(
        self,
        repo_id: str,
        revision: str | None,
        cache_dir: str | os.PathLike[str] | None,
        token: str | bool | None,
        local_files_only: bool,
    ) -> None:
        self.repo_id = repo_id
        self.asked_revision = self.revision = revision
        self.cache_dir = None if cache_dir is None else os.fspath(cache_dir)
        self.token = token
        self.local_files_only = local_files_only
        self.unreachable = False

    def fetch_required(self, filenames: tuple[str, ...]) -> pathlib.Path:
        """Downloads the first of these files that the repository has."""
        not_cached = None
        for filename in filenames:
            try:
                path = self._fetch(filename)
            except _NotCachedError as error:
                not_cached = not_cached or error
                continue
            if path is not None:
                return path
        if not_cached is not None:
            raise FileNotFoundError(str(not_cached)) from not_cached
        raise missing_files_error(f"The repository {self._description()}", filenames, self._filenames())

    def fetch_optional(self, filename: str) -> None:
        """Downloads a file if the repository has it."""
        from huggingface_hub import constants

        try:
            self._fetch(filename)
        except _NotCachedError as error:
            # Whoever works offline on purpose has downloaded what there is. A failing connection proves nothing.
            if not (self.local_files_only or constants.HF_HUB_OFFLINE):
                raise FileNotFoundError(str(error)) from error
            logger.debug("%s of %s is not in the cache and is taken not to exist.", filename, self.repo_id)

    def _fetch(self, filename: str) -> pathlib.Path | None:
        """Downloads a file. None says that the repository does not have it."""
        import huggingface_hub
        from huggingface_hub import constants, errors

        cached = huggingface_hub.try_to_load_from_cache(
            self.repo_id, filename, cache_dir=self.cache_dir, revision=self.revision
        )
        known_absent = cached is huggingface_hub._CACHED_NO_EXIST
        # A branch may have got the file since; a commit never changes.
        if known_absent and self.revision is not None and _COMMIT.fullmatch(self.revision):
            return None
        try:
            path = pathlib.Path(
                huggingface_hub.hf_hub_download(
                    self.repo_id,
                    filename,
                    revision=self.revision,
                    cache_dir=self.cache_dir,
                    token=self.token,
                    # huggingface_hub gives up on a server only after half a minute; once is enough.
                    local_files_only=self.local_files_only or self.unreachable,
                )
            )
        except errors.LocalEntryNotFoundError as error:
            self.unreachable = True
            if known_absent:
                return None
            raise self._unreachable_error(filename, error) from error
        except errors.EntryNotFoundError:
            return None
        except errors.GatedRepoError as error:
            raise PermissionError(
                f"A repository that this account may read is expected. Received: {self._description()}, which is "
                "gated. Ask for access on its page, then log in with `hf auth login`, set HF_TOKEN, or give "
                "`token=`."
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise FileNotFoundError(
                "A directory, or a repository id such as 'google-bert/bert-base-uncased', is expected. "
                f"Received: source={self.repo_id!r}. There is no such directory or repository: seen from "
                f"{os.getcwd()!r} no directory has this path, and {constants.ENDPOINT} knows no repository of this id. "
                "Check the spelling; if the repository is private, set HF_TOKEN or give `token=`."
            ) from error
        except errors.RevisionNotFoundError as error:
            raise ValueError(
                f"A branch, tag or commit of the repository {self.repo_id} is expected. "
                f"Received: revision={self.asked_revision!r}. Look up its revisions on the repository's page."
            ) from error
        except errors.HfHubHTTPError as error:
            raise self._http_error(filename, error) from error
        # From the first file on, all come from one commit, whatever happens to the branch meanwhile.
        self.revision = path.parents[filename.count("/")].name
        return path

    def _unreachable_error(self, filename: str, error: BaseException) -> OSError:
        from huggingface_hub import constants

        # An answer, if only a refusal: not HfHubHTTPError alone, since after some retries it is the HTTP library's own.
        if getattr(error.__cause__, "response", None) is not None:
            return self._http_error(filename, error.__cause__)
        if self.local_files_only:
            reason = "`local_files_only=True` forbids the download. Call once without it"
        elif constants.HF_HUB_OFFLINE:
            reason = "HF_HUB_OFFLINE=1 forbids the download. Call once without it"
        else:
            reason = f"the server {constants.ENDPOINT} cannot be reached. Connect to it"
        return _NotCachedError(
            f"{filename} of {self._description()} is expected to be in the download cache. Received: no such file in "
            f"{self.cache_dir or constants.HF_HUB_CACHE}, and {reason}, or give the path of a directory. "
            f"There is no directory {self.repo_id!r} here."
        )

    def _http_error(self, filename: str, error: BaseException | None) -> OSError:
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", None)
        if status in (401, 403):
            return PermissionError(
                f"A token that may read the repository is expected. Received: {self._description()}, for which the "
                f"server answered {status}. Log in with `hf auth login`, set HF_TOKEN, or give `token=`."
            )
        return OSError(
            f"{filename} of {self._description()} is expected from the server. Received: {error}. Try again later."
        )

    def _description(self) -> str:
        return self.repo_id if self.asked_revision is None else f"{self.repo_id} (revision {self.asked_revision!r})"

    def _filenames(self) -> list[str] | None:
        import huggingface_hub

        try:
            return huggingface_hub.HfApi(token=self.token).list_repo_files(self.repo_id, revision=self.revision)
        except OSError:
            # The names only make the message better.
            return None
