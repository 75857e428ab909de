"""About 10 ms of a core for each mini-batch, always the same work."""

import hashlib


def run(mini_batch: list[str]) -> list[str]:
    return [hashlib.pbkdf2_hmac("sha256", mini_batch[0].encode(), b"salt", 20_000).hex()]
