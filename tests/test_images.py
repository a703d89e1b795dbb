"""The Dockerfiles and the compose file as far as they can be read: `make images` builds and runs the images."""

import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings
from benchmarks import images

ROOT = Path(__file__).parent.parent
DOCKERFILES = {"refit-api": "Dockerfile.api", "refit-worker": "Dockerfile.gpu-worker"}
STORE, FILES = "/var/lib/refit/store", "/data"

each_dockerfile = pytest.mark.parametrize("dockerfile", DOCKERFILES.values())


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """(instruction, argument) with continued lines joined and comments left out."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / dockerfile).read_text()).replace("\\\n", "")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines()) if word]


def arguments(dockerfile: str, instruction: str) -> list[str]:
    return [argument for word, argument in instructions(dockerfile) if word == instruction]


def copied_from_here(dockerfile: str) -> list[str]:
    copies = [shlex.split(argument) for argument in arguments(dockerfile, "COPY")]
    return [source for words in copies if not words[0].startswith("--from") for source in words[:-1]]


def command_of(dockerfile: str) -> list[str]:
    [command] = arguments(dockerfile, "CMD")
    parsed: list[str] = json.loads(command)
    return parsed


def healthcheck_of(dockerfile: str) -> list[str]:
    [check] = arguments(dockerfile, "HEALTHCHECK")
    parsed: list[str] = json.loads(check.partition("CMD ")[2])
    return parsed


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    composed: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return composed


def ours(services: dict[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in services.items() if "build" in service}


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Where what is mounted, with how it is mounted: `rw` or `ro`."""
    return {point: mode or "rw" for point, mode in (re.findall(r":(/[^:]+):?(ro)?$", v)[0] for v in service["volumes"])}


def test_the_api_image_holds_the_control_plane_alone() -> None:
    assert set(copied_from_here("Dockerfile.api")) == {"pyproject.toml", "constraints.txt", "app", "migrations"}
    assert "[worker]" not in (ROOT / "Dockerfile.api").read_text()


def test_the_worker_image_holds_the_training_plane_and_its_libraries() -> None:
    assert set(copied_from_here("Dockerfile.gpu-worker")) == {"pyproject.toml", "constraints.txt", "app", "workers"}
    assert ".[worker]" in (ROOT / "Dockerfile.gpu-worker").read_text()


@each_dockerfile
def test_what_is_copied_exists_and_reaches_the_builder(dockerfile: str) -> None:
    admitted = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in copied_from_here(dockerfile):
        assert (ROOT / source).exists()
        assert source in admitted


def test_nothing_else_of_the_working_folder_reaches_the_builder() -> None:
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()


@each_dockerfile
def test_every_dependency_is_pinned(dockerfile: str) -> None:
    installs = [run for run in arguments(dockerfile, "RUN") if " install " in run and " pip " in run]
    assert len(installs) == 2
    assert all("-c constraints.txt" in run or "--no-deps" in run for run in installs)


@each_dockerfile
def test_the_base_is_the_callers_choice_and_no_index_is_named(dockerfile: str) -> None:
    assert arguments(dockerfile, "ARG")[0] == "BASE_IMAGE=python:3.11-slim"
    assert all(base.startswith("${BASE_IMAGE}") for base in arguments(dockerfile, "FROM"))
    assert "://" not in (ROOT / dockerfile).read_text()


@each_dockerfile
def test_the_service_does_not_run_as_root(dockerfile: str) -> None:
    [user] = arguments(dockerfile, "USER")
    assert int(user) > 0
    assert f"--uid {user}" in " ".join(arguments(dockerfile, "RUN"))


@pytest.mark.parametrize(
    ("dockerfile", "module"), [("Dockerfile.api", "app.main"), ("Dockerfile.gpu-worker", "workers.celery_app")]
)
def test_an_image_runs_its_service(dockerfile: str, module: str) -> None:
    assert command_of(dockerfile) == ["python3", "-m", module]
    assert find_spec(module)


def test_the_api_is_healthy_when_it_is_ready() -> None:
    python, flag, program = healthcheck_of("Dockerfile.api")
    assert (python, flag) == ("python3", "-c")
    compile(program, "HEALTHCHECK", "exec")
    assert "/health/ready" in program


def test_a_worker_is_asked_for_its_lease() -> None:
    assert healthcheck_of("Dockerfile.gpu-worker") == ["python3", "-m", "workers.health"]
    assert find_spec("workers.health")


def test_the_compose_file_has_every_part(services: dict[str, Any]) -> None:
    assert set(services) == {"postgres", "redis", "migrate", "api", "cpu-worker", "gpu-worker"}
    assert {service["image"]: service["build"]["dockerfile"] for service in ours(services).values()} == DOCKERFILES


def test_everything_that_stays_up_has_a_health_check(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert "healthcheck" in service or healthcheck_of(service["build"]["dockerfile"]), name


def test_only_the_api_is_published_and_only_on_this_machine(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"api": ["${API_ADDRESS:-127.0.0.1:8080}:8080"]}


def test_no_password_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    passwords = re.findall(r"\$\{\w*PASSWORD[^}]*\}", text)
    assert len(passwords) >= 4
    assert all(":?" in password for password in passwords)
    example = (ROOT / "deploy/env.example").read_text().splitlines()
    assert {"POSTGRES_PASSWORD=", "REDIS_PASSWORD="} <= set(example)


def test_nothing_of_ours_starts_before_the_schema_is_there(services: dict[str, Any]) -> None:
    assert services["migrate"]["command"] == ["refit", "migrate"]
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("api", "cpu-worker", "gpu-worker"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_workers_publish_into_the_store_that_the_api_only_reads(services: dict[str, Any]) -> None:
    assert mounts(services["api"]) == {STORE: "ro", FILES: "ro"}
    for name in ("cpu-worker", "gpu-worker"):
        assert mounts(services[name]) == {STORE: "rw", FILES: "ro"}
    assert all(f"{STORE}" in " ".join(arguments(dockerfile, "RUN")) for dockerfile in DOCKERFILES.values())


def test_data_outlives_the_containers(services: dict[str, Any]) -> None:
    volumes = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["volumes"]
    assert set(volumes) == {"postgres", "redis", "store"}
    assert services["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]
    assert services["redis"]["volumes"] == ["redis:/data"]


def test_each_worker_serves_its_queue_and_one_reserves_a_gpu(services: dict[str, Any]) -> None:
    assert services["cpu-worker"]["environment"]["REFIT_QUEUES"] == "cpu"
    assert services["gpu-worker"]["environment"]["REFIT_QUEUES"] == "gpu"
    [device] = services["gpu-worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert "deploy" not in services["cpu-worker"]


def test_a_worker_that_is_stopped_has_time_to_put_its_job_back(services: dict[str, Any]) -> None:
    for name in ("cpu-worker", "gpu-worker"):
        grace = float(services[name]["stop_grace_period"].removesuffix("s"))
        assert grace >= Settings.model_fields["cancel_grace_seconds"].default + 10


def test_redis_keeps_what_it_was_given(services: dict[str, Any]) -> None:
    configuration = services["redis"]["command"][-1]
    assert {"appendonly yes", "maxmemory-policy noeviction"} <= set(configuration.splitlines())


def test_what_is_set_for_a_service_is_a_setting(services: dict[str, Any]) -> None:
    known = {f"REFIT_{name.upper()}" for name in Settings.model_fields}
    for service in ours(services).values():
        assert set(service["environment"]) <= known


def test_where_buildah_is_missing_it_says_so_and_falls_short(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit) as ended:
        images.main()
    assert ended.value.code
    assert re.fullmatch(r"images: .*buildah is missing.*apt-get install buildah.* … short\n", capsys.readouterr().out)
