import pytest

from shapewright.engine.schedule import TrainConfig


def test_progress_is_the_share_of_steps():
    config = TrainConfig(steps=200)
    assert [config.progress(step, 1e9) for step in (0, 50, 200, 300)] == [0.0, 0.25, 1.0, 1.0]


def test_progress_is_the_share_of_minutes():
    config = TrainConfig(minutes=2.0)
    assert [config.progress(10**9, seconds) for seconds in (0.0, 30.0, 120.0, 500.0)] == [0.0, 0.25, 1.0, 1.0]


def test_with_both_limits_the_first_counts():
    config = TrainConfig(steps=100, minutes=1.0)
    assert config.progress(50, 6.0) == 0.5
    assert config.progress(5, 30.0) == 0.5


def test_no_minutes_are_over_at_once():
    assert TrainConfig(minutes=0.0).progress(0, 0.0) == 1.0


@pytest.mark.parametrize(
    "wrong", [{}, {"steps": 0}, {"minutes": -1.0}, {"minutes": float("nan")}, {"steps": 1, "log_every": 0}]
)
def test_runs_without_end_or_rhythm_are_refused(wrong):
    with pytest.raises(ValueError, match=r"steps|minutes|log_every"):
        TrainConfig(**wrong)
