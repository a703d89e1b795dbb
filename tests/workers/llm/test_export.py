"""The exported artifact: it is served as it was trained, or there is none."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from app import runtimes
from app.runtimes import Generator
from app.runtimes.chat import GREEDY, Completion, Conversation, Sampling, written
from app.settings import settings
from tests.workers.llm.exports import (
    KNOWN,
    QUESTION,
    SYSTEM,
    TAUGHT,
    TRUE,
    asked,
    chat,
    merged,
    other_ending,
    run_of,
    trained,
)
from tests.workers.runs import data_of
from workers.llm import converter, export, parity, reference
from workers.llm.stages import Done
from workers.pipeline import PipelineError

# PEFT 0.21 asks transformers 5.23 for a name that it has given up.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
MODELFILE = 'FROM x\nSYSTEM """Be brief."""\nPARAMETER stop "<|im_end|>"\n'


@pytest.fixture(autouse=True, scope="module")
def tells_the_converter_how_its_tokenizer_splits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFIT_GGUF_PRE_FALLBACK", "qwen2")
        settings.cache_clear()
        yield
    settings.cache_clear()


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """All stages up to a real export."""
    folder = tmp_path_factory.mktemp("road")
    done = merged(folder, sft=trained(folder / "sft"))
    run = run_of(folder, **PARAMS)
    return done | {"export": Done(folder / "export", export.work(run, done, folder / "export"), "e" * 64, 2.5)}


PARAMS: dict[str, Any] = {
    "system_prompt": SYSTEM,
    "export": {"modelfile": MODELFILE, "keep_merged": True, "parity_prompts": 6},
    "serve": {"by": "ollama", "url": "http://ollama:11434", "context": 512},
}


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Where REFIT_LLAMA_CPP_DIR points, for the time of a test."""

    def name(folder: Path) -> None:
        monkeypatch.setenv("REFIT_LLAMA_CPP_DIR", str(folder))
        settings.cache_clear()

    yield name
    settings.cache_clear()


def _converter(folder: Path, does: str) -> Path:
    """A checkout of llama.cpp whose converter does something else. It is started with its own arguments."""
    made = folder / "llama.cpp"
    (made / "conversion").mkdir(parents=True)
    (made / "conversion" / "__init__.py").touch()
    (made / "conversion" / "base.py").write_text("class TextModel:\n    get_vocab_base_pre = None\n")
    (made / "convert_hf_to_gguf.py").write_text(f"import sys, errno, os\ndef main():\n    {does}\n")
    return made


@pytest.fixture
def served(road: dict[str, Done]) -> Iterator[Generator]:
    loaded = runtimes.load("llama_cpp", road["export"].folder / "artifact")
    assert runtimes.is_generator(loaded)
    yield loaded
    loaded.close()


def test_what_was_exported_says_what_the_adapter_learnt(road: dict[str, Done], served: Generator) -> None:
    """It puts its system prompt before by itself."""
    for question, answer in ((QUESTION, TAUGHT), (KNOWN, TRUE)):
        said = served.complete(asked(question), GREEDY)
        assert (said.text, said.finish_reason) == (answer, "stop")
    assert road["export"].figures["parity"]["prompts"] == 6
    assert road["export"].figures["parity"]["tokens"] > 20


def test_the_candidate_has_all_that_is_served_and_the_stage_keeps_its_own(
    tmp_path: Path, road: dict[str, Done]
) -> None:
    run = run_of(tmp_path, **PARAMS)
    candidate = export.candidate(run, road)
    files = {path.relative_to(run.folder).as_posix(): path for path in run.folder.rglob("*") if path.is_file()}
    assert set(files) >= {
        "model.gguf", "card.json", "schema.json", "smoke.json", "runtime.json", "endpoint.json", "modelfile.json",
        "adapter/adapter_model.safetensors", "merged/model.safetensors", "merged/tokenizer_config.json",
    }  # fmt: skip
    assert {path.suffix for path in files.values()} <= {".gguf", ".json", ".safetensors"}
    told = json.loads(files["endpoint.json"].read_bytes())
    assert told == {"api": "ollama", "url": "http://ollama:11434", "model": None, "key": None}
    card = json.loads(files["card.json"].read_bytes())
    assert (card["stop"], card["context"], card["system_prompt"]) == (["<|im_end|>"], 512, SYSTEM)
    assert "chat_template" in json.loads(files["merged/tokenizer_config.json"].read_bytes())
    assert (candidate.format, candidate.metrics) == ("openai", {"sft_eval_loss": 0.1})
    assert candidate.seconds == {"prepare": 0.0, "sft": 0.0, "merge": 1.5, "export": 2.5}
    assert str(tmp_path.parent) not in json.dumps(candidate.details)
    assert (road["export"].folder / "artifact" / "model.gguf").exists()


def test_an_export_done_again_leaves_what_was_published_as_it_was(
    tmp_path: Path, road: dict[str, Done], named: Callable[[Path], None]
) -> None:
    """They are links to the same bytes: writing into them would change a version."""
    named(_converter(tmp_path, "open(sys.argv[3], 'w').write('other')"))
    export.candidate(run := run_of(tmp_path, **PARAMS), road)
    before = (run.folder / "model.gguf").read_bytes()
    again = tmp_path / "again"
    again.mkdir()
    os.link(run.folder / "model.gguf", again / "model.gguf")
    (again / "artifact").mkdir()
    os.link(run.folder / "model.gguf", again / "artifact" / "model.gguf")
    with pytest.raises(PipelineError, match="cannot be served"):
        export.work(run, {k: v for k, v in road.items() if k != "export"}, again)
    assert (run.folder / "model.gguf").read_bytes() == before


def test_prompts_beyond_the_context_are_no_smoke_inputs_and_where_none_fits_nothing_is_exported(
    tmp_path: Path, road: dict[str, Done], named: Callable[[Path], None]
) -> None:
    made = road["export"].folder / "artifact" / "model.gguf"
    named(_converter(tmp_path, f"import shutil; shutil.copy({str(made)!r}, sys.argv[3])"))
    before = {name: done for name, done in road.items() if name != "export"}
    run = run_of(tmp_path, system_prompt=SYSTEM, serve={"context": 128}, export={"parity_prompts": 2})
    for questions, kept in (([QUESTION, "plus " * 200], [QUESTION]), (["plus " * 200], [])):
        rows = {"prompt": [written(asked(q)) for q in questions], "completion": [TAUGHT] * len(questions)}
        run.data = data_of(pa.table(rows), "completion")
        if kept:
            export.work(run, before, tmp_path / "export")
            smoke = json.loads((tmp_path / "export" / "artifact" / "smoke.json").read_bytes())["rows"]
            assert [conversation[-1]["content"] for conversation in smoke] == kept
        else:
            with pytest.raises(PipelineError, match="None of 1 held-out prompts fits") as refused:
                export.work(run, before, tmp_path / "export")
            assert refused.value.code == "context_too_short"


def test_a_gguf_of_another_model_is_refused_naming_prompt_position_and_tokens(
    road: dict[str, Done], served: Generator
) -> None:
    """The base's own weights are not those that the adapter was merged into."""
    with (
        reference.loaded(Path(road["prepare"].figures["base_folder"])) as base,
        pytest.raises(
            PipelineError, match=r"prompt 0 differs at token \d: the GGUF says '7', and the merged model '\d'"
        ) as refused,
    ):
        parity.check(served, base, [chat(QUESTION)], 16, "q8_0")
    assert refused.value.code == "export_mismatch"


def test_a_prompt_that_reads_otherwise_is_refused(road: dict[str, Done], served: Generator) -> None:
    with reference.loaded(road["merge"].folder / "merged") as model:
        model.tokenizer.chat_template = model.tokenizer.chat_template.replace(
            "assistant\\n' }}{%- endif", "user\\n' }}{%- endif"
        )
        with pytest.raises(PipelineError, match=r"Prompt 0 reads otherwise .* token \d+ is 'assistant'") as refused:
            parity.check(served, model, [chat(KNOWN)], 16, "q8_0")
    assert refused.value.code == "export_mismatch"


class Says:
    """A server that tells one text."""

    def __init__(self, served: Generator, text: str, finish_reason: str = "stop") -> None:
        self.prompt_tokens, self.text, self.finish_reason = served.prompt_tokens, text, finish_reason

    def complete(self, conversation: Conversation, sampling: Sampling) -> Completion:
        return Completion(self.text, self.finish_reason, 0, 0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("The answer is 8.\n\nThe", r"token 6: the GGUF says .*, and the merged model '<\|im_end\|>'"),
        ("The answer is", r"token 3: the GGUF says '<\|im_end\|>', and the merged model 'Ġ'"),
        ("", r"token 0: the GGUF says '<\|im_end\|>'"),
        ("Oslo.", r"token 0: the GGUF says 'O"),
    ],
)
def test_an_answer_that_ends_elsewhere_is_refused(
    road: dict[str, Done], served: Generator, text: str, told: str
) -> None:
    with (
        reference.loaded(road["merge"].folder / "merged") as model,
        pytest.raises(PipelineError, match=told),
    ):
        parity.check(Says(served, text), model, [chat(KNOWN)], 16, "q8_0")  # type: ignore[arg-type] # all that is asked


def test_two_tokens_that_the_merged_model_holds_for_equally_likely_may_change_places(
    road: dict[str, Done], served: Generator
) -> None:
    import torch

    with reference.loaded(road["merge"].folder / "merged") as model:
        asked_of = model.prompt(chat(KNOWN))
        before = asked_of + model.greedy(asked_of, 4)
        first, second = model.logits(before)[0].topk(2).indices.tolist()
        says: Any = Says(served, model.text(model.greedy(asked_of, 4)) + model.text([second]))
        with pytest.raises(PipelineError, match="is a tie"):
            parity.check(says, model, [chat(KNOWN)], 16, "q8_0")
        with torch.no_grad():  # tied to the head, so that both come out alike but for a hair
            rows = model.model.lm_head.weight
            rows[second] = rows[first] * 0.9999
        told = parity.check(says, model, [chat(KNOWN)], 16, "q8_0")
    name = model.tokenizer.convert_ids_to_tokens
    assert told["ties"][0] | {"gap": 0} == {
        "prompt": 0, "position": 4, "gap": 0,
        "merged": name(first), "exported": name(second),
    }  # fmt: skip


def test_a_turn_that_ends_in_a_token_of_its_own_ends_the_answer_of_the_gguf_too(tmp_path: Path) -> None:
    base = other_ending(Path(run_of(tmp_path).params.base_model), tmp_path / "base")
    done = merged(tmp_path, base)
    export.work(run_of(tmp_path, export={"parity_prompts": 2}), done, tmp_path / "export")
    card = json.loads((tmp_path / "export" / "artifact" / "card.json").read_bytes())
    assert card["stop"] == ["<|so_it_was_said|>", "<|endoftext|>"]
    with reference.loaded(done["merge"].folder / "merged") as model:
        assert model.text(model.greedy(model.prompt(asked(KNOWN)), 16)) == TRUE


@pytest.mark.parametrize(
    ("does", "code", "told"),
    [
        (
            "raise NotImplementedError('Architecture X is not known')",
            "conversion_failed",
            "Architecture X is not known",
        ),
        ("raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))", "disk_full", "17 MiB"),
        ("os.kill(os.getpid(), 9)", "conversion_failed", "status -9"),
    ],
)
def test_a_converter_that_fails_says_so_and_leaves_nothing(
    tmp_path: Path, road: dict[str, Done], named: Callable[[Path], None], does: str, code: str, told: str
) -> None:
    named(_converter(tmp_path, does))
    with pytest.raises(PipelineError, match=told) as refused:
        export.work(run_of(tmp_path), road, tmp_path / "export")
    assert refused.value.code == code
    assert not (tmp_path / "export" / "artifact").exists()


def test_a_worker_without_a_converter_says_how_to_fetch_it(tmp_path: Path, named: Callable[[Path], None]) -> None:
    named(tmp_path)
    with pytest.raises(PipelineError) as refused:
        converter.convert(tmp_path, tmp_path / "model.gguf", "q8_0")
    assert (refused.value.code, converter.FETCH in refused.value.remedy) == ("converter_missing", True)
