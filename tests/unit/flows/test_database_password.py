"""The database's password from a file: a URL that works, or one line that names what is wrong and
never the secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from flows.domain.errors import ConfigError
from flows.runtime.settings import load_settings


@pytest.fixture(autouse=True)
def _only_these(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "DATABASE_PASSWORD_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://writer@db:5432/shop",
        "postgresql://writer@db:5432/shop?sslmode=disable",
        "postgresql:///shop?user=writer&host=db",
    ],
)
@pytest.mark.parametrize("written", ["s3cret", "s3cret\n", "s3cret\r\n"])
def test_the_password_completes_the_url(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, written: str
) -> None:
    file = tmp_path / "password"
    file.write_text(written)
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("DATABASE_PASSWORD_FILE", str(file))
    parts = conninfo_to_dict(load_settings().database_url)
    assert (parts["user"], parts["password"], parts["dbname"], parts["host"]) == (
        "writer",
        "s3cret",
        "shop",
        "db",
    )


def test_any_character_can_be_in_the_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    odd = "a b&c=d/e?f#g%20@h:i+'\"ü"
    (tmp_path / "password").write_text(odd)
    monkeypatch.setenv("DATABASE_URL", "postgresql://writer@db/shop")
    monkeypatch.setenv("DATABASE_PASSWORD_FILE", str(tmp_path / "password"))
    assert conninfo_to_dict(load_settings().database_url)["password"] == odd


def test_without_a_file_the_url_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://writer:known@db/shop")
    assert load_settings().database_url == "postgresql://writer:known@db/shop"


@pytest.mark.parametrize(
    ("url", "content", "says"),
    [
        ("postgresql://writer@db/shop", None, "No such file"),
        ("postgresql://writer@db/shop", b"", "one line"),
        ("postgresql://writer@db/shop", b"\n", "one line"),
        ("postgresql://writer@db/shop", b"s3cret\nmore\n", "one line"),
        ("postgresql://writer@db/shop", b"s3cret\xff", "no text"),
        ("postgresql://writer:other@db/shop", b"s3cret", "set one of them"),
        ("postgresql://db/shop?password=other", b"s3cret", "set one of them"),
    ],
)
def test_what_is_wrong_is_one_line_without_the_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, content: bytes | None, says: str
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("DATABASE_PASSWORD_FILE", str(file))
    with pytest.raises(ConfigError) as error:
        load_settings()
    (line,) = str(error.value).splitlines()
    assert line.startswith("DATABASE_PASSWORD_FILE")
    assert says in line
    assert "s3cret" not in line
    assert "other" not in line.replace(str(file), "")


def test_a_misspelt_variable_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASWORD_FILE", "/run/secrets/x")
    with pytest.raises(
        ConfigError,
        match="DATABASE_PASWORD_FILE is no setting of ours; did you mean DATABASE_PASSWORD_FILE",
    ):
        load_settings()
