"""What a request may cost, in one place."""

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what a caller may send and how long a worker waits for it.

    Attributes:
        body_bytes: Largest request body.
        head_bytes: Largest request line with all headers.
        depth: Deepest nesting of lists and objects in a body.
        rows: Most rows in one frame.
        receive_s: Longest wait for a whole head or a whole body.
        idle_s: Longest silence on a connection between two requests.
        drain_s: Longest wait for requests in flight when a worker is told to stop.
        linger_s: How long a stopping worker keeps silent connections, so that a request already on its way is answered.
        queue: Questions to one function that may wait in one worker.
        batch_rows: Most rows that are joined into one call.
        threads: Calls of functions with a deadline that run at once in one worker.
        load_s: Longest time a worker may take to load a release and to answer its examples.
        hang_s: Longest time a worker's event loop may stand still before the worker is replaced; never less than three
            times the longest deadline that the release declares.
        connections: Callers that one worker is connected with at once; one more is answered 503.
    """

    body_bytes: int = 32 * 2**20
    head_bytes: int = 16 * 2**10
    depth: int = 64
    rows: int = 100_000
    receive_s: float = 30.0
    idle_s: float = 60.0
    drain_s: float = 30.0
    linger_s: float = 1.0
    threads: int = 4
    queue: int = 1024
    batch_rows: int = 4096
    load_s: float = 120.0
    hang_s: float = 30.0
    connections: int = 10_000
