from benchmarks.rank_speed import measured


def test_a_ranking_in_shards_is_that_of_one_shard_and_of_a_full_sort() -> None:
    found = measured(30_000)
    assert found["rank_exact"] is True
    assert found["rank_peak_gib"] > 0
    assert found["rank_1e8_seconds"] is None, "a figure of fewer slices"
