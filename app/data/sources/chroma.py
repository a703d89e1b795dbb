"""The documents of a Chroma collection, with their metadata as columns. Needs the extra `chroma`."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

import pyarrow as pa
from pydantic import Field, model_validator

from app.data.sources import Reading, SourceOptions
from app.data.sources._rows import table_of
from app.errors import Invalid

PAGE = 1_000
ID, DOCUMENT = "id", "document"

T = TypeVar("T")


class ChromaOptions(SourceOptions):
    """Where a collection is: on a server, or in a folder that workers see."""

    url: str | None = Field(None, description="of a Chroma server, such as http://localhost:8000")
    path: str | None = Field(None, description="absolute; the folder of a PersistentClient")
    collection: str = Field(min_length=1)

    @model_validator(mode="after")
    def is_in_one_place(self) -> Self:
        if (self.url is None) == (self.path is None):
            raise ValueError("name url (a Chroma server) or path (its folder), one of them")
        if self.path is not None and not Path(self.path).is_absolute():
            raise ValueError("path must be absolute; `refit models apply` makes it so, from the YAML file's folder")
        if self.url is not None and urlsplit(self.url).scheme not in ("http", "https"):
            raise ValueError("url must begin with http:// or https://")
        return self


class Options(ChromaOptions):
    source: Literal["chroma"]


async def read(options: Options, reading: Reading) -> pa.Table:  # noqa: ARG001 - a collection needs nothing of Refit
    """Columns `id`, `document` and one for each key of the metadata, ordered by id."""
    found = await asyncio.to_thread(
        asked, options, lambda collection: documents(collection, ["documents", "metadatas"])
    )
    metadata = [row["metadata"] or {} for row in found]
    names = sorted({name for keys in metadata for name in keys})  # Chroma keeps them in no order
    if clash := sorted({ID, DOCUMENT} & set(names)):
        raise Invalid(
            f"The metadata of {options.collection} has the key {clash[0]!r}, which is a column of its own.",
            code="column_twice",
            remedy="Rename it in the collection.",
        )
    rows = [
        [row[ID], row[DOCUMENT], *(keys.get(name) for name in names)] for row, keys in zip(found, metadata, strict=True)
    ]
    return table_of([ID, DOCUMENT, *names], rows, f"the collection {options.collection}")


async def count(options: Options, reading: Reading) -> int:
    """Documents beyond the number `reading.since`: Chroma does not count by the value of a key."""
    found = await asyncio.to_thread(asked, options, lambda collection: int(collection.count()))
    return max(0, found - int(float(reading.since or 0)))


def asked(options: ChromaOptions, ask: Callable[[Any], T]) -> T:
    """What the collection says. Raises Invalid `source_unreachable` or `collection_not_found`."""
    try:
        import chromadb  # noqa: PLC0415 - half a gigabyte that only this source needs
        from chromadb.config import Settings  # noqa: PLC0415
        from chromadb.errors import ChromaError, NotFoundError  # noqa: PLC0415
    except ImportError:
        raise Invalid(
            "The package chromadb is not installed.",
            code="source_unreachable",
            remedy="Install refit[chroma] on every worker and on the API.",
        ) from None
    where = options.url or options.path
    if options.path is not None and not (Path(options.path) / "chroma.sqlite3").is_file():
        raise Invalid(f"There is no Chroma database in {options.path}.", code="source_unreachable")
    settings = Settings(anonymized_telemetry=False)
    client: Any
    try:
        if options.url is not None:
            parsed = urlsplit(options.url)
            tls = parsed.scheme == "https"
            port = parsed.port or (443 if tls else 8000)
            client = chromadb.HttpClient(host=parsed.hostname or "", port=port, ssl=tls, settings=settings)
        else:
            client = chromadb.PersistentClient(path=str(options.path), settings=settings)
        with client:
            # No embedding function: ours is to read what is there, and Chroma's own would be fetched from a hub.
            return ask(client.get_collection(options.collection, embedding_function=None))
    except NotFoundError:
        raise Invalid(
            f"The Chroma database at {where} has no collection {options.collection!r}.",
            code="collection_not_found",
            remedy="Fill it first, or correct data.collection.",
        ) from None
    except (ChromaError, ValueError, OSError) as error:
        raise Invalid(
            f"The Chroma database at {where} cannot be read: {error}.",
            code="source_unreachable",
            remedy="Start it, or correct data.url or data.path.",
        ) from error


def documents(collection: Any, include: list[str]) -> list[dict[str, Any]]:
    """Every document of the collection as {id, document, metadata, embedding}, by id; pages are asked one by one."""
    found: list[dict[str, Any]] = []
    while True:
        page = collection.get(limit=PAGE, offset=len(found), include=include)
        if not page["ids"]:
            return sorted(found, key=lambda row: str(row[ID]))
        for place, id in enumerate(page["ids"]):
            row = {ID: id, DOCUMENT: page["documents"][place], "metadata": page["metadatas"][place]}
            if "embeddings" in include:
                row["embedding"] = page["embeddings"][place]
            found.append(row)
