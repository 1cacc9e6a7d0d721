"""Makes the engine that settings ask for."""

from penstock.core.errors import InputError
from penstock.core.settings import Settings
from penstock.engine.local import LocalEngine
from penstock.engine.protocol import Engine
from penstock.engine.ray import RayEngine


def make(name: str, settings: Settings, workers: int | None = None) -> Engine:
    """Return a started engine; the caller closes it.

    Raises:
        InputError: There is no engine of that name, or what it needs is not installed.
    """
    count = workers or settings.workers
    match name:
        case "local":
            return LocalEngine(count)
        case "ray":
            return RayEngine(count, settings.ray_address)
        case _:
            raise InputError(f"There is no engine {name!r}.", hint="use 'local' or 'ray'")
