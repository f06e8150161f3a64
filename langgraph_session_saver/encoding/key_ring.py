"""Ciphers with several keys, to change the key of a database while it is in use."""

from __future__ import annotations

from langgraph.checkpoint.serde.base import CipherProtocol


class KeyRing(CipherProtocol):
    """Encrypts with one cipher, and decrypts with the first of several that can.

    The ciphers must notice a wrong key, as `EncryptedSerializer`'s AES does in its default mode.

    Args:
        newest: The cipher that encrypts.
        *older: Ciphers of keys that stored values may still have.
    """

    def __init__(self, newest: CipherProtocol, *older: CipherProtocol) -> None:
        self.newest = newest
        self._every = (newest, *older)

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        """Encrypt with the newest cipher."""
        return self.newest.encrypt(plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        """Decrypt with the newest cipher that can."""
        for cipher in self._every:
            if (plaintext := _decrypted(cipher, ciphername, ciphertext)) is not None:
                return plaintext
        raise ValueError(f"none of the {len(self._every)} keys decrypts it")

    def reencrypted(self, ciphername: str, ciphertext: bytes) -> tuple[str, bytes] | None:
        """The same value under the newest key; None if it has that key already."""
        if _decrypted(self.newest, ciphername, ciphertext) is not None:
            return None
        return self.encrypt(self.decrypt(ciphername, ciphertext))


def _decrypted(cipher: CipherProtocol, ciphername: str, ciphertext: bytes) -> bytes | None:
    try:
        return cipher.decrypt(ciphername, ciphertext)
    except Exception:  # noqa: BLE001 - a cipher says in its own way that its key is another one
        return None
