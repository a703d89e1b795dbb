"""The child process of one loaded version: llama.cpp's own server, by xllamacpp.

Run by its path, so that nothing of Refit is imported into it: it starts in a tenth of a second. Standard input has one
line of JSON, {model, context, at_once, threads, key, alias, parent}, and stays open: its end is the end of the process.
The line `<key> ready <url>` says that it answers.
"""

import ctypes
import json
import os
import signal
import sys
from typing import Any

import xllamacpp

PR_SET_PDEATHSIG = 1
HTTP_THREADS = 64


def main() -> None:
    # A Ctrl-C or a SIGTERM of the whole group is for the parent, which drains: answers are written until it is gone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    told = json.loads(sys.stdin.buffer.readline())
    _die_with(told["parent"])
    try:
        server = _serve(told)
    except (RuntimeError, ValueError) as error:
        print(f"\n{error}", flush=True)
        os._exit(2)
    print(f"\n{told['key']} ready {server.listening_address}", flush=True)
    sys.stdin.buffer.read()
    # Nothing here needs to be saved, and destructors would wait for the answers that are being written.
    os._exit(0)


def _die_with(parent: int) -> None:
    """Also where the parent is killed while a model is being read, and nobody reads standard input."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _serve(told: dict[str, Any]) -> Any:
    """The running server. Raises RuntimeError for a file that cannot be loaded."""
    params = xllamacpp.CommonParams()
    params.model.path = told["model"]
    params.model_alias = {told["alias"]}
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.api_keys = [told["key"]]
    # The context is shared out: each of `at_once` answers has `context` tokens, whatever the others write. Left to
    # itself, llama.cpp would shrink it to what memory is free.
    params.n_ctx, params.n_parallel, params.fit_params = told["context"] * told["at_once"], told["at_once"], False
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = told["threads"]
        cpu.poll = 0  # idle threads sleep: the API and other versions use the same cores
    params.offline, params.ui, params.endpoint_slots, params.verbosity = True, False, False, 1
    # A connection keeps a thread, also while it waits for a place, or idles.
    params.n_threads_http = told["at_once"] + HTTP_THREADS
    # Prompts of earlier conversations would take up to 8 GiB of the API's memory.
    params.cache_ram_mib = 0
    # Answers are text as the model wrote it: no thoughts are taken out, and nothing but temperature and top_p shapes
    # what is drawn. (Forced to be pure content, an answer would not follow its response_format.)
    params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    params.sampling.top_k, params.sampling.min_p, params.sampling.top_p = 0, 0.0, 1.0
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
