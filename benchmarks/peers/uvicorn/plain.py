"""FastAPI with pydantic models and scikit-learn, as its tutorial has it; on the loop, which is faster than threads."""

import os
from pathlib import Path

import joblib
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers import MODEL

app = FastAPI()
estimator = joblib.load(Path(os.environ[MODEL]) / "model.joblib")


class Batch(BaseModel):
    instances: list[list[float]]


class Scores(BaseModel):
    scores: list[float]


@app.post("/predict")
async def predict(batch: Batch) -> Scores:
    return Scores(scores=estimator.predict_proba(batch.instances)[:, 1].tolist())
