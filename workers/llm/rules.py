"""What of a language model's parameters goes with what, as JSON Schema: so the API can tell before anything starts.

An `errorMessage` is said in place of the rule that was broken. What `x-pull` says counts for `strategy: pull` in the
place of what a training needs.
"""

from typing import Any

Json = dict[str, Any]

# What a stage reads is what another has left.
READS = {
    "sft": "prepare", "preference": "prepare", "merge": "prepare", "generate": "merge", "export": "merge",
    "evaluate": "export", "publish": "export",
}  # fmt: skip
BASE = "a Hugging Face id, or the absolute path of a local folder"


def when(name: str, values: list[str], then: Json) -> Json:
    return {"if": {"properties": {name: {"enum": values}}, "required": [name]}, "then": then}


def needs(name: str, value: str, *fields: str) -> Json:
    """Where the field `name` is `value`, those `fields` are texts."""
    texts = {"properties": {field: {"type": "string"} for field in fields}, "required": [*fields]}
    return when(name, [value], texts)


def _reads(stage: str, before: str) -> Json:
    told = f"have {stage}, which needs {before}: add {before}, or leave {stage} out"
    asked = {"properties": {"stages": {"contains": {"const": stage}}}, "required": ["stages"]}
    has = {"contains": {"const": before}, "errorMessage": told}
    return {"if": asked, "then": {"properties": {"stages": has}}}


def _of_stages(type: str, **more: Any) -> Json:
    told = "goes with strategy: staged, which needs a list of {name, values}"
    return {"properties": {"stages": {"type": type, "errorMessage": told}}, "errorMessage": told, **more}


def _of_pull() -> Json:
    told = "a pull takes serve: {by: ollama, model: llama3.2}, with the name that `ollama pull` takes"
    ollama = {"const": "ollama", "errorMessage": told}
    model = {"type": "string", "minLength": 1, "errorMessage": told}
    serve = {"type": "object", "required": ["by", "model"], "properties": {"by": ollama, "model": model}}
    return {"required": ["serve"], "errorMessage": told, "properties": {"serve": serve | {"errorMessage": told}}}


STAGED = when("strategy", ["staged"], _of_stages("array", required=["stages"])) | {"else": _of_stages("null")}
REWARD = "name what grpo and rloo are rewarded by, such as reward: {function: token_f1}"
REWARDED = when("method", ["grpo", "rloo"], {"required": ["reward"], "errorMessage": REWARD})
ASKED: Json = {
    "required": ["base_model"],
    "allOf": [_reads(stage, before) for stage, before in READS.items()],
    "x-pull": _of_pull(),
}
