"""The stock openai client: lists models, streams a chat, is refused with a bad key. Prints one JSON object."""

import json
import sys

import openai

url, key, model = sys.argv[1:4]
client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=20)

models = sorted(listed.id for listed in client.models.list())

pieces = []
finish = None
stream = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "Say something."}],
    max_tokens=6,
    stream=True,
)
for chunk in stream:
    for choice in chunk.choices:
        if choice.delta.content:
            pieces.append(choice.delta.content)
        finish = choice.finish_reason or finish

try:
    openai.OpenAI(base_url=f"{url}/v1", api_key="hg_wrong", max_retries=0, timeout=20).models.list()
    refused = None
except openai.AuthenticationError as error:
    refused = error.code

print(json.dumps({"models": models, "pieces": len(pieces), "finish": finish, "refused": refused}))
