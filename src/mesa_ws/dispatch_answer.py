"""What a server's HTTP API answers a dispatcher: receipts, or one error; written and read here.

`{"receipts": [{"message_id", "deliveries": {id: {"stored", "online", "dropped"}}, "nodes"}]}`, one
receipt for each message in the order of the request, or
`{"error": {"code", "message", "maybe_sent"}}`. Readers pass over members they do not know.
"""


import msgspec


class Problem(msgspec.Struct, frozen=True):
    """What kept a request from being answered with receipts.

    Args:
        code: a name that programs can rely on.
        message: what was expected, what came, what to do.
        maybe_sent: whether a message may have been sent all the same.
    """

    code: str
    message: str
    maybe_sent: bool = False
