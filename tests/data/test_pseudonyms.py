"""The salt is made once, kept private and never replaced; pseudonyms are RFC 2104's HMAC, written out by hand here."""

import hashlib
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtl.data.pseudonyms import day_offset, is_pseudonym, new_uid, pseudonym, salt
from medtl.errors import ConfigError

KEY = bytes(range(32))


@pytest.fixture(autouse=True)
def salt_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "secret/salt"
    monkeypatch.setenv("MEDTL_SALT_FILE", str(path))
    return path


def hmac_sha256(key: bytes, message: bytes) -> str:
    """RFC 2104, section 2, for keys shorter than a block of 64 bytes."""
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).hexdigest()


def test_the_salt_is_made_once_for_the_owner_only(salt_file: Path) -> None:
    first = salt()
    assert len(first) == 32 and first == salt() == salt_file.read_bytes()
    assert salt_file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in salt_file.parent.iterdir()] == ["salt"]


def test_two_salts_differ(salt_file: Path) -> None:
    first = salt()
    salt_file.unlink()
    assert salt() != first


def test_processes_that_start_at_once_agree() -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: salt(), range(32)))) == 1


def test_the_salt_lies_in_the_config_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEDTL_SALT_FILE")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert salt() == (tmp_path / "xdg/medtl/salt").read_bytes()
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert salt() == (tmp_path / "home/.config/medtl/salt").read_bytes()


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_damaged_salt_is_refused_and_kept(salt_file: Path, length: int) -> None:
    salt_file.parent.mkdir()
    salt_file.write_bytes(b"x" * length)
    with pytest.raises(ConfigError, match=rf"salt.* has {length} bytes, expected 32; bring back a copy"):
        salt()
    assert salt_file.read_bytes() == b"x" * length


def test_an_unreadable_salt_is_named(salt_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    salt_file.mkdir(parents=True)
    with pytest.raises(
        ConfigError, match=r"secret/salt: .*cannot be read or made \(Is a directory\); make it readable"
    ):
        salt()
    monkeypatch.setenv("MEDTL_SALT_FILE", os.devnull + "/salt")
    with pytest.raises(ConfigError, match=r"cannot be read or made \(File exists\)"):
        salt()


@pytest.mark.parametrize(("kind", "prefix"), [("patient", "p_"), ("study", "s_"), ("series", "e_")])
@given(text=st.text(min_size=1).filter(lambda text: text == text.strip()))
def test_a_pseudonym_is_an_hmac(kind: str, prefix: str, text: str) -> None:
    found = pseudonym(kind, text, key=KEY)
    assert found == prefix + hmac_sha256(KEY, f"{kind}/{text}".encode())[:16]
    assert is_pseudonym(found) and not is_pseudonym(text)
    assert pseudonym(kind, f" {text}\t ", key=KEY) == found != pseudonym(kind, text, key=KEY[::-1])


@pytest.mark.parametrize("text", ["", "p_", "p_0123456789abcde", "p_0123456789ABCDEF", "x_0123456789abcdef", "12345"])
def test_what_is_no_pseudonym(text: str) -> None:
    assert not is_pseudonym(text)
    assert not is_pseudonym(f"p_{'0' * 16}\n")


def test_offsets_are_of_the_patient_and_spread_over_ten_years() -> None:
    days = [day_offset(f"P{i}", key=KEY) for i in range(2000)]
    assert days == [day_offset(f" P{i} ", key=KEY) for i in range(2000)]
    assert min(days) >= 1 and max(days) <= 3650
    # 2000 draws of 3650: on average 1540 different ones, standard deviation below 20.
    assert len(set(days)) > 1400 and max(days) > 3600 and min(days) < 50


def test_a_new_uid_is_a_uuid_below_2_25() -> None:
    found = new_uid("1.2.3", key=KEY)
    assert found == new_uid(" 1.2.3 ", key=KEY) != new_uid("1.2.3", key=KEY[::-1])
    root, number = found.rsplit(".", 1)
    assert root == "2.25" and uuid.UUID(int=int(number)).version == 4 and len(found) <= 64
