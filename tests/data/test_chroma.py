"""Documents of a real Chroma, in a folder and behind its server, and the questions that are made of them."""

import asyncio
import gc
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.data.sources import Reading, options_of, qa_pairs
from app.data.sources import chroma as source
from app.errors import Invalid
from tests.language_models import Reply, scripted

chromadb = pytest.importorskip("chromadb", reason="the extra `chroma` is not installed")

TOPICS = ["the notice period of a tenancy", "the deposit that a landlord may ask for", "repairs in a rented flat"]


def document(n: int) -> str:
    topic = TOPICS[n % 3]
    return f"Chapter {n}. This passage number {n} speaks of {topic}. A tenant who reads it knows paragraph {n * 7}."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chroma")
    with chromadb.PersistentClient(str(path), settings=chromadb.config.Settings(anonymized_telemetry=False)) as client:
        _fill(client)
    return path


def _fill(client: Any) -> None:
    generator = np.random.default_rng(0)
    collection = client.create_collection("pdf_docs", embedding_function=None)
    collection.add(
        ids=[f"d{n:02}" for n in range(30)],
        documents=[document(n) if n else "Contents" for n in range(30)],
        metadatas=[{"page": n, "topic": TOPICS[n % 3]} | ({"title": f"T{n}"} if n % 2 else {}) for n in range(30)],
        embeddings=(np.eye(3)[[n % 3 for n in range(30)]] + generator.normal(0, 0.01, (30, 3))).tolist(),
    )
    client.create_collection("empty", embedding_function=None)
    client.create_collection("clash", embedding_function=None).add(
        ids=["x"], documents=["y"], metadatas=[{"document": "z"}], embeddings=[[0.0, 0.0, 1.0]]
    )


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("chroma")), "run", "--path", str(folder), "--host", "127.0.0.1"]
    process = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("no Chroma server")


def options(**more: Any) -> Any:
    return options_of({"source": "chroma", "label": "topic", "key": "id", "collection": "pdf_docs"} | more)


def reading(shared: Path | None = None) -> Reading:
    return Reading(session=None, model="law", shared=shared)  # type: ignore[arg-type] # a collection needs no database


def read(given: Any) -> Any:
    return asyncio.run(source.read(given, reading()))


def test_documents_come_by_id_with_their_metadata_as_columns(folder: Path) -> None:
    table = read(options(path=str(folder)))
    assert table.column_names == ["id", "document", "page", "title", "topic"]
    assert table["id"].to_pylist() == [f"d{n:02}" for n in range(30)]
    assert table["page"].to_pylist() == list(range(30))
    assert table["title"].to_pylist()[:3] == [None, "T1", None]
    assert asyncio.run(source.count(options(path=str(folder)), reading())) == 30


# Chroma's client leaves its connection to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_server_gives_what_its_folder_gives(folder: Path, server: str) -> None:
    assert read(options(url=server)).equals(read(options(path=str(folder))))
    gc.collect()


@pytest.mark.parametrize(
    ("where", "code", "told"),
    [
        ({"path": "/nowhere"}, "source_unreachable", "no Chroma database in /nowhere"),
        ({"url": "http://127.0.0.1:9"}, "source_unreachable", "http://127.0.0.1:9 cannot be read"),
        ({"collection": "other"}, "collection_not_found", "has no collection 'other'"),
        ({"collection": "clash"}, "column_twice", "has the key 'document'"),
    ],
)
# Chroma's client leaves its connections open where it cannot be made.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_cannot_be_read_is_told(folder: Path, where: dict[str, str], code: str, told: str) -> None:
    place = {} if "path" in where or "url" in where else {"path": str(folder)}
    with pytest.raises(Invalid, match=told) as refused:
        read(options(**place | where))
    assert refused.value.code == code
    del refused
    gc.collect()


@pytest.mark.parametrize("where", [{}, {"path": "/a", "url": "http://b"}, {"path": "a"}, {"url": "b"}])
def test_a_collection_is_in_one_place(where: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"path|url"):
        options(**where)


def pairs(folder: Path, shared: Path, **more: Any) -> list[dict[str, Any]]:
    given: Any = options_of({"source": "qa_pairs", "collection": "pdf_docs", "path": str(folder)} | more)
    found: list[dict[str, Any]] = asyncio.run(qa_pairs.read(given, reading(shared))).to_pylist()
    return found


def test_the_plain_rule_answers_with_a_sentence_of_the_document_and_says_what_it_is(
    folder: Path, tmp_path: Path
) -> None:
    found = pairs(folder, tmp_path)
    assert len(found) == 29  # a heading says nothing
    for row in found:
        assert row["answer"] in document(int(row["id"][1:]))
        assert row["question"].startswith("What does the text say about ")
        assert row["made_by"] == "extractive rule"
    assert found == pairs(folder, tmp_path)


def test_the_context_is_the_document_and_those_most_like_it(folder: Path, tmp_path: Path) -> None:
    for row in pairs(folder, tmp_path, top_k=3):
        number = int(row["id"][1:])
        passages = row["context"].split("\n\n")
        assert passages[0] == document(number)
        assert len(passages) == 3
        assert all(TOPICS[number % 3] in passage for passage in passages)
    assert all("\n\n" not in row["context"] for row in pairs(folder, tmp_path, top_k=1))


def test_fewer_samples_are_some_of_the_same(folder: Path, tmp_path: Path) -> None:
    few, many = ({row["id"] for row in pairs(folder, tmp_path, max_samples=n)} for n in (5, 12))
    assert (len(few), len(many)) == (5, 12)
    assert few < many


def test_a_language_model_writes_question_and_answer_and_is_asked_once(folder: Path, tmp_path: Path) -> None:
    with scripted(lambda n, _: Reply(f'{{"question": "Q{n}?", "answer": "A."}}')) as model:
        endpoint = {"url": model.url, "model": "tiny", "attempts": 1}
        first = pairs(folder, tmp_path, endpoint=endpoint, max_samples=4)
        again = pairs(folder, tmp_path, endpoint=endpoint, max_samples=4)
    assert first == again
    assert len(model.asked) == 4
    assert {row["made_by"] for row in first} == {"tiny"}
    assert {row["question"] for row in first} == {"Q0?", "Q1?", "Q2?", "Q3?"}


def test_a_model_that_writes_nonsense_loses_no_passage_in_silence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = '{"question": "Q?", "answer": "A."}'
    with scripted(lambda n, _: Reply("no" if n % 4 == 0 else right)) as model:
        endpoint = {"url": model.url, "model": "tiny", "attempts": 1, "concurrency": 1}
        with pytest.raises(Invalid, match="3 of 12 texts have no answer") as refused:
            pairs(folder, tmp_path / "one", endpoint=endpoint, max_samples=12)
        assert refused.value.code == "labelling_failed"
        assert len(pairs(folder, tmp_path / "two", endpoint=endpoint, max_samples=12, tolerated=0.5)) == 9
    assert "3 of 12 passages are left out: it is not JSON" in capsys.readouterr().out


def test_a_collection_without_passages_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no document of 40 characters"):
        pairs(folder, tmp_path, collection="empty")
