"""The encoder as it is served: windows, batches, and that company changes no embedding."""

from pathlib import Path

import numpy as np
import pytest

from app.runtimes import embedding
from app.runtimes.embedding import Encoder, EncoderRule, LongTexts
from tests import encoders
from workers.ml import encoder_export
from workers.ml.encoders import find

SHORT = "my card was lost"
LONG = "i lost my card " * 20  # 80 tokens; 14 fit beside [CLS] and [SEP]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoders.make(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


def encoder(source: Path, shared: Path, long_texts: LongTexts = "mean", prefix: str = "", threads: int = 1) -> Encoder:
    found = find(str(source))
    rule = EncoderRule(
        name=found.name,
        weights=found.weights,
        precision="fp32",
        dimension=found.dimension,
        window=found.window,
        prefix=prefix,
        long_texts=long_texts,
        pad=found.pad,
    )
    return Encoder(encoder_export.export(found, rule, shared, [SHORT, LONG], 1), threads)


def test_a_text_has_the_same_embedding_alone_and_among_others(source: Path, shared: Path) -> None:
    one = encoder(source, shared)
    texts = [SHORT, "top up fee", LONG, "rate", SHORT]
    together = one.encode(texts)
    alone = np.concatenate([one.encode([text]) for text in texts])
    assert together == pytest.approx(alone, abs=1e-5)
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert (together[0] == together[4]).all()


def test_threads_change_nothing(source: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "TOKENS_AT_ONCE", 32)
    texts = [" ".join(encoders.WORDS[: n % 14 + 1]) for n in range(100)]
    one, two = (encoder(source, shared, threads=threads).encode(texts) for threads in (1, 2))
    assert one == pytest.approx(two, abs=1e-6)


def test_no_text_is_cut_in_silence(source: Path, shared: Path) -> None:
    windows = encoder(source, shared).windows([SHORT, LONG])
    assert [window.text for window in windows] == [0] + [1] * 6
    assert all(len(window.tokens) <= encoders.WINDOW for window in windows)
    tokens = [token for window in windows[1:] for token in window.tokens[1:-1]]
    assert len(tokens) == 80 == sum(window.weight for window in windows[1:])


def test_a_long_text_is_read_by_its_declared_rule(source: Path, shared: Path) -> None:
    by_rule = {rule: encoder(source, shared, rule) for rule in ("head", "head_tail", "mean")}
    beginning, end = "i lost my card " * 10, "top up fee " * 10
    same_beginning = {rule: one.encode([beginning + LONG, beginning + end]) for rule, one in by_rule.items()}
    alike = {rule: float(a @ b) for rule, (a, b) in same_beginning.items()}
    assert alike["head"] == pytest.approx(1, abs=1e-5)
    assert alike["head_tail"] < 0.999
    assert alike["mean"] < 0.999
    assert len(by_rule["head_tail"].windows([LONG])) == 1


def test_a_prefix_stands_before_every_window(source: Path, shared: Path) -> None:
    one = encoder(source, shared, prefix="the fee ")
    windows = one.windows([LONG])
    assert {tuple(window.tokens[1:3]) for window in windows} == {(windows[0].tokens[1], windows[0].tokens[2])}
    assert sum(window.weight for window in windows) == 80


def test_two_versions_with_the_same_encoder_hold_it_once(source: Path, shared: Path) -> None:
    one, other = encoder(source, shared), encoder(source, shared)
    assert one._session is other._session


def test_batches_keep_to_their_tokens_unless_one_window_alone_has_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "TOKENS_AT_ONCE", 10)
    windows = [embedding.Window(0, [1] * length, length) for length in (3, 12, 3, 4, 3)]
    batches = list(embedding._batches(windows))
    assert batches == [[0, 2, 4], [3], [1]]
