"""Who may be asked for a label in words: an OpenAI-compatible endpoint, or a local language model.

Both answer one prompt with one text, or with the reason why there is none. A failed reply is counted, never dropped.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Protocol, runtime_checkable

import torch

from cutaway.errors import BadInput, NotTestable, Unavailable
from cutaway.networks.network import Network

URL, MODEL, KEY = "CUTAWAY_LLM_URL", "CUTAWAY_LLM_MODEL", "CUTAWAY_LLM_KEY"
MOST_BYTES = 1 << 20
_AGAIN = (408, 409, 429, 500, 502, 503, 504)
_NEVER = (401, 403, 404)


@dataclass(frozen=True)
class Answer:
    """A model's text, or None and why."""

    text: str | None
    reason: str = ""


@runtime_checkable
class LanguageModel(Protocol):
    """Anything that answers a prompt."""

    @property
    def name(self) -> str:
        """What scores name it by."""
        ...

    def ask(self, system: str, prompt: str) -> Answer:
        """One answer; ``Unavailable`` where there is nobody to ask."""
        ...


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *_args: Any, **_options: Any) -> None:
        """Follows nothing."""


@dataclass(frozen=True)
class Endpoint:
    """A chat model behind ``POST {base_url}/chat/completions``; each try waits ``timeout`` seconds at most."""

    base_url: str
    model: str
    key: str = field(default="", repr=False)
    timeout: float | int = 30.0
    retries: int = 2
    pause: float | int = 0.5  # seconds before the first repetition, doubled each time
    most_tokens: int = 512

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise BadInput(f"The endpoint {self.base_url!r} is no web address; give one like https://HOST/v1.")

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model

    def ask(self, system: str, prompt: str) -> Answer:
        """One completion. ``Unavailable`` if nobody listens there or the key or the model is refused."""
        request = self._request(system, prompt)
        reason = ""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                return self._read(request)
            except urllib.error.HTTPError as error:
                reason = f"status {error.code}"
                error.close()
                if error.code in _NEVER:
                    raise Unavailable(
                        f"{self.base_url} refused {self.model!r} with status {error.code}; check the address, the "
                        f"model's name and the key ({KEY})."
                    ) from None
                if error.code not in _AGAIN:
                    break
            except (OSError, HTTPException) as error:
                cause = getattr(error, "reason", error)
                if isinstance(cause, ConnectionRefusedError):
                    raise Unavailable(f"Nothing answers at {self.base_url}; start the server or set {URL}.") from None
                reason = "no reply in time" if isinstance(cause, TimeoutError) else type(cause).__name__
        return Answer(None, reason)

    def _request(self, system: str, prompt: str) -> urllib.request.Request:
        body = {
            "model": self.model, "temperature": 0, "max_tokens": self.most_tokens,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": prompt}],
        }  # fmt: skip
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        address = self.base_url.rstrip("/") + "/chat/completions"
        return urllib.request.Request(address, json.dumps(body).encode(), headers, method="POST")

    def _read(self, request: urllib.request.Request) -> Answer:
        opener = urllib.request.build_opener(_NoRedirects)
        deadline = time.monotonic() + self.timeout
        with opener.open(request, timeout=self.timeout) as reply:
            received = b""
            # A server that drips bytes resets the socket's own clock with each of them.
            while part := reply.read1(1 << 16):
                received += part
                if len(received) > MOST_BYTES:
                    return Answer(None, "reply too long")
                if time.monotonic() > deadline:
                    raise TimeoutError
        return _content(received)


def _content(received: bytes) -> Answer:
    try:
        content = json.loads(received)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        return Answer(None, "malformed reply")
    return Answer(content) if isinstance(content, str) and content.strip() else Answer(None, "empty reply")


def endpoint(base_url: str | None = None, model: str | None = None, key: str | None = None, **options: Any) -> Endpoint:
    """The endpoint of the arguments, or of the environment (``CUTAWAY_LLM_URL``, ``..._MODEL``, ``..._KEY``)."""
    url, name = base_url or os.environ.get(URL), model or os.environ.get(MODEL)
    if not url or not name:
        raise Unavailable(
            f"A language model was asked for a label and none is set up; set {URL} and {MODEL}, or use the labels "
            "that need none (tokens, promoted tokens, tuning, example clusters)."
        )
    return Endpoint(url, name, key if key is not None else os.environ.get(KEY, ""), **options)


@dataclass(frozen=True, eq=False)
class LocalModel:
    """A loaded language model that answers by greedy decoding, without a cache: for short answers of small models."""

    network: Network
    most_tokens: int = 64

    def __post_init__(self) -> None:
        if self.network.task != "causal-lm" or self.network.tokenizer is None:
            raise Unavailable(f"{self.network.name} cannot write labels; load a language model with its tokenizer.")

    @property
    def name(self) -> str:
        """The network's name."""
        return self.network.name

    def ask(self, system: str, prompt: str) -> Answer:
        """The greedy continuation of the prompt, up to the first line that ends a JSON object."""
        tokenizer = self.network.tokenizer
        ids = tokenizer([self._chat(system, prompt)], return_tensors="pt")["input_ids"].to(self.network.device)
        start, end = ids.shape[1], getattr(tokenizer, "eos_token_id", None)
        limit = getattr(getattr(self.network.module, "config", None), "max_position_embeddings", None)
        if limit is not None and start + self.most_tokens > limit:
            return Answer(None, "prompt too long")
        for _ in range(self.most_tokens):
            with torch.no_grad():
                token = self.network.module(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)
            if end is not None and int(token) == end:
                break
            ids = torch.cat([ids, token], 1)
            if "}" in tokenizer.decode(token[0].tolist()):
                break
        text = tokenizer.decode(ids[0, start:].tolist())
        return Answer(text) if text.strip() else Answer(None, "empty reply")

    def _chat(self, system: str, prompt: str) -> str:
        if getattr(self.network.tokenizer, "chat_template", None):
            messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
            return self.network.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return f"{system}\n\n{prompt}\n\n"


def need_text(found: bool) -> None:
    """``NotTestable`` where there is no text to show: language models are shown tokens, not pictures."""
    if not found:
        raise NotTestable(
            "A language model is shown text, and these stimuli hold no tokens; use another kind of label."
        )
