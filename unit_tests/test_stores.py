"""Addresses of object stores, names inside them, and what is said when one cannot be used."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from destination_bulk_tables.errors import ConfigError, SettingError, TransientError
from destination_bulk_tables.stores import (
    Store,
    StoreSettings,
    is_store,
    key_part,
    require_address,
    require_own_credential,
)


@pytest.mark.parametrize(
    ("address", "is_one"),
    [
        ("s3://b/p", True),
        ("ftp://b", True),
        ("s3:/b", True),
        ("S3://b", True),
        ("/local/x", False),
        ("c:/x", False),
        (None, False),
    ],
)
def test_an_address_is_told_from_a_path(address: str | None, *, is_one: bool) -> None:
    """A scheme that no store has is a wrong address, and not the name of a folder."""
    assert is_store(address) is is_one


@pytest.mark.parametrize("address", ["s3://b", "gs://my-bucket/a/b/", "az://container/rejected.d"])
def test_addresses_of_stores(address: str) -> None:
    """A bucket, and a path inside it or none."""
    require_address(address, "rejected_records.report_path")


@pytest.mark.parametrize(
    "address", ["s3://", "s3:///p", "ftp://b/p", "s3://b/../p", "s3://b/p?x=1", "s3://u:p@b/p"]
)
def test_an_address_that_leads_nowhere_names_its_setting(address: str) -> None:
    """Before anything is read, and without the address, which may hold a credential."""
    with pytest.raises(SettingError, match=r"x must look like s3://bucket/path") as caught:
        require_address(address, "x")
    assert address not in caught.value.message.replace("s3://bucket/path", "")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("crm.deals", "crm.deals"),
        ("a/b", "a%2Fb"),
        ("..", "%2E%2E"),
        ("a b\u00e9", "a%20b%C3%A9"),
        ("100%", "100%25"),
    ],
)
def test_a_name_is_one_step_of_a_key(name: str, key: str) -> None:
    """A stream's name leads into no other folder, and two names never to one key."""
    assert key_part(name) == key


@pytest.mark.parametrize(
    ("address", "settings", "named"),
    [
        ("s3://b/p", StoreSettings(), "access_key_id is missing"),
        ("s3://b/p", StoreSettings(access_key_id="i"), "secret_access_key is missing"),
        ("gs://b", StoreSettings(account_key="k"), "service_account_key is missing"),
        ("az://b", StoreSettings(account_name="n"), "account_key is missing"),
        (
            "gs://b",
            StoreSettings(service_account_key='{"gcs_base_url": "https://10.0.0.1"}'),
            "service_account_key names an address of its own",
        ),
    ],
)
def test_on_cloud_no_store_is_opened_with_the_platforms_role(
    address: str, settings: StoreSettings, named: str
) -> None:
    """An empty setting would fall back to the role of the machine, which is not the user's."""
    with pytest.raises(SettingError, match=f"object_store.{named}"):
        require_own_credential(address, settings)


def test_on_cloud_a_store_is_opened_with_a_users_own_credential() -> None:
    """With each cloud's own settings there is nothing to say."""
    settings = StoreSettings(
        access_key_id="i",
        secret_access_key="s",
        service_account_key="{}",
        account_name="n",
        account_key="k",
    )
    for address in ("s3://b", "gs://b", "az://b"):
        require_own_credential(address, settings)


def test_settings_that_open_no_store(tmp_path: Path) -> None:
    """A key that is no key is told before a row is read."""
    key = tmp_path.name
    with pytest.raises(ConfigError, match=r"opened .* Correct the settings in object_store"):
        Store("gs://b/p", StoreSettings(service_account_key=key), "report_path", Event())


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ConfigError("as it is"), ConfigError, "as it is"),
        (FileNotFoundError("secret"), ConfigError, "it does not exist). Create the bucket"),
        (OSError("status code: 507 secret"), TransientError, "answered 507, also when asked again"),
        (OSError("status code: 403 secret"), ConfigError, "answered 403). Correct the credential"),
        (OSError("GET http://169.254.169.254/ secret"), ConfigError, "no credential was found)"),
        (OSError("secret"), TransientError, "did not answer, also when asked again"),
    ],
)
def test_what_ends_an_upload_is_said_without_the_stores_words(
    error: Exception, kind: type[Exception], words: str
) -> None:
    """They may quote a key; what this package says of it stays as it is."""
    settings = StoreSettings("eu-central-1", "https://store.example.com", "id", "hidden")
    store = Store("s3://b/p", settings, "report_path", Event())

    def fail() -> None:
        raise error

    with pytest.raises(kind) as caught:
        store.wait(store.start(fail))
    store.close()
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)
