"""Savers with an old and a new key, and a process that changes keys, to be killed."""

from __future__ import annotations

from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph_session_saver import KeyRing, Progress, SessionSaver

OLD_KEY, NEW_KEY = b"the old key 16by", b"the new key 16by"


def with_key(key: bytes) -> EncryptedSerializer:
    return EncryptedSerializer.from_pycryptodome_aes(key=key)


def with_both() -> EncryptedSerializer:
    return EncryptedSerializer(KeyRing(with_key(NEW_KEY).cipher, with_key(OLD_KEY).cipher))


def rotate(url: str) -> None:
    """Change the keys, and say so after each thread."""

    def say(at: Progress) -> None:
        print(f"thread {at.done}", flush=True)

    with SessionSaver.from_conn_string(url, serde=with_both()) as saver:
        saver.reencrypt(say)
