"""What can go wrong between a client and a server.

The server's own message is never repeated, since it may hold the text of a request: its log has it.
"""


class ServingError(Exception):
    """A request that the server did not answer.

    Args:
        message: what happened.
        code: gRPC's name of the status, as `"UNAVAILABLE"`.
    """

    def __init__(self, message: str, code: str):
        super().__init__(message)
        self.code = code


class ServerUnavailableError(ServingError):
    """No server, or one that is loading, full or dying: worth another try, and tried again already."""


class DeadlineExceededError(ServingError):
    """The time that the call was given is over."""


class InvalidRequestError(ServingError):
    """Names, dtypes or shapes of what was asked are not those of the signature."""


class InvalidResponseError(ServingError):
    """The answer does not fit what was asked or what the signature gives, and all of it is discarded."""


class ModelNotFoundError(ServingError):
    """The server has no such model, version, label or signature."""


class ResponseTooLargeError(ServingError):
    """The answer is longer than the client takes."""


# gRPC's codes; others are a plain ServingError.
_CLASSES: dict[str, type[ServingError]] = {
    "UNAVAILABLE": ServerUnavailableError,
    "RESOURCE_EXHAUSTED": ServerUnavailableError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "INVALID_ARGUMENT": InvalidRequestError,
    "FAILED_PRECONDITION": InvalidRequestError,
    "OUT_OF_RANGE": InvalidRequestError,
    "NOT_FOUND": ModelNotFoundError,
}
_WAYS_OUT: dict[type[ServingError], str] = {
    ServingError: "The server's log says why.",
    ServerUnavailableError: "Is it running, and has it loaded the model?",
    DeadlineExceededError: "Give the call a longer `timeout`, or send fewer texts at once.",
    InvalidRequestError: "Compare the inputs with the signature's; the server's log says what it found.",
    InvalidResponseError: "Is it TensorFlow Serving that answers, and does nothing in between change what it says?",
    ModelNotFoundError: "Compare `model`, `version`, `label` and `signature` with what the server serves.",
    ResponseTooLargeError: "Ask for fewer `outputs`, a smaller `batch_size`, or raise `max_response_bytes`.",
}


def serving_error(code: str, where: str, kind: type[ServingError] | None = None) -> ServingError:
    """The error for a status.

    Args:
        code: gRPC's name of the status.
        where: URL and model, for the message.
        kind: the class where the code does not tell it.

    Example:

    >>> serving_error("NOT_FOUND", "grpc://host:8500, model 'bert'")  # doctest: +ELLIPSIS
    ModelNotFoundError("Expected an answer of grpc://host:8500, model 'bert'. Received: status=NOT_FOUND. Compare...
    """
    kind = kind or _CLASSES.get(code, ServingError)
    return kind(f"Expected an answer of {where}. Received: status={code}. {_WAYS_OUT[kind]}", code)


def invalid_response(where: str, received: str) -> ServingError:
    """The error for an answer that cannot be the right one.

    Args:
        where: URL and model.
        received: what is wrong, in words of our own.
    """
    return InvalidResponseError(
        f"Expected an answer of {where} that fits the request and the signature. Received: {received}. "
        f"{_WAYS_OUT[InvalidResponseError]}",
        "INTERNAL",
    )
