import logging
import os
import signal
import threading

import pytest

from shapewright.engine.checkpoint import list_checkpoints, load_checkpoint, score_of
from shapewright.engine.run_dir import RunDir
from shapewright.engine.trainer import TrainConfig, Trainer
from shapewright.errors import TrainingDiverged, UserError

from .toy import ToyMethod


@pytest.fixture
def run(tmp_path):
    return RunDir.create(tmp_path / "run", {}, [])


def losses(run):
    return [(row["step"], row["loss"]) for row in run.read_metrics()]


def test_training_makes_the_steps_and_leaves_a_checkpoint(run):
    result = Trainer(ToyMethod(), run, TrainConfig(steps=25, log_every=10)).fit()
    assert result.step == 25
    assert [step for step, _ in losses(run)] == [1, 10, 20, 25]
    assert list_checkpoints(run) == [25]


def test_training_reduces_the_loss_of_the_toy(run):
    Trainer(ToyMethod(), run, TrainConfig(steps=200, log_every=1)).fit()
    values = [loss for _, loss in losses(run)]
    assert sum(values[-20:]) < 0.05 * sum(values[:20])


def test_a_finished_run_is_left_as_it_is(run):
    config = TrainConfig(steps=5, log_every=1)
    Trainer(ToyMethod(), run, config).fit()
    before = losses(run)
    assert Trainer(ToyMethod(), run, config).fit().step == 5
    assert losses(run) == before


def test_rows_after_the_checkpoint_are_computed_again(tmp_path):
    config = TrainConfig(steps=60, log_every=1, checkpoint_every_steps=20)
    straight = RunDir.create(tmp_path / "straight", {}, [])
    Trainer(ToyMethod(), straight, config).fit()

    def crash(trainer, moment, values):
        if trainer.step == 47:
            raise RuntimeError("crash")

    cut = RunDir.create(tmp_path / "cut", {}, [])
    with pytest.raises(RuntimeError):
        Trainer(ToyMethod(), cut, config, [crash]).fit()
    assert losses(cut)[-1][0] == 47
    Trainer(ToyMethod(seed=99), cut, config).fit()
    assert losses(cut) == losses(straight)


def test_moments_go_from_zero_to_the_end(run):
    moments = []
    Trainer(ToyMethod(), run, TrainConfig(steps=4), [lambda t, m, v: moments.append((m.step, m.progress))]).fit()
    assert moments == [(0, 0.0), (1, 0.25), (2, 0.5), (3, 0.75)]


def test_used_seconds_survive_a_resume(run):
    config = TrainConfig(minutes=0.4 / 60.0)
    first = Trainer(ToyMethod(), run, config).fit()
    assert 0.4 <= first.seconds < 2.0
    assert load_checkpoint(run)[2]["seconds"] >= 0.4
    again = Trainer(ToyMethod(), run, config).fit()
    assert again.step == first.step


def test_checkpoints_come_by_steps_and_by_seconds(run):
    Trainer(ToyMethod(), run, TrainConfig(steps=35, checkpoint_every_steps=10, keep_last=9)).fit()
    assert list_checkpoints(run) == [10, 20, 30, 35]


def test_checkpoints_come_by_seconds(run):
    config = TrainConfig(steps=3, checkpoint_every_seconds=0.0)
    Trainer(ToyMethod(), run, config).fit()
    assert list_checkpoints(run) == [1, 2, 3]


def test_a_callback_can_mark_the_best(run):
    def mark(trainer, moment, values):
        if trainer.step in (2, 4):
            trainer.save(score=10.0 - trainer.step)

    Trainer(ToyMethod(), run, TrainConfig(steps=30, checkpoint_every_steps=5, keep_last=1), [mark]).fit()
    assert list_checkpoints(run) == [2, 30]
    assert load_checkpoint(run, "best")[0] == 2


@pytest.mark.parametrize("cadence", [{"checkpoint_every_steps": 5}, {"checkpoint_every_seconds": 0.0}])
def test_a_due_checkpoint_leaves_what_a_callback_saved_at_its_step(run, cadence):
    def mark(trainer, moment, values):
        if trainer.step in (5, 10, 15):
            trainer.save(score=-abs(trainer.step - 10.0), kept=trainer.step == 5)

    Trainer(ToyMethod(), run, TrainConfig(steps=15, keep_last=1, **cadence), [mark]).fit()
    assert list_checkpoints(run) == [5, 10, 15]
    assert [score_of(run, step) for step in (5, 10, 15)] == [-5.0, 0.0, -5.0]
    assert load_checkpoint(run, "best")[0] == 10


def test_a_few_steps_that_are_not_finite_are_skipped_and_logged(run):
    Trainer(ToyMethod(bad_steps=range(3, 12)), run, TrainConfig(steps=20, log_every=1)).fit()
    log = (run.path / "log.txt").read_text()
    assert log.count("was not finite") == 9
    assert [loss for _, loss in losses(run)][3:12] == [None] * 9


def test_ten_steps_in_a_row_that_are_not_finite_stop_the_run(run):
    with pytest.raises(TrainingDiverged, match="10 steps in a row, up to step 13"):
        Trainer(ToyMethod(bad_steps=range(3, 99)), run, TrainConfig(steps=50)).fit()


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_ends_the_run_after_a_checkpoint(run, number, error):
    def stop(trainer, moment, values):
        if trainer.step == 7:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(error) as caught:
        Trainer(ToyMethod(), run, TrainConfig(steps=1000), [stop]).fit()
    if error is SystemExit:
        assert caught.value.code == 143
    assert list_checkpoints(run) == [7]
    assert signal.getsignal(number) is before


def test_training_works_beside_the_main_thread(run):
    thread = threading.Thread(target=Trainer(ToyMethod(), run, TrainConfig(steps=3)).fit)
    thread.start()
    thread.join()
    assert list_checkpoints(run) == [3]


def test_a_run_in_use_is_refused(run):
    with run.lock(), pytest.raises(UserError, match="in use"):
        Trainer(ToyMethod(), run, TrainConfig(steps=3)).fit()


def test_progress_is_reported_with_rate_and_time_left(run, caplog):
    with caplog.at_level(logging.INFO, "shapewright.progress"):
        Trainer(ToyMethod(), run, TrainConfig(steps=20, log_every=10)).fit()
    records = [record for record in caplog.records if record.name == "shapewright.progress"]
    assert [record.progress for record in records] == [0.05, 0.5, 1.0]
    assert "step 10" in records[1].getMessage()
    assert "steps/s  0:00 left" in records[1].getMessage()
