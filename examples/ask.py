"""Asks a language model of Refit by the openai client, whole and streamed: `python examples/ask.py MODEL PROMPT`.

Where and with which key stands in OPENAI_BASE_URL, such as http://127.0.0.1:8080/v1, and OPENAI_API_KEY.
"""

import sys

from openai import OpenAI

model, prompt = sys.argv[1:]
with OpenAI() as client:
    whole = client.chat.completions.create(model=model, messages=[{"role": "user", "content": prompt}])
    print(whole.choices[0].message.content)
    pieces = client.chat.completions.create(model=model, messages=[{"role": "user", "content": prompt}], stream=True)
    for piece in pieces:
        print(piece.choices[0].delta.content or "", end="", flush=True)
    print()
