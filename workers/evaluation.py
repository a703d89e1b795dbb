"""The stages `evaluate` and `publish` of a language model.

    evaluate    the files are published under their digest and loaded as the API loads them; candidate and incumbent
                answer the same held-out prompts; scores, judges, the gate; the evaluation is kept
    publish     the version, with its verdict and the digest of its evaluation

A version never comes without a verdict: where the definition has switched `evaluate` off, it is inconclusive.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.data.chats import COMPLETION, PROMPT
from app.evaluation import kept, metrics
from app.evaluation.evidence import Contest, Measured
from app.evaluation.judging import Corpus, corpus_of, judge, not_judged
from app.evaluation.metrics import Scored
from app.evaluation.sampling import Asked, sample
from app.evaluation.schemas import Answered, Evaluation, Row
from app.gate import Seen
from app.gate.report import GateReport
from app.registry.artifacts import Manifest
from workers.answering import REFUSED, Answers, NoAnswers, answers_of
from workers.inputs import Inputs
from workers.judged import options_of, scores_of, unfit
from workers.judging import seen
from workers.llm.params import Judge
from workers.pipeline import Candidate, PipelineError, Run

# Of the stage: the candidate's answers, the incumbent's, and what judges say of both.
SHARES = (0.45, 0.45, 0.1)
SALT_BYTES = 32


@dataclass(frozen=True)
class Scores:
    """What one version's answers score, by metric; `why` says of others why there is nothing."""

    answers: Answers
    by_metric: Mapping[str, Scored]
    why: Mapping[str, str]

    @property
    def measured(self) -> Measured:
        found = {name: each.statistics for name, each in self.by_metric.items()}
        seconds = np.array([answer.seconds for answer in self.answers.answers])
        return Measured(found | dict(self.why), seconds)

    def answered(self, place: int) -> Answered:
        answer = self.answers.answers[place]
        scores = {name: each.rows[place] for name, each in self.by_metric.items()}
        return Answered(text=answer.text, finish_reason=answer.finish_reason, seconds=answer.seconds, scores=scores)


def wanted(run: Run) -> frozenset[str]:
    """Those of `evaluate` and `publish` that are to be done: asked for by name, or switched on by the definition."""
    return frozenset({"evaluate", "publish"} & set(run.params.stages if run.stages is None else run.stages))


def evaluated(store: Path, inputs: Inputs, run: Run, candidate: Candidate, manifest: Manifest) -> dict[str, Any]:
    """{metrics, comparison, gate, evaluation}, the last the digest of what was kept; None where nothing was asked.

    Raises PipelineError: candidate_cannot_answer, judge_unreachable.
    """
    if "evaluate" not in {*run.params.stages, *(run.stages or ())}:
        return _not_evaluated(inputs, candidate)
    holdout = run.data.table("holdout")
    known = seen(store, inputs, holdout, candidate.details["base"])
    asked = sample(_unseen(holdout, known), run.params.evaluate.rows)
    run.log(f"{len(asked)} of {holdout.num_rows} held-out rows are asked; trained on were {known.counts()}")
    mine, theirs = _both(store, inputs, run, manifest.digest, asked)
    contest = Contest(mine.measured, theirs.measured if isinstance(theirs, Scores) else theirs)
    report = judge(contest, asked.beside, inputs.definition.gate, seed=run.seed, seen=known, **_bound(inputs))
    corpus = corpus_of(contest, inputs.definition.gate, run.seed, report.criteria)
    evaluation = Evaluation(
        model=inputs.job.model,
        artifact=manifest.digest,
        data_version=run.data.digest,
        incumbent=report.incumbent,
        rows=_rows(asked, mine, theirs if isinstance(theirs, Scores) else None),
        corpus=corpus,
        gate=report,
        judges={name: _told_of(each) for name, each in run.params.evaluate.judges.items()},
        notes=_notes(run, mine, theirs, known),
        salt=secrets.token_hex(SALT_BYTES),
    )
    return _figures(candidate, report, corpus) | {"evaluation": kept.keep(store, evaluation)}


def _not_evaluated(inputs: Inputs, candidate: Candidate) -> dict[str, Any]:
    reason = "The definition has switched the stage evaluate off, so nothing was judged."
    return _figures(candidate, not_judged(reason, **_bound(inputs)), {}) | {"evaluation": None}


def _bound(inputs: Inputs) -> dict[str, Any]:
    """What a verdict holds for."""
    incumbent = inputs.incumbent.number if inputs.incumbent else None
    return {"mode": inputs.definition.gate_mode, "data_version": inputs.snapshot.digest, "incumbent": incumbent}


def _figures(candidate: Candidate, report: GateReport, corpus: Corpus) -> dict[str, Any]:
    validation = {f"validation_{name}": value for name, value in candidate.metrics.items()}
    measured = {name: told["candidate"] for name, told in corpus.items() if told["candidate"] is not None}
    compared = {name: {who: told[who] for who in ("candidate", "incumbent", "delta")} for name, told in corpus.items()}
    return {"metrics": measured | validation, "comparison": compared, "gate": report.model_dump(mode="json")}


def _told_of(judge: Judge) -> dict[str, Any]:
    return judge.model_dump(include={"url", "model", "rubric"})


def _unseen(holdout: pa.Table, known: Seen) -> pa.Table:
    """Without rows that either version was trained on, as far as anybody knows."""
    left = np.ones(holdout.num_rows, np.bool_)
    for mask in (known.candidate, known.incumbent):
        if mask is not None and not isinstance(mask, str):
            left &= ~mask
    return holdout.filter(
        pc.and_(pa.array(left), pc.and_(pc.is_valid(holdout[PROMPT]), pc.is_valid(holdout[COMPLETION])))
    )


def _both(store: Path, inputs: Inputs, run: Run, candidate: str, asked: Asked) -> tuple[Scores, Scores | str | None]:
    """The candidate's, and the incumbent's or why it has none. Memory need hold but one of them at a time."""
    try:
        mine = answers_of(run, store, candidate, asked, "the candidate", _telling(run, "the candidate", 0))
    except NoAnswers as error:
        raise PipelineError("candidate_cannot_answer", f"The candidate {error}.", _remedy(run)) from error
    theirs: Answers | str | None = None
    if inputs.incumbent is not None:
        who = f"the incumbent, version {inputs.incumbent.number},"
        try:
            theirs = answers_of(run, store, inputs.incumbent.artifact, asked, who, _telling(run, who, 1))
        except NoAnswers as error:
            theirs = f"{who} {error}"
            run.log(theirs)
    done = _scored(run, mine, asked)
    return done, _scored(run, theirs, asked) if isinstance(theirs, Answers) else theirs


def _remedy(run: Run) -> str:
    return (
        "Where a server answers for it and is down, start it and resume the job: its answers are kept. Where "
        f"training.serve names it wrongly, {run.again('export', 'evaluate', 'publish')}."
    )


def _telling(run: Run, who: str, part: int) -> Callable[[float], None]:
    before = sum(SHARES[:part])
    return lambda share: run.progress(before + SHARES[part] * share, f"{who} answers")


def _scored(run: Run, answers: Answers, asked: Asked) -> Scores:
    texts = [answer.text for answer in answers.answers]
    found, why = metrics.scored(texts, asked.references), {}
    if isinstance(answers.likelihoods, str):
        why["perplexity"] = answers.likelihoods
    else:
        found["perplexity"] = metrics.perplexity_of(answers.likelihoods)
    items = list(zip(asked.conversations, asked.references, texts, strict=True))
    for name, options in run.params.evaluate.judges.items():
        scores = scores_of(run, name, options_of(options), items)
        if lacking := unfit(scores):
            why[name] = lacking
        found[name] = metrics.mean_of(scores)
    return Scores(answers, found, why)


def _rows(asked: Asked, mine: Scores, theirs: Scores | None) -> list[Row]:
    beside = asked.beside.to_pylist()
    return [
        Row(
            prompt=name,
            messages=asked.conversations[place],
            reference=asked.references[place],
            candidate=mine.answered(place),
            incumbent=theirs.answered(place) if theirs else None,
            beside={key: _plain(value) for key, value in beside[place].items()} if beside else {},
        )
        for place, name in enumerate(asked.names)
    ]


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return value if isinstance(value, (int, float, bool, type(None))) else str(value)


def _notes(run: Run, mine: Scores, theirs: Scores | str | None, known: Seen) -> list[str]:
    """What could not be measured although it was asked for, and answers that a version could not give."""
    notes = [theirs] if isinstance(theirs, str) else []
    for who, scores in (("the candidate", mine), ("the incumbent", theirs)):
        if not isinstance(scores, Scores):
            continue
        notes += [f"{who}: {why}" for name, why in scores.why.items() if name != "perplexity" or _likely(run)]
        if refused := sum(answer.finish_reason == REFUSED for answer in scores.answers.answers):
            notes.append(
                f"{who} could not answer {refused} prompts, such as longer ones than its context: they count as empty"
            )
    return [*notes, *([known.unknown] if known.unknown else [])]


def _likely(run: Run) -> bool:
    return bool(run.params.evaluate.perplexity_rows)
