"""The bare application behind FastAPI's routing: the body is still read and answered by orjson."""

import orjson
from fastapi import FastAPI, Request, Response

from benchmarks.peers import graph

app = FastAPI()
score = graph.load()


@app.post("/predict")
async def predict(request: Request) -> Response:
    rows = orjson.loads(await request.body())["instances"]
    answer = orjson.dumps({"scores": score(rows)}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(answer, media_type="application/json")
