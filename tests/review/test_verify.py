"""The hash chain: whoever changes the database behind medtl's back is found."""

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest

from medtl.errors import ReviewError
from medtl.review import cases
from medtl.review.chain import GENESIS, row_hash
from medtl.review.schema import VERDICTS
from medtl.review.store import ReviewStore
from medtl.review.verify import Head, verify_reviews
from tests.review.making import A, read, scan

FORBID = ("verdicts_no_update", "verdicts_no_delete")


@pytest.fixture
def five(where: str) -> str:
    """A store with five verdicts."""
    store = ReviewStore(where)
    for number in cases.add(store, [scan(f"s{i}") for i in range(5)]):
        read(store, number, A, note=f"note {number}", seconds=0.1 + 0.2)
    store.close()
    return where


def tamper(where: str, *statements: str) -> None:
    """Change the database as somebody with its password would, past the triggers."""
    store = ReviewStore(where)
    with store.transaction() as connection:
        if store.path is None:
            connection.exec_driver_sql("ALTER TABLE verdicts DISABLE TRIGGER ALL")
        else:
            for name in FORBID:
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.exec_driver_sql(statement)
    store.close()


def test_an_untouched_chain_is_whole(five: str) -> None:
    head = verify_reviews(five)
    assert head.count == 5
    assert verify_reviews(five, head=str(head)) == head


def test_the_hash_is_what_its_definition_says(five: str) -> None:
    """Another implementation, from the documented format alone."""
    store = ReviewStore(five)
    with store.reading() as connection:
        rows = connection.execute(VERDICTS.select().order_by(VERDICTS.c.id)).mappings().all()
    previous = "0" * 64
    for row in rows:
        content = {name: value for name, value in row.items() if name != "hash"}
        assert content["prev_hash"] == previous
        parts = [f'"{name}":{json.dumps(content[name])}' for name in sorted(content)]
        previous = hashlib.sha256(("{" + ",".join(parts) + "}").encode("ascii")).hexdigest()
        assert row["hash"] == previous
    store.close()


def test_the_format_stays() -> None:
    """A row hashed by this version must be verified by later ones."""
    row = dict.fromkeys(
        ("id", "case_id", "relabel", "region", "seconds", "supersedes"), None
    ) | dict.fromkeys(
        ("scan_id", "sha256", "bundle_id", "finding", "decision", "verdict", "note", "reader", "role", "token"), "é"
    )  # fmt: skip
    row |= {"probability": 0.1, "threshold": 0.5, "bad_image": False, "verdict_first": True, "adjudicates": False}
    row |= {"created_at": "2026-11-25T15:30:55.123+00:00", "prev_hash": GENESIS}
    text = (
        r'{"adjudicates":false,"bad_image":false,"bundle_id":"\u00e9","case_id":null,'
        r'"created_at":"2026-11-25T15:30:55.123+00:00","decision":"\u00e9","finding":"\u00e9","id":null,'
        r'"note":"\u00e9","prev_hash":"' + "0" * 64 + r'","probability":0.1,"reader":"\u00e9","region":null,'
        r'"relabel":null,"role":"\u00e9","scan_id":"\u00e9","seconds":null,"sha256":"\u00e9","supersedes":null,'
        r'"threshold":0.5,"token":"\u00e9","verdict":"\u00e9","verdict_first":true}'
    )
    assert row_hash(row) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE verdicts SET verdict = 'disagree' WHERE id = 3", "verdict 3 (case 3, pneumonia, Dr A) was changed"),
        ("UPDATE verdicts SET note = 'x' WHERE id = 5", "verdict 5 (case 5, pneumonia, Dr A) was changed"),
        ("UPDATE verdicts SET seconds = 0.3 WHERE id = 1", "verdict 1 (case 1, pneumonia, Dr A) was changed"),
        ("UPDATE verdicts SET hash = prev_hash WHERE id = 2", "verdict 2 (case 2, pneumonia, Dr A) was changed"),
        ("DELETE FROM verdicts WHERE id = 1", "verdict 2 does not follow the one before it: a verdict was deleted"),
        ("DELETE FROM verdicts WHERE id = 4", "verdict 5 does not follow the one before it: a verdict was deleted"),
        ("DELETE FROM verdicts WHERE id = 5", "the chain ends at 4:"),
        ("DELETE FROM verdicts", "the chain ends at 0:0000"),
        ("UPDATE head SET count = 6", "the store's own note of its head says 6:"),
        ("DELETE FROM head", "the store's own note of its head says nothing"),
    ],
)
def test_a_change_is_found(five: str, statement: str, message: str) -> None:
    tamper(five, statement)
    with pytest.raises(ReviewError) as caught:
        verify_reviews(five)
    assert message in str(caught.value)
    assert "Compare with a backup (medtl reviews backup)" in str(caught.value)


def test_two_verdicts_that_changed_places_are_found(five: str) -> None:
    tamper(
        five,
        "UPDATE verdicts SET id = 99 WHERE id = 2",
        "UPDATE verdicts SET id = 2 WHERE id = 3",
        "UPDATE verdicts SET id = 3 WHERE id = 99",
    )
    with pytest.raises(ReviewError, match="verdict 2 does not follow the one before it"):
        verify_reviews(five)


def test_an_inserted_verdict_is_found(five: str) -> None:
    columns = ", ".join(column.name for column in VERDICTS.columns if column.name not in ("id", "token"))
    tamper(
        five, f"INSERT INTO verdicts (id, token, {columns}) SELECT 6, 'forged', {columns} FROM verdicts WHERE id = 5"
    )
    with pytest.raises(ReviewError, match="verdict 6 does not follow the one before it: a verdict was"):
        verify_reviews(five)


def test_a_chain_computed_anew_is_found_by_a_noted_head_only(five: str) -> None:
    """What the chain cannot find by itself, and what a head that was written down elsewhere is for."""
    noted = str(verify_reviews(five))
    store = ReviewStore(five)
    with store.reading() as connection:
        rows = [dict(row) for row in connection.execute(VERDICTS.select().order_by(VERDICTS.c.id)).mappings()]
    store.close()
    rows[2]["verdict"], previous, changes = "disagree", GENESIS, []
    for row in rows:
        row["prev_hash"] = previous
        previous = row_hash(row)
        changes.append(
            f"UPDATE verdicts SET verdict = '{row['verdict']}', prev_hash = '{row['prev_hash']}', hash = '{previous}' "
            f"WHERE id = {row['id']}"
        )
    tamper(five, *changes, f"UPDATE head SET hash = '{previous}'")
    assert verify_reviews(five).count == 5, "nothing inside the database shows it"
    with pytest.raises(ReviewError, match=f"the chain does not pass through {noted}, as it did when that was noted"):
        verify_reviews(five, head=noted)


def test_a_cut_chain_with_its_head_is_found_by_a_noted_head(five: str) -> None:
    noted = str(verify_reviews(five))
    tamper(
        five,
        "UPDATE head SET count = 4, hash = (SELECT hash FROM verdicts WHERE id = 4)",
        "DELETE FROM verdicts WHERE id = 5",
    )
    assert verify_reviews(five).count == 4
    with pytest.raises(ReviewError, match=r"it ends at 4:"):
        verify_reviews(five, head=noted)


@pytest.mark.parametrize("change", ["UPDATE verdicts SET verdict = 'disagree'", "DELETE FROM verdicts"])
def test_the_database_itself_refuses_changes(five: str, change: str) -> None:
    store = ReviewStore(five)
    with pytest.raises(ReviewError, match="verdicts are append-only"), store.transaction() as connection:
        connection.exec_driver_sql(change)
    assert verify_reviews(five).count == 5
    store.close()


def test_a_value_of_another_kind_is_found(tmp_path: Path, made: Path) -> None:
    path = tmp_path / "r.db"
    path.write_bytes(made.read_bytes())
    store = ReviewStore(path)
    read(store, cases.add(store, [scan("s1")])[0], A)
    store.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("DROP TRIGGER verdicts_no_update")
    connection.execute("UPDATE verdicts SET note = x'00ff'")
    connection.close()
    with pytest.raises(ReviewError, match=r"verdict 1 .* was changed after it was stored"):
        verify_reviews(path)


def test_a_head_is_read_as_it_is_printed(five: str) -> None:
    assert str(Head(3, "a" * 64)) == "3:" + "a" * 64
    with pytest.raises(ReviewError, match="--head 5: expected COUNT:HASH, as medtl reviews verify prints it"):
        verify_reviews(five, head="5")
    with pytest.raises(ReviewError, match="no such file"):
        verify_reviews(five + ".none" if "://" not in five else "none.db")
