"""A chat template in Go's language, for Ollama, which reads no Jinja.

Possible where the template puts the same two texts around every message of a role, as ChatML, Llama 3 and Gemma do.
"""

from typing import Any

ROLES = ("system", "user", "assistant")
# Nothing that a template would treat apart, nor a text of which one is a part of another.
SAID = {"system": "Q7319S", "user": "Q4862U", "assistant": "Q5208A", "again": "Q6047U"}


def derive(tokenizer: Any) -> str | None:
    """None where the chat template does more than that: what Ollama would send is then not what was trained."""
    try:
        around, ask = _around(tokenizer)
    except Exception:  # noqa: BLE001 - a template refuses a role in its own words, which come as any exception
        return None
    if around is None:
        return None
    cases = "{{ else ".join(
        f'if eq .Role "{role}" }}}}{_go(before)}{{{{ .Content }}}}{_go(behind)}'
        for role, (before, behind) in around.items()
    )
    return f"{{{{ range .Messages }}}}{{{{ {cases}{{{{ end }}}}{{{{ end }}}}{_go(ask)}"


def _around(tokenizer: Any) -> tuple[dict[str, tuple[str, str]] | None, str]:
    """What stands before and behind a message of each role, and what asks for an answer."""
    user, pair = _rendered(tokenizer, "user"), _rendered(tokenizer, "user", "assistant")
    ask = _rendered(tokenizer, "user", ask=True).removeprefix(user)
    alone = {
        "system": _rendered(tokenizer, "system", "user").removesuffix(user),
        "user": user,
        "assistant": pair.removeprefix(user),
    }
    if any(text.count(SAID[role]) != 1 for role, text in alone.items()):
        return None, ask
    around = {role: (text.partition(SAID[role])[0], text.partition(SAID[role])[2]) for role, text in alone.items()}
    said = [("system", "system"), ("user", "user"), ("assistant", "assistant"), ("user", "again")]
    expected = "".join(around[role][0] + SAID[name] + around[role][1] for role, name in said)
    whole = _rendered(tokenizer, *(name for _, name in said), ask=True)
    return around if whole == expected + ask else None, ask


def _rendered(tokenizer: Any, *names: str, ask: bool = False) -> str:
    """Without the token that begins a text: Ollama writes that by itself."""
    messages = [{"role": "user" if name == "again" else name, "content": SAID[name]} for name in names]
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)
    return text.removeprefix(tokenizer.bos_token or "")


def _go(text: str) -> str:
    """A text as it stands in a Go template, where only two braces mean anything."""
    return text.replace("{{", '{{ "{{" }}')
