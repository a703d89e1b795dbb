"""Running out of memory under its own name, whatever library it happens in."""

from collections.abc import Iterator
from contextlib import contextmanager

from workers.pipeline import OutOfMemory


@contextmanager
def named_when_exhausted() -> Iterator[None]:
    """Raises OutOfMemory for a MemoryError, and for torch's RuntimeError of the same meaning."""
    try:
        yield
    except MemoryError as error:
        raise OutOfMemory(f"The training ran out of memory: {str(error) or 'no figures given'}.") from error
    except RuntimeError as error:
        # torch.OutOfMemoryError on a GPU; a plain RuntimeError "… can't allocate memory …" on a CPU.
        if "out of memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory(f"The training ran out of memory: {error}.") from error
