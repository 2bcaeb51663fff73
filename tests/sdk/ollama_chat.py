"""The stock ollama client: lists models, streams a chat, is refused with a bad key. Prints one JSON object."""

import json
import sys

import ollama

url, key, model = sys.argv[1:4]


def client(secret):
    return ollama.Client(host=url, headers={"Authorization": f"Bearer {secret}"}, timeout=20)


models = sorted(listed.model for listed in client(key).list().models)

pieces = []
finish = None
stream = client(key).chat(
    model=model,
    messages=[{"role": "user", "content": "Say something."}],
    options={"num_predict": 6},
    stream=True,
)
for part in stream:
    if part.message.content:
        pieces.append(part.message.content)
    finish = part.done_reason or finish

try:
    client("hg_wrong").list()
    refused = None
except ollama.ResponseError as error:
    refused = error.status_code

print(json.dumps({"models": models, "pieces": len(pieces), "finish": finish, "refused": refused}))
