"""Training step, fit and decoding of ``deep_sdf`` against the published way to write them.

    python benchmarks/deep_sdf_step.py [--quick] [--threads 1] [--json FILE]

The reference is written plainly from the description of the published system (arXiv:1901.05103): the code is looked up
and concatenated for every point, weight normalisation is computed at every call, dropout is on in training, one Adam
moves decoder and the whole table of codes, and a fit computes gradients of all weights. First both sides make the same
step without dropout in 32 bits: their losses must agree to 1e-4.
"""

from __future__ import annotations

from timing import Row, measure, parse_arguments, report  # isort: skip - before torch is loaded
import warnings
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from shapewright.engine.device import half_precision
from shapewright.engine.schedule import Moment
from shapewright.methods.deep_sdf.method import DeepSdfMethod
from shapewright.methods.deep_sdf.model import Decoder, FoldedDecoder
from shapewright.methods.deep_sdf.samples import Batch
from shapewright.methods.deep_sdf.specs import paper_config

NUM_SHAPES = 8
BATCH_POINTS = 16_384
FIT_SAMPLES, FIT_ITERATIONS = 8000, 800
TIMED_ITERATIONS = 5
DECODED_POINTS = 65_536
CLAMP = 0.1
STEP_BAR, FIT_BAR, DECODE_BAR = 2.5, 3.0, 1.5
LOSS_TOLERANCE = 1e-4


class PlainDecoder(nn.Module):
    """The published decoder: 8 x 512, code and position again in layer 4, weight normalisation, dropout."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        sizes = [(259, 512), (512, 512), (512, 512), (512, 253), *[(512, 512)] * 4, (512, 1)]
        for index, (num_in, num_out) in enumerate(sizes):
            linear = nn.Linear(num_in, num_out)
            self.add_module(f"lin{index}", nn.utils.weight_norm(linear) if index < 8 else linear)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the distances for rows of code and position."""
        hidden = inputs
        for index in range(8):
            if index == 4:
                hidden = torch.cat([hidden, inputs], 1)
            hidden = torch.relu(self.get_submodule(f"lin{index}")(hidden))
            hidden = nn.functional.dropout(hidden, self.dropout, self.training)
        return torch.tanh(self.lin8(hidden))


class PlainTraining:
    """The published training step: one row a point."""

    def __init__(self, decoder: PlainDecoder, codes: Tensor, points: Tensor, sdf: Tensor) -> None:
        self.decoder = decoder
        self.codes = nn.Embedding(len(codes), codes.shape[1], max_norm=1.0, _weight=codes.clone())
        self.adam = torch.optim.Adam(
            [{"params": decoder.parameters(), "lr": 5e-4}, {"params": self.codes.parameters(), "lr": 1e-3}]
        )
        num_shapes, each = sdf.shape
        self.positions, self.sdf = points.reshape(-1, 3), sdf.reshape(-1, 1)
        self.rows = torch.arange(num_shapes).repeat_interleave(each)

    def step(self) -> float:
        """Make a step of the first epoch; return the loss."""
        self.decoder.train()
        self.adam.zero_grad()
        target = self.sdf.clamp(-CLAMP, CLAMP)
        codes = self.codes(self.rows)
        predicted = self.decoder(torch.cat([codes, self.positions], 1)).clamp(-CLAMP, CLAMP)
        loss = nn.functional.l1_loss(predicted, target, reduction="sum") / len(target)
        loss = loss + 1e-4 * min(1, 1 / 100) * codes.norm(dim=1).sum() / len(target)
        loss.backward()
        self.adam.step()
        return loss.item()


def plain_fit(decoder: PlainDecoder, points: Tensor, sdf: Tensor, iterations: int) -> Tensor:
    """Return the code after some iterations of the published fit; the rate drops by ten half-way."""
    decoder.eval()
    code = torch.zeros(1, 256).normal_(0, 0.01).requires_grad_()
    adam = torch.optim.Adam([code], lr=5e-3)
    outside, inside = (sdf > 0).nonzero()[:, 0], (sdf <= 0).nonzero()[:, 0]
    for iteration in range(iterations):
        adam.param_groups[0]["lr"] = 5e-3 * 0.1 ** (iteration // max(iterations // 2, 1))
        adam.zero_grad()
        half = FIT_SAMPLES // 2
        chosen = torch.cat([side[torch.randint(len(side), (half,))] for side in (outside, inside)])
        target = sdf[chosen, None].clamp(-CLAMP, CLAMP)
        inputs = torch.cat([code.expand(FIT_SAMPLES, -1), points[chosen]], 1)
        predicted = decoder(inputs).clamp(-CLAMP, CLAMP)
        loss = nn.functional.l1_loss(predicted, target) + 1e-4 * code.pow(2).mean()
        loss.backward()
        adam.step()
    return code.detach()


def our_fit(decoder: FoldedDecoder, points: Tensor, sdf: Tensor, iterations: int, dtype: torch.dtype) -> Tensor:
    """Return the code after some iterations of the same fit with the frozen decoder."""
    code = (0.01 * torch.randn(1, 256)).requires_grad_()
    adam = torch.optim.Adam([code], lr=5e-3)
    outside, inside = (sdf > 0).nonzero()[:, 0], (sdf <= 0).nonzero()[:, 0]
    for iteration in range(iterations):
        adam.param_groups[0]["lr"] = 5e-3 * 0.1 ** (iteration // max(iterations // 2, 1))
        adam.zero_grad(set_to_none=True)
        half = FIT_SAMPLES // 2
        chosen = torch.cat([side[torch.randint(len(side), (half,))] for side in (outside, inside)])
        predicted = decoder(points[chosen][None], code, dtype)[0]
        error = (predicted.clamp(-CLAMP, CLAMP) - sdf[chosen].clamp(-CLAMP, CLAMP)).abs()
        (error.mean() + 1e-4 * code.square().mean()).backward()
        adam.step()
    return code.detach()


class Jobs:
    """Both sides with the same weights, codes and samples of balls of several radii."""

    def __init__(self, each: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.points = 2 * torch.rand(NUM_SHAPES, each, 3, generator=generator) - 1
        radii = torch.linspace(0.4, 0.8, NUM_SHAPES)
        self.sdf = self.points.norm(dim=2) - radii[:, None]
        self.codes = torch.randn(NUM_SHAPES, 256, generator=generator) / 16
        self.state = Decoder(paper_config().network, generator).state_dict()
        self.batch = Batch(torch.arange(NUM_SHAPES), self.points, self.sdf)

    def ours(self, precision: Literal["fp32", "bf16"], dropout: bool = False) -> DeepSdfMethod:
        """Return our training with the published settings, but for precision and dropout; it is handed its batches."""
        paper = paper_config()
        network = paper.network if dropout else replace(paper.network, dropout_layers=())
        config = replace(paper, network=network, optim=replace(paper.optim, precision=precision))
        method = DeepSdfMethod(config, None, NUM_SHAPES, torch.device("cpu"))
        method.decoder.load_state_dict(self.state)
        method.table.codes = self.codes.clone()
        return method

    def plain_decoder(self, dropout: float) -> PlainDecoder:
        """Return the plain decoder with the same weights."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            decoder = PlainDecoder(dropout)
        decoder.load_state_dict(self.state)
        return decoder

    def plain(self, dropout: float) -> PlainTraining:
        """Return the plain training."""
        return PlainTraining(self.plain_decoder(dropout), self.codes, self.points, self.sdf)

    def step(self, method: DeepSdfMethod) -> float:
        """Make one of our steps; return the loss."""
        return float(method.train_step(self.batch, Moment(0, 0.0))["loss"])


def check_losses(jobs: Jobs, steps: int) -> None:
    """Compare the losses of some steps of both sides without dropout in 32 bits.

    Raises:
        SystemExit: if they differ by more than the tolerance.
    """
    ours, plain = jobs.ours("fp32"), jobs.plain(dropout=0.0)
    pairs = [(jobs.step(ours), plain.step()) for _ in range(steps)]
    worst = max(abs(a - b) for a, b in pairs)
    print("losses of the first steps, dropout off, fp32 on both sides (ours, reference):")
    print(", ".join(f"{a:.6f} {b:.6f}" for a, b in pairs), f"- largest difference {worst:.1e}")
    if not worst <= LOSS_TOLERANCE:
        raise SystemExit(f"The losses differ by more than {LOSS_TOLERANCE}.")


def training_rows(jobs: Jobs, repeats: int, half: Literal["fp32", "bf16"]) -> list[Row]:
    """Return the rows of a training step."""
    size = f"8x512, code 256, {jobs.sdf.numel()} points"
    plain = jobs.plain(dropout=0.2)
    sides = {
        f"training step, {half}, no dropout": (jobs.ours(half), STEP_BAR),
        "training step, fp32, no dropout": (jobs.ours("fp32"), 0.0),
        f"training step, {half}, dropout as published": (jobs.ours(half, dropout=True), 0.0),
    }
    return [
        measure(name, size, lambda method=method: jobs.step(method), plain.step, repeats, bar)
        for name, (method, bar) in sides.items()
    ]


def fit_row(jobs: Jobs, repeats: int, dtype: torch.dtype) -> Row:
    """Return the row of a fit, scaled from a few iterations to all of them."""
    points, sdf = jobs.points.reshape(-1, 3), jobs.sdf.reshape(-1)
    folded, plain = jobs.ours("fp32").decoder.fold(), jobs.plain_decoder(0.2)
    row = measure(
        "fit of a code",
        f"{FIT_ITERATIONS} x {FIT_SAMPLES} points (from {TIMED_ITERATIONS})",
        lambda: our_fit(folded, points, sdf, TIMED_ITERATIONS, dtype),
        lambda: plain_fit(plain, points, sdf, TIMED_ITERATIONS),
        repeats,
        FIT_BAR,
    )
    scale = FIT_ITERATIONS / TIMED_ITERATIONS
    return replace(row, ours_cpu_s=scale * row.ours_cpu_s, reference_cpu_s=scale * row.reference_cpu_s)


def decode_row(jobs: Jobs, num_points: int, repeats: int) -> Row:
    """Return the row of decoding points of one shape in 32 bits, as meshes are drawn."""
    points = 2 * torch.rand(num_points, 3, generator=torch.Generator().manual_seed(1)) - 1
    folded, plain, code = jobs.ours("fp32").decoder.fold(), jobs.plain_decoder(0.2).eval(), jobs.codes[0]

    @torch.no_grad()
    def decode_plain() -> Tensor:
        return plain(torch.cat([code.expand(num_points, -1), points], 1))[:, 0]

    difference = float((folded.sdf(points, code) - decode_plain()).abs().max())
    print(f"largest difference of decoded distances: {difference:.1e}")
    return measure(
        "decode", f"{num_points} points", lambda: folded.sdf(points, code), decode_plain, repeats, DECODE_BAR
    )


def main() -> None:
    """Check the losses, time both sides, print the table and write the rows."""
    options = parse_arguments(__doc__ or "")
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    jobs = Jobs((BATCH_POINTS // 4 if options.quick else BATCH_POINTS) // NUM_SHAPES)
    dtype = half_precision("auto", torch.device("cpu"))
    half: Literal["fp32", "bf16"] = "bf16" if dtype == torch.bfloat16 else "fp32"
    repeats = 1 if options.quick else 3
    rows: list[Row] = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        check_losses(jobs, 2 if options.quick else 3)
        rows += training_rows(jobs, repeats, half)
        rows.append(fit_row(jobs, repeats, dtype))
        rows.append(decode_row(jobs, DECODED_POINTS // 4 if options.quick else DECODED_POINTS, repeats))
    report(rows, options.json)


if __name__ == "__main__":
    main()
