"""One thing done with the stock openai client: `list`, `stream`, `whole` or `pair`. Prints one JSON object.

`status` and `id` (x-request-id) are those of the answer; of a refusal also `code`, `message` and `retry_after`.
"""

import json
import statistics
import sys
import threading
import time

import openai

step, url, key, model, tokens = sys.argv[1:6]
client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=20)


def ask(prompt, **more):
    return client.chat.completions.with_raw_response.create(
        model=model,
        messages=[{"role": "user", "content": prompt}],
        max_tokens=int(tokens),
        temperature=0,
        **more,
    )


def said(answer):
    return {"status": answer.status_code, "id": answer.headers.get("x-request-id")}


def list_models():
    answer = client.models.with_raw_response.list()
    models = [{"id": listed.id, "owned_by": listed.owned_by} for listed in answer.parse().data]
    return said(answer) | {"models": models}


def stream(prompt="Name three colours."):
    answer = ask(prompt, stream=True, stream_options={"include_usage": True})
    text, times, finish, chunk = "", [], None, None
    for chunk in answer.parse():
        for choice in chunk.choices:
            if choice.delta.content:
                text += choice.delta.content
                times.append(time.monotonic())
            finish = choice.finish_reason or finish
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    span = times[-1] - times[0] if times else 0
    return said(answer) | {
        "text": text,
        "pieces": len(times),
        "finish": finish,
        "usage": chunk.usage.model_dump(include={"prompt_tokens", "completion_tokens"}),
        "per_second": len(gaps) / span if span else 0,
        "gap_ms": statistics.median(gaps) * 1000 if gaps else 0,
        "span_ms": span * 1000,
        # llama.cpp's own measure of the same, in the last chunk.
        "generated_ms": chunk.model_extra["timings"]["predicted_ms"],
        "first": times[0] if times else 0,
        "last": times[-1] if times else 0,
    }


def whole():
    answer = ask("Name three colours.")
    completion = answer.parse()
    return said(answer) | {
        "text": completion.choices[0].message.content,
        "finish": completion.choices[0].finish_reason,
        "usage": completion.usage.model_dump(include={"prompt_tokens", "completion_tokens"}),
    }


def pair():
    answers = [{}, {}]
    prompts = ["Name three colours.", "Name three rivers."]

    def one(position):
        answers[position] = attempt(lambda: stream(prompts[position]))

    threads = [threading.Thread(target=one, args=(position,)) for position in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = answers
    together = all("first" in answer for answer in answers) and max(first["first"], second["first"]) < min(
        first["last"], second["last"]
    )
    return {"status": max(answer["status"] for answer in answers), "id": second["id"]} | {
        "answers": answers,
        "together": together,
    }


def attempt(action):
    try:
        return action()
    except openai.APIStatusError as error:
        return said(error.response) | {
            "status": error.status_code,
            "code": error.code,
            "message": error.body.get("message") if isinstance(error.body, dict) else None,
            "retry_after": error.response.headers.get("retry-after"),
        }


steps = {"list": list_models, "stream": stream, "whole": whole, "pair": pair}
print(json.dumps(attempt(steps[step])))
