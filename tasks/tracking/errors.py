"""What an error of MLflow means: the request is wrong, or it has to be repeated later."""

import requests
from mlflow.exceptions import MlflowException, RestException

from tasks.host.redaction import redacted

# What MLflow answers to a request that it will never accept.
REFUSALS = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "MALFORMED_REQUEST",
    "NOT_FOUND",
    "NOT_IMPLEMENTED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
# Of these, the ones that are about the run and not about one of its values.
HOPELESS = {"INVALID_STATE", "RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}
# What this user may not do, or this server does not have; other requests it may well take.
DENIED = {"PERMISSION_DENIED", "ENDPOINT_NOT_FOUND"}
# Answers that other credentials or a later time would change.
LATER = {401, 403, 407, 408, 425, 429}


class Unavailable(RuntimeError):
    """MLflow cannot take a request now; the same request may succeed later."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(brief(cause))
        self.answered = has_failed(cause) or is_local(cause) or code_of(cause) in DENIED
        """MLflow is there but failed or forbids this; it may well take other requests."""


def is_refusal(error: Exception) -> bool:
    """Whether a request can never succeed, as opposed to a store that cannot be reached now."""
    if isinstance(error, RestException):
        return error.error_code in REFUSALS
    if isinstance(error, MlflowException):
        # An answer that is not MLflow's own comes from something between it and us.
        return error.error_code in REFUSALS and "API request to" not in error.message
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
        return 400 <= status < 500 and status not in LATER
    wrong_here = (ValueError, TypeError, LookupError, AttributeError, AssertionError)
    return isinstance(error, wrong_here) and not isinstance(error, requests.RequestException)


def is_local(error: Exception) -> bool:
    """Whether files of this machine are at fault: a disk is full, a folder is not mounted."""
    network = (requests.RequestException, ConnectionError, TimeoutError)
    return isinstance(error, OSError) and not isinstance(error, network)


def has_failed(error: Exception) -> bool:
    """Whether MLflow itself says that it failed inside."""
    if not isinstance(error, MlflowException) or error.error_code != "INTERNAL_ERROR":
        return False
    # The client turns status 500 into a failure to connect.
    return "API request to" not in error.message or "too many 500 error" in error.message


def code_of(error: Exception) -> str | None:
    """MLflow's name for an error."""
    return error.error_code if isinstance(error, MlflowException) else None


def brief(error: BaseException) -> str:
    """An error in one line, without secrets; MLflow's client wraps those of the connection."""
    said = str(error)
    if "API request to" in said:
        if "timeout exception" in said or "ReadTimeoutError" in said:
            return "no answer in time"
        if "Failed to establish a new connection" in said or "Connection aborted" in said:
            return "it cannot be reached"
    # Of a database, whose driver says it shortest.
    said = str(getattr(error.__cause__, "orig", None) or said)
    text = (redacted(said).strip().splitlines() or [""])[0]
    return text[:300] or type(error).__name__
