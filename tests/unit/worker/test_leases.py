"""Who takes and gives which partition: pure decisions, for any number of members and any history."""

from hypothesis import given
from hypothesis import strategies as st

from thorn_worker.log.leases import Lease, LeaseTiming, Member, is_alive, member_name, plan, shares

TIMING = LeaseTiming(ttl_s=6.0, boot_id="boot")


def test_the_worked_example_of_being_alive() -> None:
    def alive(beat_at: float, boot_id: str = "boot") -> bool:
        return is_alive(Member("m", boot_id, beat_at), 100.0, TIMING)

    assert alive(94.0)
    assert alive(100.0)
    assert not alive(93.9)
    assert not alive(100.1)
    assert not alive(100.0, "another boot")


def test_the_worked_example_of_shares() -> None:
    owned = {"a": 12, "b": 0, "c": 0, "d": 0, "e": 0}
    assert shares(owned, 12) == {"a": 3, "b": 3, "c": 2, "d": 2, "e": 2}


def test_names_are_unique_per_start() -> None:
    assert member_name("w").startswith("w/")
    assert member_name("w") != member_name("w")


owners = st.sampled_from(["a", "b", "c", "d", "gone", None])
leases_of = st.lists(owners, min_size=1, max_size=24).map(
    lambda names: [Lease(partition, owner, 1) for partition, owner in enumerate(names)]
)
members = st.sets(st.sampled_from(["a", "b", "c", "d"]), min_size=1)


@given(leases_of, members)
def test_shares_are_equal_within_one_and_cover_everything(leases: list[Lease], live: set[str]) -> None:
    owned = {member: sum(lease.owner == member for lease in leases) for member in live}
    given_out = shares(owned, len(leases))
    assert sum(given_out.values()) == len(leases)
    assert max(given_out.values()) - min(given_out.values()) <= 1


@given(leases_of, members)
def test_nobody_takes_what_a_live_member_holds_or_gives_what_it_has_not(
    leases: list[Lease], live: set[str]
) -> None:
    for me in live:
        chosen = plan(me, live, leases)
        for lease in leases:
            if lease.partition in chosen.take:
                assert lease.owner not in live
            if lease.partition in chosen.give:
                assert lease.owner == me
        assert not (chosen.take and chosen.give)


@given(leases_of, members, st.randoms())
def test_members_in_any_order_come_to_rest_balanced_with_every_partition_owned(
    leases: list[Lease], live: set[str], random: object
) -> None:
    state = {lease.partition: lease.owner for lease in leases}
    order = sorted(live)
    for _round in range(4):
        random.shuffle(order)  # type: ignore[attr-defined]
        for me in order:
            chosen = plan(me, live, [Lease(partition, owner, 1) for partition, owner in state.items()])
            state.update(dict.fromkeys(chosen.take, me))
            state.update(dict.fromkeys(chosen.give, None))
    sizes = [sum(owner == me for owner in state.values()) for me in live]
    assert sum(sizes) == len(state)
    assert max(sizes) - min(sizes) <= 1
    resting = [Lease(partition, owner, 1) for partition, owner in state.items()]
    assert all(plan(me, live, resting) == plan(me, live, []) for me in live)
