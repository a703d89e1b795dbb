"""The graph as MLServer's user writes a runtime for it. Loading again reads what then is in the folder."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers import graph


class Graph(MLModel):  # type: ignore[misc]  # MLServer is not installed where this is checked
    async def load(self) -> bool:
        self.score = graph.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        scores = self.score(NumpyCodec.decode_input(payload.inputs[0]))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("scores", scores)])
