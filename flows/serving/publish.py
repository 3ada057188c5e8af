"""An exported model sent to the Hugging Face hub."""

from __future__ import annotations

import os
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id

from flows.engine.hub import HUB_SECONDS
from rosita_core.export.checkpoint import CARD_FILE
from rosita_core.export.model_card import FOLDER_PLACEHOLDER
from tasks.host.failure import Failure
from tasks.host.network import unreachable

TOKEN = "HF_TOKEN"


def open_hub(name: str) -> HfApi:
    """The hub, where a model can be sent to it; asked before anything is written.

    Args:
        name: of the repository.

    Raises:
        ValueError: where `name` is none, there is no token in the environment or the hub refuses
            it, or the hub cannot be reached.
    """
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise ValueError(
            f"push_to_hub must be a repository such as team/model, got {name!r}"
        ) from None
    # Not the file of `hf auth login`: a command on a server must not write as whoever left one.
    token = os.environ.get(TOKEN)
    if not token:
        raise ValueError(f"push_to_hub must have a token in {TOKEN}, got none")
    if constants.HF_HUB_OFFLINE:
        raise ValueError("push_to_hub must be able to ask the hub, got HF_HUB_OFFLINE=1")
    # Whoever refuses is there.
    problem = unreachable(constants.ENDPOINT, range(600), HUB_SECONDS)
    if problem is not None:
        raise ValueError(f"push_to_hub must reach the hub at {constants.ENDPOINT}, got {problem}")
    api = HfApi(token=token)
    try:
        api.whoami()
    except HfHubHTTPError as error:
        raise ValueError(
            f"{TOKEN} must be a token that the hub at {constants.ENDPOINT} takes, "
            f"got status {error.response.status_code}"
        ) from None
    return api


def publish(api: HfApi, folder: Path, name: str) -> str:
    """Send an export; its card then names the repository. Returns its address.

    A repository that is made for it is private. Files whose names begin with a dot stay here: in a
    folder of the user's they are no part of a model.

    Raises:
        Failure: where the hub does not take it.
    """
    try:
        repository = api.create_repo(name, private=True, exist_ok=True)
        card = folder / CARD_FILE
        # A checkpoint of others may have none.
        if card.is_file():
            text = card.read_text(encoding="utf-8")
            card.write_text(text.replace(FOLDER_PLACEHOLDER, repository.repo_id), encoding="utf-8")
        api.upload_folder(
            repo_id=repository.repo_id,
            folder_path=folder,
            commit_message="Compressed by ROSITA",
            ignore_patterns=[".*", "**/.*"],
        )
    # Its client has errors of several libraries.
    except Exception as error:
        raise Failure(f"the hub does not take {name}: {error}") from None
    return str(repository)
