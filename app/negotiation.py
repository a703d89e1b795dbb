"""Answers that come as JSON, or as Markdown for who reads them: `?format=` says which, else the header Accept."""

from typing import Annotated, Any, Literal

from fastapi import Depends, Header, Query

MARKDOWN = "text/markdown"
# What such a route answers, for the document.
BOTH: dict[int | str, dict[str, Any]] = {200: {"content": {MARKDOWN: {"schema": {"type": "string"}}}}}


def _wants_markdown(
    format: Annotated[Literal["json", "md"] | None, Query(description="else by Accept")] = None,
    accept: Annotated[str, Header()] = "",
) -> bool:
    return (format or ("md" if MARKDOWN in accept else "json")) == "md"


WantsMarkdown = Annotated[bool, Depends(_wants_markdown)]
