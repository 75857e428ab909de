"""A ``distributed.Security`` of the user's own: does it encrypt, with all that the three roles need?

Without this Dask would speak plain TCP where it does not require encryption, and tell of what is missing only when the
hosts were asked. Dask is not imported here.
"""

from __future__ import annotations

from prs_dask.config.refused import Refused

__all__ = ["pem_text", "tls_security"]

_ROLES = ("client", "scheduler", "worker")


def tls_security(value: object) -> object:
    """One that encrypts and whose certificates and keys are set and can be read."""
    if isinstance(value, type) or not hasattr(value, "get_connection_args"):
        raise ValueError
    wrong = []
    if getattr(value, "require_encryption", None) is not True:
        wrong.append("which does not require encryption")
    texts, unreadable = {}, []
    for name in ("tls_ca_file", *(f"tls_{role}_{what}" for role in _ROLES for what in ("cert", "key"))):
        try:
            texts[name] = pem_text(getattr(value, name, None))
        except OSError as error:
            unreadable.append(f"{name} cannot be read ({error.filename}: {error.strerror})")
        except ValueError:
            unreadable.append(f"{name} is no PEM text and no path of one")
    for role in _ROLES:  # a certificate's file may hold its key too
        if "PRIVATE KEY" in (texts.get(f"tls_{role}_cert") or ""):
            texts.pop(f"tls_{role}_key", None)
    if missing := [name for name, text in texts.items() if text is None]:
        wrong.append(f"without {', '.join(missing)}")
    wrong += [f"whose {one}" for one in unreadable]
    if wrong:
        raise Refused(", ".join(wrong))
    return value


def pem_text(given: object) -> str | None:
    """What Dask takes as a PEM text, or as the path of one, as text; None where there is none.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is neither, or the file holds something else.
    """
    if given is None or given == "":
        return None
    if not isinstance(given, str):
        raise ValueError(f"a {type(given).__name__}")
    if "\n" in given:
        return given
    with open(given, encoding="ascii") as file:
        return file.read()
