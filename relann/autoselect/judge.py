"""A judge among finalists: any server that speaks OpenAI's protocol of chat completions."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Sequence

SECONDS = 30.0
"""How long an answer may take."""

_ASKED = (
    "You choose which of several models of a prediction task over a relational database will do "
    "best on test data later than the validation data. Scores are of `metric`. `as_test` is "
    "validation with the database cut as it is for test, `fold` an earlier validation, `barrier` "
    "and `curvature` say how sharp the loss is around the weights (smaller is flatter). Answer "
    'with JSON only: {"choice": <number of the candidate>, "reason": "<one sentence>"}'
)


def asked(
    address: str, model: str, told: Sequence[dict[str, object]], about: dict[str, object]
) -> tuple[int, str]:
    """Which candidate a server chooses, by its place in `told`, and why.

    `address` is the server's base address, as in http://localhost:8080/v1. Raises JudgeError for
    everything that goes wrong: no server, no answer in time, an answer that names no candidate.
    """
    question = {"task": about, "candidates": [{"number": i, **row} for i, row in enumerate(told)]}
    body = {
        "model": model,
        "temperature": 0,
        "messages": [
            {"role": "system", "content": _ASKED},
            {"role": "user", "content": json.dumps(question)},
        ],
    }
    if not re.match(r"https?://", address):
        raise JudgeError(f"'{address}' is no address that begins with http:// or https://")
    request = urllib.request.Request(
        f"{address.rstrip('/')}/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            answer = json.loads(response.read())
        said = answer["choices"][0]["message"]["content"]
        found = json.loads(said[said.index("{") : said.rindex("}") + 1])
        number, reason = int(found["choice"]), str(found.get("reason", ""))
    except (OSError, urllib.error.URLError) as error:
        raise JudgeError(f"no answer from {address}: {error}") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise JudgeError(f"the answer of {address} names no candidate") from error
    if not 0 <= number < len(told):
        raise JudgeError(f"{address} chose candidate {number}; there are {len(told)}")
    return number, reason


class JudgeError(Exception):
    """Why a judge's choice does not count."""
