"""What the outputs of a checkpoint are called, and which of them is which class of the data.

Nothing here imports torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from rosita_core.class_names import label_name
from rosita_core.messages import is_a_line, some
from rosita_core.model.families import Config

DEFAULT_NAME = re.compile(r"LABEL_\d+")
DEFAULT_OUTPUTS = 2
MOST_OUTPUTS = 100_000


def class_names(config: Config, source: str) -> tuple[str, ...]:
    """The names of a checkpoint's outputs in their order; LABEL_0 and so on where it has none.

    Raises:
        ValueError: where `id2label` is no list of names from 0 on.
    """
    given = config.get("id2label")
    if not given:
        outputs = config.get("num_labels") or DEFAULT_OUTPUTS
        if type(outputs) is not int or not 1 <= outputs <= MOST_OUTPUTS:
            raise ValueError(
                f"model must have num_labels in [1, {MOST_OUTPUTS:,}], got {outputs!r:.80} "
                f"in {source}"
            )
        return tuple(f"LABEL_{index}" for index in range(outputs))
    if not isinstance(given, Mapping) or set(given) != {str(i) for i in range(len(given))}:
        raise ValueError(f"model must have an id2label from 0 on, got {given!r:.80} in {source}")
    names = [given[str(index)] for index in range(len(given))]
    if wrong := [name for name in names if name is None or isinstance(name, (list, dict))]:
        raise ValueError(f"model must have an id2label of names, got {wrong[0]!r:.80} in {source}")
    return tuple(map(str, names))


def check_names(names: tuple[str, ...], config: Config, source: str) -> None:
    """Whether the names of a model's outputs tell these apart, each in a line.

    Raises:
        ValueError: naming the first that does not.
    """
    for place, name in enumerate(names):
        if not is_a_line(name) or name in names[:place]:
            raise ValueError(
                f"model must have a name of its own, in a line, for each output, got {name!r:.80} "
                f"for output {place} in {source}"
            )
    outputs = config.get("num_labels", len(names))
    if outputs != len(names):
        raise ValueError(
            f"model must have num_labels as its id2label, {len(names)}, got {outputs!r:.80} "
            f"in {source}"
        )


def order_of(
    labels: tuple[str, ...], config: Config, given: Mapping[str, str], source: str
) -> tuple[int, ...]:
    """Which output of a checkpoint is which class: one for each of `labels`, in their order.

    Names are compared as they are, then as own data's are (see `label_name`), then without case
    and space. Classes that are numbered from 0
    on are outputs by their number where no name says otherwise.

    Args:
        labels: the data's classes, as many as the checkpoint has.
        config: of the checkpoint.
        given: class of the checkpoint -> class of the data, where names do not tell.
        source: what the checkpoint is called.

    Raises:
        ValueError: where they leave a class open, showing both lists.
    """
    names = class_names(config, source)
    _check_given(labels, names, given)
    found = {label: names.index(name) for name, label in given.items()}
    if len(found) < len(labels):
        _check_label2id(config, names, source)
    for key in (str, label_name, _folded):
        found |= _alike(labels, names, found, key)
    if not found and labels == tuple(str(index) for index in range(len(names))):
        return tuple(range(len(names)))
    if len(found) < len(labels):
        raise ValueError(
            f"model must have the data's classes ({some(labels)}) to be used without training, "
            f"got {some(names)}; teacher.labels says which is which, as {{{names[0]}: ...}}"
        )
    return tuple(found[label] for label in labels)


def telling_names(labels: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """The data's classes under a checkpoint's names where they are mere numbers and those tell.

    Args:
        labels: the data's classes.
        names: of the checkpoint's outputs, in the order of `labels`.
    """
    numbers = all(label.isdecimal() for label in labels)
    distinct = len({name for name in names if name.strip()}) == len(labels)
    tell = distinct and all(is_a_line(name) and not DEFAULT_NAME.fullmatch(name) for name in names)
    return names if numbers and tell else labels


def _check_given(labels: tuple[str, ...], names: tuple[str, ...], given: Mapping[str, str]) -> None:
    for name, label in given.items():
        if names.count(name) != 1:
            raise ValueError(f"labels must map classes of the model ({some(names)}), got {name}")
        if label not in labels:
            raise ValueError(f"labels must map to the data's classes ({some(labels)}), got {label}")
    mapped = list(given.values())
    if twice := [label for label in mapped if mapped.count(label) > 1]:
        raise ValueError(f"labels must map one class to each of the data's, got {twice[0]} twice")


def _check_label2id(config: Config, names: tuple[str, ...], source: str) -> None:
    """Whether both of a checkpoint's maps say the same of the names that both have."""
    back = config.get("label2id")
    for output, name in enumerate(names):
        other = back.get(name, output) if isinstance(back, Mapping) else output
        if str(other) != str(output):
            raise ValueError(
                f"model must have one output for the class {name} to be used without training, got "
                f"{output} by its id2label and {other} by its label2id in {source}; teacher.labels "
                "says which class each name of its id2label is"
            )


def _alike(
    labels: tuple[str, ...],
    names: tuple[str, ...],
    found: Mapping[str, int],
    key: Callable[[str], str],
) -> dict[str, int]:
    """Classes that are not found yet, and the only output that `key` makes the same."""
    free = [output for output in range(len(names)) if output not in found.values()]
    asked = [label for label in labels if label not in found]
    keys = [key(names[output]) for output in free]
    wanted = [key(label) for label in asked]
    return {
        label: free[keys.index(same)]
        for label, same in zip(asked, wanted, strict=True)
        if keys.count(same) == 1 == wanted.count(same)
    }


def _folded(name: str) -> str:
    return "".join(label_name(name).casefold().split())
