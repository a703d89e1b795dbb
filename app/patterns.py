"""What each pattern of a schema asks for, in words: nobody who mistyped a name should have to read an expression.

`pattern=` of every room is listed here; a test reads the sources and holds the two together.
"""

import re
from collections.abc import Mapping

UNKNOWN = "not of the form that is wanted"
# How pydantic says it, alone or within a sentence of ours.
SAID = re.compile(r"String should match pattern '(.*)'", re.DOTALL)

WORDS: Mapping[str, str] = {
    r"^[a-z][a-z0-9_-]{0,62}$": (
        "a name begins with a small letter and goes on with small letters, digits, - and _; 63 characters at most"
    ),
    r"^[a-z][a-z0-9_]{0,62}$": (
        "a name begins with a small letter and goes on with small letters, digits and _; 63 characters at most"
    ),
    r"^[A-Za-z][A-Za-z0-9_.-]{0,99}$": (
        "a metric's name begins with a letter and goes on with letters, digits, _, . and -; 100 characters at most"
    ),
    r"^[0-9a-f]{16}$": "a prompt of the sheet is named by 16 hexadecimal digits, with small letters",
    r"^[0-9a-f]{64}$": "an evaluation is named by 64 hexadecimal digits, with small letters, as the sheet gave them",
    r"^[0-9a-f]{32}$": "a request id has 32 hexadecimal digits, with small letters, as the answer gave it",
    r"^(latest|[0-9a-f]{6,64})$": (
        "a data version is latest, or a digest or its beginning: 6 to 64 hexadecimal digits, with small letters"
    ),
    r"^[1-9][0-9]{0,17}-[0-9a-f]{12}$": "a token reads as the dry run gave it: its job's number, - and 12 hex digits",
    r"^[1-9][0-9]{0,17}$": "a version is a whole number from 1",
    # Texts
    r"^[^\x00]*$": "a text has no NUL character",
    r"^[^\x00]+$": "a text has at least one character, and no NUL",
    r"^[^\x00]{1,200}$": "a text of 1 to 200 characters, and no NUL",
    # Who is told, of what
    r"^[a-z_]{1,60}\.[a-z_]{1,60}$": "a kind of events reads thing.event, such as job.failed",
    r"^(\*|[a-z_]{1,60}\.(\*|[a-z_]{1,60}))$": "a kind of events reads thing.event, such as job.failed; or job.*, or *",
    r"^[A-Za-z][A-Za-z0-9+.-]*://[\x21-\x7e]+$": "a URL reads scheme://…, in ASCII and without spaces",
    r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$": (
        "a header's name has letters, digits, and signs such as - and _, without spaces; 100 characters at most"
    ),
    r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$": (
        "a header's value is printable ASCII that neither begins nor ends with a space"
    ),
    # Endpoints
    r"^https?://(\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)(:[0-9]{1,5})?(/[^\s?#]*)?$": (
        "a URL reads http://host:port/path or https://…, without user and password, query and fragment; a key is named "
        "beside it: key: env:NAME"
    ),
    # Others
    r"^[^:\x00]+:[0-9a-f]{64}$": "a place in this list is `next` of the page before, as it came",
    r"^env:[A-Za-z_]\w*$": "a key reads env:NAME, the environment variable that holds it",
    r"^[a-zA-Z0-9_-]{1,64}$": "a schema's name has letters, digits, _ and -; 64 characters at most",
    r"^[a-z0-9_][a-z0-9_-]{0,30}$": (
        "a namespace has small letters, digits, - and _, and does not begin with -; 31 characters at most"
    ),
}


def in_words(message: str) -> str:
    """A message of pydantic's with the pattern that it names put into words."""
    return SAID.sub(lambda found: WORDS.get(found[1], UNKNOWN), message.removeprefix("Value error, "))
