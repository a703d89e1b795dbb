"""Every peer, in the order of the tables. What one writes by oneself first, then the systems that serve a model."""

from collections.abc import Sequence

from benchmarks.peers import Peer, bentoml, litserve, mlflow, mlserver, ray
from benchmarks.peers.uvicorn import BARE, PLAIN, ROUTED

# Measured in every run, also in the short form: they need no environment of their own.
ALWAYS: Sequence[Peer] = (BARE, ROUTED, PLAIN)
SERVERS: Sequence[Peer] = (
    mlserver.IN_PROCESS,
    mlserver.DEFAULT,
    litserve.LitServe(),
    bentoml.BentoML(),
    mlflow.MLflow(),
    ray.DEFAULT,
    ray.BEHIND_HAPROXY,
)
# Measured and told, but no goal: MLServer in what it does itself, beside a model that takes next to no time.
UNJUDGED: Sequence[Peer] = (mlserver.OWN_RUNTIME,)
# What a user would pick instead, as it is installed: Refit must be several times as fast as the best of these.
NAMED: Sequence[Peer] = (PLAIN, *SERVERS)
