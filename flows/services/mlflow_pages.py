"""Where MLflow shows what was recorded."""

from __future__ import annotations

from typing import Any

from flows.services.servers import ServerError
from tasks.host.network import direct
from tasks.tracking.tags import VIEW, VIEW_TAG

LIST_SECONDS = 30.0
MOST_PAGES = 20
TRAINING = "workflowType=machine_learning"


def experiment_pages(url: str) -> dict[str, str]:
    """Addresses of the tables of runs, by experiment, the one that changed last first.

    Args:
        url: of an MLflow server.

    Raises:
        ServerError: where it does not say which experiments there are.
    """
    query = {
        "filter": "name LIKE 'rosita-%'",
        "order_by": ["last_update_time DESC"],
        "max_results": MOST_PAGES,
    }
    import httpx

    place = f"{url}/api/2.0/mlflow/experiments/search"
    try:
        answer = direct().post(place, json=query, timeout=LIST_SECONDS).raise_for_status()
        found = answer.json().get("experiments", [])
    except (httpx.HTTPError, ValueError) as error:
        raise ServerError(f"mlflow cannot list its experiments: {error}") from None
    # MLflow's own first page is about traces of language models; training runs come second there.
    return {
        one["name"]: f"{url}/#/experiments/{one['experiment_id']}/runs?{TRAINING}{_view(one)}"
        for one in found
    }


def _view(experiment: dict[str, Any]) -> str:
    """Asks for the columns of scores, where the experiment was made with a view that has them."""
    known = VIEW_TAG in {tag["key"] for tag in experiment.get("tags", [])}
    return f"&viewStateShareKey={VIEW}" if known else ""
