"""Ollama's Modelfile: what ours say, and that one in use says nothing else than what was trained."""

from typing import Any

import pytest

from app.runtimes.chat import Card
from benchmarks.llm.tiny import CHATML, base_model
from workers.llm import go_template, modelfile
from workers.pipeline import PipelineError

MARKERS = ["<|im_start|>", "<|im_end|>"]
CHATML_IN_GO = (
    '{{ range .Messages }}{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n'
    '{{ else if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
    '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n'
    "{{ end }}{{ end }}<|im_start|>assistant\n"
)


def card(**changes: Any) -> Card:
    given: dict[str, Any] = {
        "base": "tiny", "weights": "w" * 64, "architecture": "Qwen3ForCausalLM", "parameters": 172_416,
        "quantization": "q8_0", "context": 512, "chat_template": CHATML, "system_prompt": 'Say "no".\nBe brief.',
        "stop": ("<|im_end|>", "<|endoftext|>"),
    }  # fmt: skip
    return Card(**given | changes)


def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base_model())


def test_chatml_becomes_gos_language() -> None:
    assert go_template.derive(tokenizer()) == CHATML_IN_GO


def test_a_template_that_does_more_than_wrap_messages_becomes_none() -> None:
    """What Ollama would send is then not what was trained."""
    changed = tokenizer()
    changed.chat_template = "{{ messages | length }}" + CHATML
    assert go_template.derive(changed) is None
    changed.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}" + CHATML
    assert go_template.derive(changed) is None


@pytest.mark.parametrize("system", [None, 'Say "no".\nFROM here\n# on'])
def test_what_is_written_reads_as_what_was_trained(system: str | None) -> None:
    mine = card(system_prompt=system)
    found = modelfile.parse(modelfile.write(mine, MARKERS, CHATML_IN_GO))
    assert (found.system, found.template, found.stop) == (system, CHATML_IN_GO, ("<|im_end|>",))
    assert found.parameters == {"temperature": "0.0", "num_ctx": "512"}
    assert modelfile.check(found, mine, MARKERS) == []


def test_a_hand_written_one_is_read_as_ollama_reads_it() -> None:
    found = modelfile.parse(
        '# FROM comment\nfrom llama3.2:1b\nparameter  stop  <|im_end|>\nPARAMETER stop "### "\n'
        'PARAMETER num_ctx 4096\nPARAMETER num_ctx 2048\nSYSTEM You are "brief".\nTEMPLATE """a\n# b\nSYSTEM c"""\n'
        "LICENSE MIT\n"
    )
    assert found == modelfile.Modelfile(
        'You are "brief".', "a\n# b\nSYSTEM c", ("<|im_end|>", "### "), {"num_ctx": "2048"}
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("SYSTEM Be long.", "SYSTEM is 'Be long.', and trained was 'Be brief.'"),
        ("", "SYSTEM is '', and trained was 'Be brief.'"),
        ("SYSTEM Be brief.\nPARAMETER stop </s>", "lacks '<|im_end|>'; PARAMETER stop '</s>' ends no answer"),
        ("SYSTEM Be brief.\nTEMPLATE [INST] {{ .Prompt }} [/INST]", "TEMPLATE has '[INST]', which the chat template"),
        ("SYSTEM Be brief.\nTEMPLATE <|im_start|>{{ .Prompt }}", "TEMPLATE lacks '<|im_end|>'"),
    ],
)
def test_one_that_says_other_than_what_was_trained_is_refused(text: str, told: str) -> None:
    with pytest.raises(PipelineError) as refused:
        modelfile.check(modelfile.read(f"FROM x\n{text}\n"), card(system_prompt="Be brief."), MARKERS)
    assert refused.value.code == "modelfile_differs"
    assert told in refused.value.message


def test_ollamas_usual_chatml_is_no_difference_and_another_temperature_is_said() -> None:
    usual = """FROM x
SYSTEM Be brief.
PARAMETER stop "<|im_start|>"
PARAMETER stop "<|im_end|>"
PARAMETER temperature 0.7
TEMPLATE \"\"\"{{ if .System }}<|im_start|>system
{{ .System }}<|im_end|>{{ end }}{{ .Response }}<|im_end|>\"\"\"
"""
    notes = modelfile.check(modelfile.parse(usual), card(system_prompt="Be brief."), MARKERS)
    assert notes == ["PARAMETER temperature is 0.7; the version's own is 0.0"]


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(PipelineError, match="/nowhere/Modelfile") as refused:
        modelfile.read("/nowhere/Modelfile")
    assert refused.value.code == "modelfile_missing"
