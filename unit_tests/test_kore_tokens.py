"""Kore.ai: tokens of an app, made anew for each attempt, and static ones."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from destination_bulk_tables.errors import ConfigError
from unit_tests.kore_flows import NOW, signed_by
from unit_tests.vendors import SECRET


def test_claims() -> None:
    """AppId names the app; the token is young, short-lived and never the same twice."""
    provider = signed_by(auth_type="jwt_app", client_id=" cs-1 ", client_secret=SECRET)
    seen = set()
    for _ in range(3):
        token = provider.headers(NOW)["auth"]
        claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_exp": False})
        seen.add(claims.pop("jti"))
        assert claims["exp"] - claims["iat"] == 300
        assert NOW - 60 <= claims.pop("iat") <= NOW < claims.pop("exp")
        assert claims == {"sub": "airbyte", "appId": "cs-1"}
    assert len(seen) == 3


@pytest.mark.parametrize("algorithm", ["RS256", "RS512"])
@pytest.mark.parametrize("newline", ["\n", "\\n"])
def test_pem_keys_sign(algorithm: str, newline: str) -> None:
    """A private key in PEM form works, also where a form turned its line ends into backslash-n."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    provider = signed_by(
        auth_type="jwt_app",
        client_id="cs-1",
        client_secret=pem.replace("\n", newline),
        algorithm=algorithm,
    )
    token = provider.headers(NOW)["auth"]
    options: Any = {"verify_exp": False}
    claims = jwt.decode(token, key.public_key(), algorithms=[algorithm], options=options)
    assert claims["appId"] == "cs-1"


def test_a_secret_that_cannot_sign_is_a_config_error() -> None:
    """It is found before the first request, and the secret is not in the message."""
    with pytest.raises(ConfigError) as caught:
        signed_by(auth_type="jwt_app", client_id="c", client_secret="not-a-pem", algorithm="RS256")
    assert "not-a-pem" not in caught.value.message


def test_static_tokens() -> None:
    """A static token is used as it is until it expires, and one without an end for ever."""
    lasting = jwt.encode({"appId": "c"}, SECRET)
    assert signed_by(auth_type="static_jwt", jwt=f" {lasting}\n").headers(NOW) == {"auth": lasting}
    provider = signed_by(auth_type="static_jwt", jwt=jwt.encode({"exp": NOW}, SECRET))
    provider.headers(NOW - 1)
    with pytest.raises(ConfigError, match="expired"):
        provider.headers(NOW)
    with pytest.raises(ConfigError, match="three parts"):
        signed_by(auth_type="static_jwt", jwt="nonsense")
    with pytest.raises(ConfigError, match="in one line"):
        signed_by(auth_type="static_jwt", jwt=f"{lasting[:9]}\n{lasting[9:]}")
