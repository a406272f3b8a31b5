from lucid_storage.errors import AccessDeniedError
from lucid_storage.stores.redis.tally import NO_KEY, NO_TTL, RecentKeys, Tally
from lucid_storage.stores.redis.types import KeySpace

SPACE = KeySpace("k:{id}", ttl_seconds=60, enforce=True)


def names(begin: int, end: int) -> list[bytes]:
    return [b"k:%d" % number for number in range(begin, end)]


def test_a_key_seen_twice_is_counted_once_while_it_is_remembered() -> None:
    recent = RecentKeys(size=100)
    assert recent.unseen(names(0, 100)) == names(0, 100)
    assert recent.unseen([*names(0, 100), b"k:100", b"k:100"]) == [b"k:100"]


def test_remembered_keys_take_bounded_memory() -> None:
    recent = RecentKeys(size=100)
    for begin in range(0, 10_000, 50):
        recent.unseen(names(begin, begin + 50))
    assert len(recent._young) + len(recent._old) <= 200
    assert recent.unseen(names(9_900, 10_000)) == []


def test_a_tally_counts_missing_and_too_long_ttls_and_no_key_that_is_gone() -> None:
    tally = Tally(SPACE, sample=0)
    assert [tally.add_key(ttl) for ttl in (NO_TTL, NO_KEY, 60, 61, 1)] == [True, False, False, False, False]
    report = tally.report()
    assert (report.keys, report.without_ttl, report.over_ttl) == (4, 1, 1)


def test_after_a_refusal_no_further_ttl_is_set_but_counting_goes_on() -> None:
    tally = Tally(SPACE, sample=0, refused=AccessDeniedError("no"))
    assert not tally.add_key(NO_TTL)
    assert tally.report().without_ttl == 1


def test_the_sample_has_the_wanted_size_and_is_drawn_from_the_whole_walk() -> None:
    tally = Tally(SPACE, sample=50)
    asked = 0
    for number in range(10_000):
        if tally.draw():
            asked += 1
            tally.add_size(1 if number < 5_000 else 2)
    report = tally.report()
    assert report.sampled_keys == 50
    assert asked < 1_000
    # 25 of 50 are expected from the later half; fewer than 5 has a probability below 1e-9
    assert 55 <= report.sampled_bytes <= 95
