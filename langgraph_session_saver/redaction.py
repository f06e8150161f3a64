"""Credentials, kept out of metadata, and out of the texts of errors.

Metadata has keys, so a value goes by its key. A text has patterns. All of them are matched in a
time that grows with the text's length only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from langgraph_session_saver.errors import InvalidConfigError

SECRET_KEYS = (
    "access_key",
    "access_token",
    "api_key",
    "auth_token",
    "authorization",
    "bearer",
    "client_secret",
    "cookie",
    "cookies",
    "credential",
    "credentials",
    "encryption_key",
    "id_token",
    "jwt",
    "passphrase",
    "passwd",
    "password",
    "private_key",
    "pwd",
    "refresh_token",
    "secret",
    "secret_key",
    "secrets",
    "session_token",
    "signing_key",
    "token",
)
"""The keys whose values are not stored, by default."""

REDACTED = "[redacted]"

_LANGGRAPH = frozenset(
    (
        "checkpoint_id",
        "checkpoint_map",
        "checkpoint_ns",
        "counters_since_delta_snapshot",
        "parents",
        "run_id",
        "source",
        "step",
        "thread_id",
    )
)
"""Metadata of LangGraph's own, which is kept; so is what starts with `langgraph_`."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

_COOKIES = re.compile(r"\b((?:set-)?cookie\s{0,3}:)[^\r\n]++", re.IGNORECASE)

_URL = re.compile(r"(://[^\s:/@]{0,256}+:)[^\s]{0,1024}@")
"""The password of a URL, up to the last `@`: a `@` or `/` in it may not be encoded."""

_BEARER = re.compile(r"\b(bearer\s{1,3})[^\s\"']{6,}+", re.IGNORECASE)

_KEY = re.compile(r"(?<![\w-])([\w-]++)\\?[\"']?\s{0,3}(?:=>|[=:])\s{0,3}")
"""A key and what separates it from its value, in Python, JSON, a URL, a header or a DSN."""

_VALUE = re.compile(
    r"""
    (?P<quote>\\?["']) (?: .{0,8192}? (?<!\\)(?P=quote) | [^\r\n]*+ )
    | (?! (?:yes|no|none|null|true|false)\b )     # which say whether there is one
      (?: (?:basic|bearer|digest|token)\s{1,3} )? \S++""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)

_KEY_FORMATS = re.compile(
    r"""\b(?:
        [sprk]k-[\w-]{16,}+                   # OpenAI, Anthropic and others
      | gh[opsur]_\w{20,}+ | github_pat_\w{20,}+ | glpat-[\w-]{16,}+
      | xox[a-z]-[\w-]{10,}+                  # Slack
      | AKIA[A-Z\d]{16} | AIza[\w-]{30,}+     # Amazon, Google
      | eyJ[\w-]++\.[\w-]++\.[\w-]*+          # a JSON Web Token
    )""",
    re.VERBOSE,
)


def _words(key: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(key)]


def _is_langgraphs(key: str) -> bool:
    return key in _LANGGRAPH or key.startswith("langgraph_")


class SecretKeys:
    """The keys whose values are secrets.

    Args:
        keys: Names of keys. A key has a secret value if its last words are one of them, in any
            case: `api_key` is found in `apiKey`, `API-KEY` and `openai_api_key`, and `token` is not
            found in `token_usage`.
    """

    def __init__(self, keys: Iterable[str] = SECRET_KEYS) -> None:
        if isinstance(keys, str) or not all(isinstance(key, str) for key in keys):
            raise InvalidConfigError(
                f"redact is {keys!r:.80}: pass the names of keys, for example "
                "[*SECRET_KEYS, 'account']"
            )
        names = frozenset("".join(_words(key)) for key in keys)

        @lru_cache(maxsize=1024)
        def is_secret(key: str) -> bool:
            last = _words(key)[-4:]
            return any("".join(last[n:]) in names for n in range(len(last)))

        self.match: Callable[[str], bool] = is_secret

    def left_out(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """A checkpoint's metadata without these keys and their values.

        They are left out, not replaced by a mark: nobody can take a mark for a credential, and a
        filter treats the key as one that the checkpoint does not have.
        """
        return {
            key: value if _is_langgraphs(key) else self._without_secrets(value)
            for key, value in metadata.items()
            if _is_langgraphs(key) or not self.match(key)
        }

    def _without_secrets(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {
                key: self._without_secrets(inner)
                for key, inner in value.items()
                if not (isinstance(key, str) and self.match(key))
            }
        if type(value) in {list, tuple}:
            return type(value)(map(self._without_secrets, value))
        return value

    def redacted(self, text: str) -> str:
        """A text with the values of these keys, and what looks like a credential, replaced."""
        text = _URL.sub(r"\1***@", text)
        text = _COOKIES.sub(rf"\1 {REDACTED}", text)
        text = self._without_values(text)
        text = _BEARER.sub(rf"\1{REDACTED}", text)
        return _KEY_FORMATS.sub(REDACTED, text)

    def _without_values(self, text: str) -> str:
        """Replace the values that follow these keys."""
        parts, at = [], 0
        for key in _KEY.finditer(text):
            if key.start() < at or not self.match(key[1]):
                continue
            if value := _VALUE.match(text, key.end()):
                quote = value["quote"] or ""
                parts += [text[at : key.end()], quote, REDACTED, quote]
                at = value.end()
        return "".join(parts) + text[at:]


without_credentials = SecretKeys().redacted
"""For texts that belong to no saver: the default keys."""
