"""All settings of ``deep_sdf``; ``specs.py`` maps them to the keys of the original's ``specs.json``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from shapewright.checks import check_range
from shapewright.engine.schedule import TrainConfig


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Describe the decoder (DeepSDF, arXiv:1901.05103, section 4 and supplementary material).

    Attributes:
        code_length: Numbers in the code of a shape.
        widths: Outputs of each hidden layer.
        latent_in: Layers that get the code and the position again.
        keep_width: The layer before one of ``latent_in`` keeps its width; the original narrows it by what joins there.
        xyz_in_all: All layers but the first get the position again.
        norm_layers: Layers with weight or layer normalisation.
        weight_norm: Normalise the weights of ``norm_layers`` instead of their outputs.
        dropout_layers: Hidden layers followed by dropout.
        dropout: Share of their outputs that training sets to zero.
        latent_dropout: Training sets a fifth of the code's numbers to zero where it first enters.
        use_tanh: A second hyperbolic tangent at the end, as the original has it.
        init: ``default`` of the linear layers, or ``geometric``: the untrained field is that of a sphere.
        encoding: ``none``, or ``fourier``: sines and cosines of the position beside it.
        octaves: Frequencies of the encoding.
        lowest_frequency: The first of them, in radians per unit; each next one is twice as high.
    """

    code_length: int = 32
    widths: tuple[int, ...] = (128, 128, 128, 128, 128, 128)
    latent_in: tuple[int, ...] = (3,)
    keep_width: bool = False
    xyz_in_all: bool = False
    norm_layers: tuple[int, ...] = ()
    weight_norm: bool = False
    dropout_layers: tuple[int, ...] = ()
    dropout: float = 0.0
    latent_dropout: bool = False
    use_tanh: bool = False
    init: Literal["default", "geometric"] = "geometric"
    encoding: Literal["none", "fourier"] = "none"
    octaves: int = 4
    lowest_frequency: float = 1.5707963267948966

    def __post_init__(self) -> None:
        """Check counts, shares and the numbers of layers."""
        check_range("code_length", self.code_length, 0)
        check_range("dropout", self.dropout, 0.0, 1.0)
        check_range("octaves", self.octaves, 1)
        for width in self.widths:
            check_range("a width", width, 1)
        if not self.widths:
            raise ValueError("The decoder needs at least one hidden layer.")
        for name, lowest in (("norm_layers", 0), ("dropout_layers", 0), ("latent_in", 1)):
            for layer in getattr(self, name):
                check_range(f"a layer of {name}", layer, lowest, len(self.widths))


@dataclass(frozen=True, kw_only=True)
class RateConfig:
    """Describe a learning rate over training.

    Attributes:
        kind: ``step`` multiplies it by ``factor`` every ``interval`` epochs, ``warmup`` goes linearly to ``final`` over
            ``length`` epochs, ``constant`` stays, ``cosine`` falls to ``final`` with the run's progress.
        initial: The rate at the start.
        final: The rate at the end, of ``warmup`` and ``cosine``.
        interval: Epochs between two steps.
        factor: What a step multiplies by.
        length: Epochs of the warm-up.
    """

    kind: Literal["step", "warmup", "constant", "cosine"] = "cosine"
    initial: float = 1e-3
    final: float = 0.0
    interval: int = 500
    factor: float = 0.5
    length: int = 100

    def __post_init__(self) -> None:
        """Check that rates and counts are possible."""
        check_range("initial", self.initial, 0.0)
        check_range("final", self.final, 0.0)
        check_range("interval", self.interval, 1)
        check_range("length", self.length, 1)


@dataclass(frozen=True, kw_only=True)
class CodeConfig:
    """Describe the table of codes.

    Attributes:
        bound: Longest code; a longer one is shortened to it before use; none: no limit.
        init_std: Expected length of a code at the start (divided by the root of the code's length for each number).
        penalty: Weight of the codes' mean length in the loss.
        penalty_ramp: Epochs over which the penalty sets in.
        penalty_kind: ``norm`` is the published mean length, ``square`` the mean square (Curriculum DeepSDF).
        on_sphere: Move every code of a batch to the length ``bound`` after each step (Curriculum DeepSDF).
    """

    bound: float | None = 1.0
    init_std: float = 1.0
    penalty: float = 1e-4
    penalty_ramp: int = 100
    penalty_kind: Literal["norm", "square"] = "norm"
    on_sphere: bool = False

    def __post_init__(self) -> None:
        """Check lengths and weights."""
        if self.bound is not None and not self.bound > 0:
            raise ValueError(f"bound must be positive, got {self.bound}.")
        for name in ("init_std", "penalty", "penalty_ramp"):
            check_range(name, getattr(self, name), 0)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Describe the loss.

    Attributes:
        kind: ``l1`` of clamped distances (DeepSDF, eq. 4), ``curriculum`` (Curriculum DeepSDF, arXiv:2003.08593),
            ``sal`` (arXiv:1911.10414: unsigned distances, sign left to the network), ``igr``: ``l1`` without clamps.
        clamp: Distances beyond this count as this.
        target_only_share: Share of the run in which only the target is clamped, so that a field that starts far away
            still gets a gradient.
        eikonal: Weight of ``(|grad f| - 1)^2`` at the samples (IGR, arXiv:2002.10099, eq. 2); thrice the time.
        off_surface: Weight of ``exp(-100 |f|)`` at samples beyond the clamp: keeps surfaces from where there are none.
        grow: Layers from the sixth on join one after another, as in Curriculum DeepSDF, each over 200 epochs.
    """

    kind: Literal["l1", "curriculum", "sal", "igr"] = "l1"
    clamp: float = 0.1
    target_only_share: float = 0.1
    eikonal: float = 0.0
    off_surface: float = 0.0
    grow: bool = False

    def __post_init__(self) -> None:
        """Check that there is something between the clamps."""
        if not self.clamp > 0:
            raise ValueError(f"clamp must be positive, got {self.clamp}.")
        check_range("target_only_share", self.target_only_share, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Describe the optimizer.

    Attributes:
        decoder_rate: Learning rate of the decoder.
        code_rate: Learning rate of the codes.
        gradient_clip: Largest norm of the decoder's gradient; none: no limit.
        batch_split: Parts in which a batch is computed, to save memory.
        precision: ``bf16`` multiplies the hidden layers in 16 bits; ``auto`` does so where the processor has it.
        row_wise: Only the codes of a batch move; the original also moves the others by their momentum.
    """

    decoder_rate: RateConfig = field(default_factory=RateConfig)
    code_rate: RateConfig = field(default_factory=lambda: RateConfig(initial=2e-3))
    gradient_clip: float | None = None
    batch_split: int = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    row_wise: bool = False

    def __post_init__(self) -> None:
        """Check that a batch has parts and that gradients can pass."""
        check_range("batch_split", self.batch_split, 1)
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise ValueError(f"gradient_clip must be positive, got {self.gradient_clip}.")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Describe the samples and how batches are drawn from them.

    Attributes:
        samples_per_shape: Samples of a shape in a batch, half of them outside and half inside.
        shapes_per_batch: Shapes in a batch.
        cache: Keep the samples in memory or read them from the mapped files; ``auto``: in memory if they fit.
        train_split: Split file of the shapes to learn, relative to the data; none: all but ``test_share``.
        test_split: Split file of the shapes held out.
        test_share: Share of the shapes held out where there is no split.
        workers: Reading processes of the original; samples are read once here.
        description: A text for the record.
    """

    samples_per_shape: int = 1024
    shapes_per_batch: int = 8
    cache: Literal["auto", "ram", "mmap"] = "auto"
    train_split: str | None = None
    test_split: str | None = None
    test_share: float = 0.0
    workers: int = 0
    description: str = ""

    def __post_init__(self) -> None:
        """Check that a batch has samples."""
        check_range("samples_per_shape", self.samples_per_shape, 2)
        check_range("shapes_per_batch", self.shapes_per_batch, 1)
        check_range("test_share", self.test_share, 0.0, 0.9)


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Describe how the code of a new shape is found.

    Attributes:
        recipe: ``default``: several starts, cosine rate, prior from the training codes; ``paper``: the original's.
        iterations: Steps, those of the starts included.
        starts: Codes to start from.
        start_iterations: Steps of each start before the best goes on.
        samples: Samples in a step.
        rate: Learning rate at the start.
        prior: Weight of the squared length of the code, whitened by mean and covariance of the training codes.
        refine_iterations: With ``--refine``, steps in which the last layers are fitted too.
        refine_rate: Their learning rate.
    """

    recipe: Literal["default", "paper"] = "default"
    iterations: int = 800
    starts: int = 8
    start_iterations: int = 50
    samples: int = 2048
    rate: float = 1e-2
    prior: float = 1e-4
    refine_iterations: int = 400
    refine_rate: float = 1e-3

    def __post_init__(self) -> None:
        """Check the counts."""
        for name in ("iterations", "starts", "start_iterations", "samples", "refine_iterations"):
            check_range(name, getattr(self, name), 1)


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Describe the meshes.

    Attributes:
        resolution: Lattice points along each side of the cube from -1 to 1.
        lipschitz: Largest slope that the search for the surface assumes.
        components: Keep all parts, those near a sample, or the largest.
    """

    resolution: int = 128
    lipschitz: float = 1.5
    components: Literal["all", "supported", "largest"] = "supported"

    def __post_init__(self) -> None:
        """Check that there is a lattice and a slope."""
        check_range("resolution", self.resolution, 2)
        if not self.lipschitz > 0:
            raise ValueError(f"lipschitz must be positive, got {self.lipschitz}.")


@dataclass(frozen=True, kw_only=True)
class DeepSdfConfig:
    """Gather the settings of a run.

    Attributes:
        network: The decoder.
        codes: The table of codes.
        loss: The loss.
        optim: Learning rates and arithmetic.
        data: Samples, batches and splits.
        fit: Fitting of new shapes.
        mesh: Extraction.
        train: Length and cadence.
        num_epochs: Length in epochs, in place of ``train.steps``.
        keep_every: Epochs between two checkpoints that are kept for good.
        keep_at: More epochs whose checkpoints are kept.
        save_latest_every: Epochs between two checkpoints of the latest state; none: as ``train`` says.
    """

    network: DecoderConfig = field(default_factory=DecoderConfig)
    codes: CodeConfig = field(default_factory=CodeConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    data: DataConfig = field(default_factory=DataConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=2500))
    num_epochs: int | None = None
    keep_every: int | None = None
    keep_at: tuple[int, ...] = ()
    save_latest_every: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers of epochs."""
        for name in ("num_epochs", "keep_every", "save_latest_every"):
            if (value := getattr(self, name)) is not None:
                check_range(name, value, 1)
