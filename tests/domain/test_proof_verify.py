"""An export holds, and nothing in it can be changed, removed, reordered or inserted: whoever tries is found out."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from domain.proof.lines import End, Head, Line, Shown
from domain.proof.note import parse_note
from domain.proof.verify import Report, compare, verify
from eventstore.proof import Signer, is_signed_by
from tests.domain.proof_files import OURS, SIGNER, World, event, written

OWNERS = [10, 10, 11, 10, 12, 12, 11, 12, 12, 10, 10, 13, 11, 10, 13, 13, 13, 12]
WORLD = World(OWNERS, [3, 7, 8, 16, 18])
LINES = WORLD.export()
SHOWN = [n for n, line in enumerate(LINES) if isinstance(line, Shown)]


def checked(lines: list[Line] | list[bytes], trusted: tuple[str, ...] = (), watch: tuple[int, ...] = ()) -> Report:
    raw = [line if isinstance(line, bytes) else written([line])[0] for line in lines]
    return verify(raw, is_signed_by, trusted=trusted, watch=watch)


worlds = st.lists(st.integers(10, 13), min_size=1, max_size=40).flatmap(
    lambda owners: st.builds(
        World,
        st.just([10, *owners]),
        st.sets(st.integers(1, len(owners) + 1), min_size=1, max_size=6).map(sorted),
    )
)


@settings(max_examples=60)
@given(worlds, st.data())
def test_an_honest_export_holds(world: World, data: st.DataObject) -> None:
    last = world.checkpoints[-1]
    mine = sum(org == OURS for org in world.orgs[: last.size])
    report = checked(world.export())
    assert report.problems == []
    assert (report.events, report.events_before, report.organization_id) == (mine, 0, OURS)
    after = data.draw(st.integers(1, last.number))
    numbers = {after, last.number} | data.draw(st.sets(st.integers(1, last.number)))
    part = checked(world.export(after=after, numbers=sorted(numbers)), (SIGNER.public.fingerprint,))
    assert part.problems == []
    assert part.pinned
    assert part.events_before + part.events == mine
    assert part.organization_root == report.organization_root


@settings(max_examples=400)
@given(st.data())
def test_no_byte_of_it_can_be_changed(data: st.DataObject) -> None:
    raw = written(LINES)
    number = data.draw(st.integers(0, len(raw) - 1))
    place = data.draw(st.integers(0, len(raw[number]) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != raw[number][place]))
    raw[number] = raw[number][:place] + bytes([other]) + raw[number][place + 1 :]
    assert not checked(raw).ok


@settings(max_examples=200)
@given(st.data())
def test_no_line_can_be_removed_doubled_or_moved(data: st.DataObject) -> None:
    raw = written(LINES)
    number = data.draw(st.integers(0, len(raw) - 1))
    how = data.draw(st.sampled_from(["remove", "double", "move", "cut"]))
    if how == "remove":
        del raw[number]
    elif how == "double":
        raw.insert(data.draw(st.integers(0, len(raw))), raw[number])
    elif how == "cut":
        del raw[number:]
    else:
        line = raw.pop(number)
        raw.insert(data.draw(st.integers(0, len(raw))), line)
        assume(raw != written(LINES))
    assert not checked(raw).ok


@settings(max_examples=100)
@given(
    st.sampled_from(SHOWN), st.sampled_from(["data", "meta", "type", "stream", "version", "event_id", "recorded_at"])
)
def test_a_changed_event_is_named(number: int, field: str) -> None:
    lines = list(LINES)
    one = lines[number]
    assert isinstance(one, Shown)
    other = event(one.position + 1000, OURS)
    lines[number] = msgspec.structs.replace(one, **{field: getattr(other, field) if field != "type" else "other.v1"})
    assume(lines[number] != one)
    report = checked(lines)
    assert [(problem.line, problem.position) for problem in report.problems] == [(number + 1, one.position)]


@given(st.sampled_from(SHOWN))
def test_a_change_that_takes_its_hash_along_is_found_by_the_roots(number: int) -> None:
    lines = list(LINES)
    one = lines[number]
    assert isinstance(one, Shown)
    lines[number] = event(one.position, OURS, "forged")
    assert not checked(lines).ok


@given(st.sampled_from(SHOWN))
def test_an_event_cannot_be_hidden_among_those_of_others(number: int) -> None:
    """The log's own tree is still right: only the organization's count and root give it away."""
    one = LINES[number]
    assert isinstance(one, Shown)
    hidden = World(OWNERS, [mark.size for mark in WORLD.checkpoints])
    hidden.orgs[one.position - 1] = UUID(int=99)
    *lines, end = hidden.export()
    assert len(lines) < len(LINES)
    fewer = msgspec.structs.replace(LINES[-1], events=len(SHOWN) - 1)
    assert "are here" in checked([*lines, LINES[-1]]).problems[0].message
    assert "this organization" in checked([*lines, fewer]).problems[0].message
    assert not checked([*lines, end]).ok  # the tree of organizations that would fit was never signed


def test_the_last_event_cannot_be_left_out_with_the_tail() -> None:
    """Told up to an older checkpoint an export is honest about its age: its last checkpoint is an older one."""
    older = World(OWNERS, [3, 7]).export()
    report = checked(older)
    assert report.ok
    assert report.checkpoints[-1].number == 2
    mixed = [LINES[0], *older[1:]]
    assert not checked(mixed).ok


def test_an_inserted_event_is_found() -> None:
    forged = event(19, OURS)
    assert not checked([*LINES[:-1], forged, LINES[-1]]).ok
    end = LINES[-1]
    assert isinstance(end, End)
    assert not checked([*LINES[:-1], forged, msgspec.structs.replace(end, events=end.events + 1)]).ok


def test_another_organizations_proof_does_not_fit() -> None:
    theirs = WORLD.export(org=WORLD.orgs[2])
    assert checked(theirs).ok
    assert not checked([*LINES[:-1], theirs[-1]]).ok
    assert not checked([theirs[0], *LINES[1:]]).ok


def test_a_checkpoint_signed_by_somebody_else_is_refused() -> None:
    other = Signer(b"x" * 32, SIGNER.public.name)
    forged = World(OWNERS, [3, 18], changed=4, signer=other).export()
    alone = checked(forged)
    assert alone.ok  # it vouches for itself, with a key of its own …
    assert not alone.pinned
    assert not checked(forged, (SIGNER.public.fingerprint,)).ok  # … which is not the one we know
    head = forged[0]
    assert isinstance(head, Head)
    mixed = msgspec.structs.replace(head, keys=[SIGNER.public.text()])
    assert not checked([mixed, *forged[1:]]).ok
    both = msgspec.structs.replace(head, keys=sorted([SIGNER.public.text(), other.public.text()]))
    assert not checked([both, *forged[1:]]).ok


def test_a_checkpoint_that_does_not_name_the_one_before_is_refused() -> None:
    head = LINES[0]
    assert isinstance(head, Head)
    second = parse_note(head.checkpoints[1])[0]
    forged = SIGNER.note(msgspec.structs.replace(second, previous=b"\x00" * 32).text())
    notes = [head.checkpoints[0], forged, *head.checkpoints[2:]]
    report = checked([msgspec.structs.replace(head, checkpoints=notes), *LINES[1:]])
    assert "names another checkpoint" in report.problems[0].message


@pytest.mark.parametrize("raw", [[], [b""], [b"\n"], [b"{}\n"], [b"\xff\xfe"], [b"[" * 100_000], written(LINES)[1:2]])
def test_what_is_no_export_is_told_so(raw: list[bytes]) -> None:
    assert not checked(raw).ok


def older_and_newer(older: World, newer: World, **options: object) -> tuple[Report, Report]:
    old = checked(older.export())
    new = checked(newer.export(**options), watch=(old.events,))  # type: ignore[arg-type]
    assert old.ok
    assert new.ok
    return old, new


@settings(max_examples=60)
@given(worlds, st.data())
def test_a_later_export_continues_an_earlier_one(world: World, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(world.checkpoints)))
    sizes = [one.size for one in world.checkpoints]
    older = World([org.int for org in world.orgs], sizes[:cut])
    found = compare(*older_and_newer(older, world))
    assert (found.comparable, found.problems, found.log_shown) == (True, [], True)
    last = world.checkpoints[-1].number
    part = compare(*older_and_newer(older, world, numbers=[last]))
    assert (part.problems, part.log_shown) == ([], cut == last)


def test_a_history_that_was_rewritten_between_two_exports_is_found() -> None:
    """Each export holds by itself: the operator signed two histories.  Side by side they give it away."""
    older = World(OWNERS, [7, 16])
    found = compare(*older_and_newer(older, World(OWNERS, [7, 16, 18], changed=4)))
    assert len(found.problems) == 3  # two checkpoints under one number, and the organization's events
    quiet = compare(*older_and_newer(older, World(OWNERS, [7, 16, 18], changed=4), numbers=[3]))
    assert [problem.message for problem in quiet.problems] == ["the first 6 events are not those of the older export"]


def test_events_that_were_dropped_between_two_exports_are_found() -> None:
    older = World(OWNERS, [18])
    found = compare(*older_and_newer(older, World([10, 11, 12, 12], [2, 4])))
    assert any("fewer" in problem.message for problem in found.problems)


def test_exports_that_say_nothing_about_each_other_are_told_apart() -> None:
    older = World(OWNERS, [7, 16])
    old = checked(older.export())
    theirs = checked(WORLD.export(org=WORLD.orgs[2]))
    assert not compare(old, theirs).comparable
    assert not compare(checked(LINES), old).comparable  # the wrong way round
    late = checked(World(OWNERS, [7, 16, 18]).export(after=3))
    assert not compare(checked(older.export(numbers=[1])), late).comparable
