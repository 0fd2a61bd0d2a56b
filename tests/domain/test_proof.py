"""Trees, canonical bytes and checkpoint text: what an auditor's own program must be able to recompute."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.proof.leaf import event_leaf, microseconds, organization_hash
from domain.proof.merkle import (
    EMPTY_ROOT,
    Node,
    ProofError,
    Range,
    blocks,
    check_consistency,
    consistency_spans,
    inclusion_spans,
    leaf_hash,
    root_of_inclusion,
    span_hash,
)
from domain.proof.note import Checkpoint, PublicKey, Signature, parse_key, parse_note, signed

VECTORS = json.loads((Path(__file__).parent / "proof_vectors.json").read_text())
# The inputs and roots that RFC 6962 implementations test themselves with.
KNOWN_LEAVES = [
    bytes.fromhex(x)
    for x in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
KNOWN_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha256(b"\x01" + naive(leaves[:k]) + naive(leaves[k:])).digest()


def grown(leaves: list[bytes]) -> tuple[Range, dict[Node, bytes]]:
    tree, nodes = Range(), dict[Node, bytes]()
    for number, leaf in enumerate(leaves):
        found = leaf_hash(leaf)
        nodes[0, number] = found
        nodes |= dict(tree.append(found))
    return tree, nodes


leaves_of = st.lists(st.binary(max_size=6), min_size=1, max_size=70)


def test_roots_are_those_of_the_standard() -> None:
    assert Range().root() == EMPTY_ROOT
    for count, root in enumerate(KNOWN_ROOTS, 1):
        assert grown(KNOWN_LEAVES[:count])[0].root().hex() == root


@given(leaves_of)
def test_a_growing_tree_has_the_root_of_the_definition_and_can_be_resumed(leaves: list[bytes]) -> None:
    tree, nodes = grown(leaves)
    assert tree.root() == naive(leaves)
    assert Range(tree.size, tree.peaks).root() == tree.root()
    assert tree.peaks == [nodes[node] for node in blocks(0, tree.size)]
    with pytest.raises(ProofError):
        Range(tree.size, [*tree.peaks, EMPTY_ROOT])


@given(leaves_of, st.data())
def test_a_path_leads_from_each_leaf_to_the_root_and_from_no_other(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    tree, nodes = grown(leaves)
    path = [span_hash(span, nodes.__getitem__) for span in inclusion_spans(index, tree.size)]
    assert root_of_inclusion(index, tree.size, nodes[0, index], path) == tree.root()
    assert root_of_inclusion(index, tree.size, leaf_hash(b"another leaf"), path) != tree.root()
    for wrong in (path[:-1], [*path, EMPTY_ROOT]):
        if wrong != path:
            with pytest.raises(ProofError, match="too"):
                root_of_inclusion(index, tree.size, nodes[0, index], wrong)


@given(leaves_of, st.data())
def test_a_tree_is_proven_the_beginning_of_a_later_one(leaves: list[bytes], data: st.DataObject) -> None:
    first = data.draw(st.integers(1, len(leaves)))
    tree, nodes = grown(leaves)
    path = [span_hash(span, nodes.__getitem__) for span in consistency_spans(first, tree.size)]
    check_consistency(first, naive(leaves[:first]), tree.size, tree.root(), path)
    forged = naive([*leaves[: first - 1], b"another leaf"])
    with pytest.raises(ProofError):
        check_consistency(first, forged, tree.size, tree.root(), path)
    if path:
        with pytest.raises(ProofError):
            check_consistency(first, naive(leaves[:first]), tree.size, tree.root(), path[:-1])


@settings(max_examples=200)
@given(st.integers(0, 5000), st.integers(0, 5000))
def test_blocks_are_aligned_and_cover_exactly(start: int, length: int) -> None:
    at = start
    for level, index in blocks(start, start + length):
        assert index << level == at
        at += 1 << level
    assert at == start + length


@given(leaves_of, st.data())
def test_leaves_that_are_not_shown_are_filled_by_their_blocks(leaves: list[bytes], data: st.DataObject) -> None:
    shown = data.draw(st.sets(st.integers(0, len(leaves) - 1)))
    tree, nodes = grown(leaves)
    again = Range()
    for index in sorted(shown):
        again.fill(index, [nodes[node] for node in blocks(again.size, index)])
        again.extend([nodes[0, index]])
    again.fill(len(leaves), [nodes[node] for node in blocks(again.size, len(leaves))])
    assert again.root() == tree.root()
    with pytest.raises(ProofError, match="need"):
        again.fill(again.size + 1, [])


def test_the_bytes_of_an_event_and_their_hash_are_fixed_for_ever() -> None:
    assert VECTORS["events"]
    for one in VECTORS["events"]:
        leaf = event_leaf(
            one["position"],
            UUID(one["org_id"]),
            UUID(one["stream_id"]),
            one["version"],
            one["type"],
            UUID(one["event_id"]),
            microseconds(datetime.fromisoformat(one["recorded_at"])),
            one["data"].encode(),
            one["meta"].encode(),
        )
        assert leaf.hex() == one["leaf"]
        assert leaf_hash(leaf).hex() == one["hash"]
    tree = Range()
    tree.extend(bytes.fromhex(one["hash"]) for one in VECTORS["events"])
    assert tree.root().hex() == VECTORS["root"]
    org = VECTORS["organization"]
    assert organization_hash(UUID(org["org_id"]), org["events"], bytes.fromhex(org["root"])).hex() == org["hash"]


def test_no_two_events_have_the_same_bytes_by_moving_a_border() -> None:
    ids = UUID(int=1), UUID(int=2)
    one = event_leaf(1, *ids, 1, "a.b.v1", UUID(int=3), 0, b'{"a":1}', b"{}")
    two = event_leaf(1, *ids, 1, "a.b.v1", UUID(int=3), 0, b'{"a":1}{', b"}")
    assert one != two


def test_microseconds_are_exact() -> None:
    assert microseconds(datetime(2026, 11, 25, 3, 40, 0, 123457, tzinfo=UTC)) == 1795578000123457
    assert microseconds(datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)) == -1


CHECKPOINT = Checkpoint(
    origin="crewkit/test",
    number=2,
    size=5,
    root=b"\x01" * 32,
    organizations=1,
    organizations_root=b"\x02" * 32,
    at=datetime(2026, 11, 25, 3, 40, tzinfo=UTC),
    previous=b"\x03" * 32,
)


def test_a_checkpoint_is_read_as_it_was_written() -> None:
    signature = Signature("crewkit/test", b"abcd", b"s" * 64)
    note = signed(CHECKPOINT.text(), [signature])
    assert parse_note(note) == (CHECKPOINT, [signature])
    assert note.startswith("crewkit/test\n5\n")


@pytest.mark.parametrize(
    "change",
    [
        lambda note: note.replace("\n5\n", "\n05\n"),
        lambda note: note.replace("\n5\n", "\n+5\n"),
        lambda note: note.replace("number 2", "number 2\nmore"),
        lambda note: note.replace("crewkit-time ", ""),
        lambda note: note.replace("\n\n", "\n"),
        lambda note: note.partition("\n\n")[0] + "\n\n",
        lambda note: note.replace("— ", "- "),
        lambda note: note.replace("-previous 0303", "-previous 03"),
    ],
)
def test_a_checkpoint_with_another_spelling_is_none(change: object) -> None:
    assert callable(change)
    note = signed(CHECKPOINT.text(), [Signature("crewkit/test", b"abcd", b"s" * 64)])
    assert change(note) != note
    with pytest.raises(ProofError):
        parse_note(change(note))


def test_a_public_key_is_one_line_and_knows_when_it_was_cut() -> None:
    key = PublicKey("crewkit/test", bytes(range(32)))
    assert parse_key(key.text()) == key
    assert key.fingerprint.startswith("sha256:")
    for wrong in (key.text()[:-8], key.text().replace("test", "best"), "nonsense", ""):
        with pytest.raises(ProofError):
            parse_key(wrong)
