"""Decides which names of variables, parameters, options and headers denote a secret."""

from __future__ import annotations

import re
from functools import lru_cache

from kedro_flask_server.redaction.words import words_of

_MAX_CACHED_CHARS = 100

_WORD_BEGINS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SEPARATORS = re.compile(r"[^a-z0-9]+")

# Names are matched in the form ``_words_of_it_``.
_SECRET = re.compile(
    r"passw(?:or)?d|passwort|pass_?phrase|passcode|secret(?!ar)|credential|token(?!i[sz])"
    r"|_creds?_|pwd_|_jwt_|_pw_|_pat_|_dsn_$|_auth_$|_auth_config_$|_authorization_|_cookies?_$"
    r"|_sas_$"
    r"|_pass(?:_\d+)?_$|_conn(?:ection)?_?str(?:ing)?_|_webhook(?:_url)?_$"
    r"|(?:api|access|private|signing|encryption|account|auth|secret)_?keys?_|_key_$"
)

# Words that turn a name into a property of a secret, such as a number of tokens.
_ABOUT = words_of(
    """
    age alg algorithm arn audience backend bucket budget bytes chars class column columns cost count
    counts dir directory disabled domain embedding embeddings enabled endpoint expiration expires
    expiry field fields file filename files folder format header headers helper hint host hours
    httponly index info issuer kind label len length level lifetime limit limits manager max
    method min minutes mode name names namespace parallelism parser path paths pattern pid policy
    port prefix provider rate ratio regex region required reset retries rotation samesite
    scope scopes seconds secure server service size sock socket status store strength style table
    timeout tty ttl type types uri url usage user username validator validators version vocab
    """
)

# Keys that open nothing, words of texts that models read, filters and other passes.
_HARMLESS = re.compile(
    r"_(?:primary|foreign|public|sort|sorting|partition|join|group|grouping|cache|gpg|pgp|row|index"
    r"|natural|surrogate|business|composite|unique|merge|dict|map|hash|range|order|host|lookup"
    r"|column|object|id|field|name|dataset|table|record|label|target|feature|cluster|dist|shard"
    r"|idempotency|routing|message|event|line|time|date|entity|item)_key_$"
    r"|_(?:max|min|num|n|total|prompt|completion|input|output|new|cached|reasoning|context|used"
    r"|remaining|special|stop)_(?:\w+_)?tokens_$"
    r"|_(?:special|stop|pad|eos|bos|unk|sep|cls|mask|start|end|next|unexpected)_token_$"
    r"|_(?:first|second|one|two|single|multi|num|n|max|high|low|band|all|forward|backward)_pass_$"
    r"|_(?:file|glob|name|path|re|regex)_pat_$"
)

_WORKING_DIRECTORIES = frozenset({"PWD", "OLDPWD"})


def is_secret_name(name: str) -> bool:
    """Return whether a name denotes a secret.

    Args:
        name: Such as ``DB_PASS``, ``apiKey``, ``--token`` or ``Set-Cookie``.
    """
    return _is_secret(name) if len(name) > _MAX_CACHED_CHARS else _is_short_secret(name)


def is_number_of_tokens(name: str, value: object) -> bool:
    """Return whether a value is a number of tokens, not a token."""
    is_number = isinstance(value, (int, float)) or (isinstance(value, str) and value.isdigit())
    return is_number and name.casefold().endswith("tokens")


@lru_cache(4096)
def _is_short_secret(name: str) -> bool:
    return _is_secret(name)


def _is_secret(name: str) -> bool:
    if name in _WORKING_DIRECTORIES:
        return False
    # Case folding maps exactly the letters that `re.IGNORECASE` does.
    words = _SEPARATORS.sub("_", f"_{_WORD_BEGINS.sub('_', name).casefold()}_")
    if not _SECRET.search(words) or _HARMLESS.search(words[-_MAX_CACHED_CHARS:]):
        return False
    last = words[:-1].rpartition("_")[2]
    is_webhook = words.endswith("_webhook_url_")
    return is_webhook or last not in _ABOUT
