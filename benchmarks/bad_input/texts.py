"""Texts and depths that no database keeps, wherever a request takes free JSON or a text of its own."""

from collections.abc import Iterator

from benchmarks.bad_input.case import Case, only
from benchmarks.bad_input.numbers import PLACED, PLACES
from benchmarks.bad_input.routes import NUMERIC

REFUSED = frozenset({422})
# What only Postgres could refuse comes after what the definition says wrongly as well.
TOLD = PLACED | {"unknown_model_type"}

# As values of free JSON: the places where a number may stand take these as well.
FREE = {
    "an escaped NUL": '"@mark@\\u0000"',
    "half of a pair": '"@mark@\\ud800"',
    "the other half": '"@mark@\\udc00"',
    "a pair the wrong way round": '"@mark@\\ude00\\ud83d"',
    "a NUL in a name": '{"@mark@\\u0000": 1}',
    "half of a pair in a name": '{"@mark@\\ud800": 1}',
    "half of a pair deep inside": '[[[{"x": ["@mark@\\udfff"]}]]]',
    "300 lists": "[" * 300 + '"@mark@"' + "]" * 300,
    "300 objects": '{"a":' * 300 + '"@mark@"' + "}" * 300,
    "900 lists": "[" * 900 + '"@mark@"' + "]" * 900,
}
# Texts that a route would keep, with what is around them.
TEXTS = {
    "the reason of a reload": ("POST /model/reload", "reason", '"model": "absent"'),
    "the reason of a rollback": ("POST /model/rollback", "reason", '"model": "absent"'),
    "the reason of a hold": ("POST /model/hold", "reason", '"model": "absent"'),
    "the reason of a training": ("POST /training/trigger", "reason", '"model": "absent"'),
    "the note of a training": ("POST /training/trigger", "note", '"model": "absent"'),
    "the reason of a cancel": ("POST /training/jobs/{job_id}/cancel", "reason", ""),
    "the title of an incident": ("POST /incidents", "title", '"severity": "P4", "model": "absent"'),
    "the note of whoever takes an incident over": ("POST /incidents/{id}/acknowledge", "note", ""),
    "the note of an incident": ("POST /incidents/{id}/close", "note", ""),
    "the source of a report": ("POST /data/quality", "source", '"status": "healthy", "model": "absent"'),
    "the name of a key": ("POST /keys", "name", '"roles": []'),
    "the description of a model": (
        "PUT /models/{model}",
        "description",
        '"type": "absent", "data": {"source": "samples", "label": "y"}',
    ),
    "the type of a model": ("PUT /models/{model}", "type", '"data": {"source": "samples", "label": "y"}'),
    "the data version of a training": ("POST /training/trigger", "data_version", f'"model": "{NUMERIC}"'),
}
KEPT = {
    "an escaped NUL": '"@mark@\\u0000"',
    "half of a pair": '"@mark@\\ud800"',
    "the other half": '"@mark@\\udc00"',
}
# Refused where a text has a length, which a description has not.
LENGTHS = {"an empty text": '""', "spaces only": '"   "', "100,000 letters": '"' + "@mark@" * 6_250 + '"'}
MAY_BE_EMPTY = {"the note of a training", "the description of a model"}


def cases() -> Iterator[Case]:
    for name, told in FREE.items():
        for place, (route, template) in PLACES.items():
            yield Case(f"{name} as {place}", REFUSED, PLACED, only(route), body=template.replace("@number@", told))
    for place, (route, name, others) in TEXTS.items():
        texts = KEPT | ({} if place in MAY_BE_EMPTY else LENGTHS)
        for what, told in texts.items():
            body = "{" + f'"{name}": {told}' + (f", {others}" if others else "") + "}"
            yield Case(f"{what} as {place}", REFUSED, TOLD, only(route), body=body)
