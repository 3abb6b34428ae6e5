"""Training of the networks: silhouettes of one picture an object, and what keeps the unseen side honest."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from shapewright.engine.device import half_precision
from shapewright.engine.schedule import Moment
from shapewright.errors import UserError
from shapewright.geometry.mesh_edges import edge_table
from shapewright.losses.code_agreement import code_agreement_loss
from shapewright.losses.code_prior import code_prior_loss
from shapewright.losses.colour_pyramid import colour_pyramid_loss
from shapewright.losses.flatness import dihedral_loss, flatness_loss
from shapewright.losses.inflation import inflation_loss
from shapewright.losses.laplacian import edge_length_loss, laplacian_loss
from shapewright.losses.silhouette_pictures import iou_loss, pyramid_loss
from shapewright.methods.pose_invariant.adversaries import Adversary, adversary_of
from shapewright.methods.pose_invariant.batches import Batch, BatchSource
from shapewright.methods.pose_invariant.config import LossConfig, OptimConfig, PoseInvariantConfig
from shapewright.methods.pose_invariant.model import PictureKind, Reconstructor
from shapewright.methods.pose_invariant.original import OriginalNetworks
from shapewright.methods.pose_invariant.painting import Painter, Skin
from shapewright.networks.bounded_decoder import BoundedMeshDecoder
from shapewright.networks.discriminators import PoseDiscriminator

Terms = dict[str, Tensor]

# Of the bounded decoder (Neural Mesh Renderer).
CENTROID_RATE_SHARE = 0.1
# Where in a run the rate drops.
LATE = 0.95


def warm_up(config: OptimConfig, moment: Moment) -> float:
    """Return by what the rate of a step is multiplied while it rises."""
    return min(1.0, (moment.step + 1) / max(config.warm_up_steps, 1))


def learning_rate(config: OptimConfig, moment: Moment) -> float:
    """Return the learning rate of a step."""
    rate = config.lr * warm_up(config, moment)
    if config.schedule == "cosine":
        return rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * moment.progress)))
    if config.schedule == "drop" and moment.progress >= LATE:
        return rate * config.lr_decay_factor
    if config.schedule == "step" and moment.step >= config.lr_decay_start:
        return rate * config.lr_decay_factor ** (1 + (moment.step - config.lr_decay_start) // config.lr_decay_every)
    return rate


class PoseInvariantMethod:
    """Train encoder, decoder and discriminator.

    Args:
        config: All settings.
        kind: What the pictures are.
        source: Batches; none: the method is only evaluated.
        device: Where to compute.
        seed: Start of all random numbers.
    """

    def __init__(
        self,
        config: PoseInvariantConfig,
        kind: PictureKind,
        source: BatchSource | None,
        device: torch.device,
        seed: int = 0,
    ) -> None:
        self.config, self.kind, self.source, self.device = config, kind, source, device
        dtype = half_precision(config.optim.precision, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = Reconstructor(config.network, kind.size, len(kind.classes), dtype).to(device)
            self.adversary: Adversary | None = adversary_of(config, kind, dtype)
            is_mirrored = config.network.symmetric
            self.skin = Skin(self.model.told_dim, is_mirrored).to(device) if config.network.texture else None
        self.painter = Painter(config, kind)
        self.edges = edge_table(self.model.faces)
        self.modules: dict[str, nn.Module] = {"encoder": self.model.encoder, "decoder": self.model.decoder}
        if self.adversary is not None and isinstance(self.adversary, nn.Module):
            self.modules["discriminator"] = self.adversary.to(device)
        if self.skin is not None:
            self.modules["texture"] = self.skin
        self.average = copy.deepcopy(self.model).eval() if config.optim.ema_decay else None
        self.optimizers = {name: _adam(module, config, name) for name, module in self.modules.items()}

    @property
    def judged(self) -> Reconstructor:
        """Return the networks to judge: their mean over the steps where the settings ask for it."""
        return (self.average or self.model).eval()

    def next_batch(self, moment: Moment) -> Batch:
        """Return the pictures of the next step."""
        if self.source is None:
            raise ValueError("The method was opened without pictures.")
        return self.source.batch(moment.step).to(self.device)

    def train_step(self, batch: Batch, moment: Moment) -> dict[str, float | Tensor]:
        """Make one step: the losses of the shape, and the adversary's turn."""
        for module in self.modules.values():
            module.train()
        rate = learning_rate(self.config.optim, moment)
        codes = self.model.encode(batch.pictures)
        vertices = self.model.decode(codes, batch.classes)
        texture = None if self.skin is None else self.skin(self.model.tell(codes, batch.classes))
        made = _Made(self, vertices, texture)
        seen = made.pictures(batch.poses)
        terms = self._shape_terms(batch, codes, made, seen)
        if self.config.loss.cycle_weight:
            terms["cycle"] = warm_up(self.config.optim, moment) * self._cycle_term(batch, codes, vertices)
        values: dict[str, float] = {}
        stepped = ["encoder", "decoder", "texture"]
        if self.adversary is not None:
            told = self.model.tell_discriminator(codes, batch.classes)
            turn = self.adversary.turn(_Sight(moment.step + 1, batch, told, made, seen))
            terms |= turn.terms
            values = turn.values
            stepped += ["discriminator"] * turn.trains_discriminator
        total = torch.stack(list(terms.values())).sum()
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        total.backward()
        networks = [self.modules[name] for name in stepped if name in self.modules]
        gradients = [one.grad for network in networks for one in network.parameters() if one.grad is not None]
        if not bool((total + nn.utils.get_total_norm(gradients)).isfinite()):
            return {"loss": float(total.detach()), "skipped": 1.0}
        for name in stepped:
            if name in self.optimizers:
                for group in self.optimizers[name].param_groups:
                    group["lr"] = rate * group["share"]
                self.optimizers[name].step()
        if self.average is not None:
            self._follow(self.average, moment.step + 1)
        values["out_of_sight"] = float((seen[:, -1].detach().flatten(1).amax(1) == 0).float().mean())
        numbers = {name: float(value.detach()) for name, value in terms.items()}
        return {"loss": float(total.detach()), **numbers, **values, "rate": rate}

    @torch.no_grad()
    def _follow(self, average: Reconstructor, count: int) -> None:
        """Move the averaged networks towards those of the step; what is no parameter is taken over.

        The mean is over the steps so far, without the networks before the first one: its bias is corrected as Adam's
        is (arXiv:1412.6980, section 3).
        """
        means: list[Tensor] = list(average.parameters())
        values: list[Tensor] = list(self.model.parameters())
        decay = self.config.optim.ema_decay
        torch._foreach_lerp_(means, values, (1 - decay) / (1 - decay**count))
        for mean, value in zip(average.buffers(), self.model.buffers(), strict=True):
            mean.copy_(value)

    def _shape_terms(self, batch: Batch, codes: Tensor, made: _Made, seen: Tensor) -> Terms:
        """Return the weighted terms that need no adversary."""
        loss = self.config.loss
        silhouettes, colours = self._agreement(batch, seen)
        if self.config.has_pairs:
            half = len(batch.poses) // 2
            others = made.pictures(batch.poses.roll(half, 0))
            across = self._agreement(batch, others.roll(half, 0))
            # The mean over both pictures by both meshes; view prior learning has the sum of the four.
            share = 0.5 if self.config.mode == "multi_view" else 2.0
            silhouettes, colours = share * (silhouettes + across[0]), share * (colours + across[1])
        terms = {"silhouette_loss": silhouettes, **self._regular_terms(loss, made.vertices)}
        if self.skin is not None:
            terms["colour"] = loss.colour_weight * colours
        if self.config.mode in ("pose_invariant", "prior") and loss.code_prior_weight:
            terms["code_prior"] = loss.code_prior_weight * code_prior_loss(codes)
        if loss.inside_out_weight:
            poses = torch.cat([batch.poses, batch.unseen])
            shares = self.painter.inside_out(made.vertices.repeat(2, 1, 1), self.model.faces, poses)
            terms["inside_out"] = loss.inside_out_weight * shares
        return terms

    def _cycle_term(self, batch: Batch, codes: Tensor, vertices: Tensor) -> Tensor:
        """Return the weighted distance of the codes of pictures to those of their meshes, seen from another side.

        The drawn meshes are taken as they are: the encoder alone learns to read them.
        """
        drawn = self.painter.redrawn(vertices.detach(), self.model.faces, batch.unseen, batch.pictures)
        return self.config.loss.cycle_weight * code_agreement_loss(codes, self.model.encode(drawn))

    def _agreement(self, batch: Batch, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return how far silhouettes are from masks, and colours from those of the pictures, where there are some."""
        compare = iou_loss if self.config.loss.silhouette == "iou" else pyramid_loss
        silhouettes = compare(seen[:, -1], batch.masks)
        if self.skin is None:
            return silhouettes, torch.zeros_like(silhouettes)
        return silhouettes, colour_pyramid_loss(seen[:, :3], batch.colours)

    def _regular_terms(self, loss: LossConfig, vertices: Tensor) -> Terms:
        """Return the weighted terms that keep a mesh tidy."""
        smooth = flatness_loss if loss.smoothness == "flatness" else dihedral_loss
        named = {
            "smoothness": (loss.smoothness_weight, smooth),
            "laplacian": (loss.laplacian_weight, laplacian_loss),
            "edge_length": (loss.edge_length_weight, edge_length_loss),
        }
        terms = {name: weight * term(vertices, self.edges) for name, (weight, term) in named.items() if weight}
        if self.config.has_view_prior and loss.inflation_weight:
            terms["inflation"] = loss.inflation_weight * inflation_loss(vertices, self.model.faces)
        return terms

    def take_over(self, original: OriginalNetworks) -> None:
        """Start from the networks of the original program; with its discriminator too, if it has the same pose bins."""
        self.model.load_state_dict(original.reconstructor_state())
        if self.average is not None:
            self.average.load_state_dict(self.model.state_dict())
        for network in self.modules["discriminator"].modules() if "discriminator" in self.modules else ():
            if isinstance(network, PoseDiscriminator) and original.num_bins == self.kind.num_bins:
                network.load_state_dict(original.discriminator)

    def start_encoder(self, weights: Mapping[str, Tensor]) -> None:
        """Start the encoder from parameters that were learned elsewhere."""
        for model in (self.model, self.average):
            if model is not None:
                model.encoder.load_state_dict(weights)

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that an exact continuation needs; batches depend on the seed and the step alone."""
        tensors: dict[str, Tensor] = {}
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for part, module in self.modules.items():
            tensors |= {f"{part}.{name}": value for name, value in module.state_dict().items()}
            for index, state in self.optimizers[part].state_dict()["state"].items():
                tensors |= {f"adam.{part}.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        return tensors

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what ``state_dict`` returned.

        Raises:
            UserError: if the tensors belong to other settings.
        """
        groups: dict[str, dict[str, Tensor]] = {name: {} for name in (*self.modules, "adam", "average")}
        for name, value in tensors.items():
            group, _, rest = name.partition(".")
            groups.setdefault(group, {})[rest] = value
        averages = {} if self.average is None else {"average": self.average}
        for part, module in (self.modules | averages).items():
            try:
                module.load_state_dict(groups[part])
            except RuntimeError as error:
                raise UserError(
                    f"The checkpoint does not fit the settings of the run: the {part} has other layers.",
                    "Restore config.json as the training wrote it.",
                ) from error
        for part in self.modules:
            parameters = [one for group in self.optimizers[part].param_groups for one in group["params"]]
            states: dict[int, dict[str, Tensor]] = {}
            for name, value in groups["adam"].items():
                owner, index, kind = name.split(".", 2)
                if owner == part:
                    # Fused Adam pairs values by their place in memory: both must be laid out alike.
                    like = parameters[int(index)]
                    laid_out = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
                    states.setdefault(int(index), {})[kind] = laid_out
            self.optimizers[part].load_state_dict({**self.optimizers[part].state_dict(), "state": states})


@dataclass(frozen=True)
class _Made:
    """Hold the meshes of a step and their textures, and draw them from any side."""

    method: PoseInvariantMethod
    vertices: Tensor
    texture: Tensor | None

    def pictures(self, poses: Tensor) -> Float[Tensor, "n channels size size"]:
        """Return coverage, after colours where there are some."""
        painter, faces, skin = self.method.painter, self.method.model.faces, self.method.skin
        if skin is None or self.texture is None:
            return painter.draw(self.vertices, faces, poses)[:, None]
        return painter.paint(self.vertices, faces, poses, skin, self.texture)


@dataclass(frozen=True)
class _Sight:
    """Show an adversary a step, and draw the meshes from another side when it asks."""

    step: int
    batch: Batch
    codes: Tensor
    made: _Made
    seen: Tensor

    def unseen(self) -> Float[Tensor, "n channels size size"]:
        """Return the meshes from the unseen poses."""
        return self.made.pictures(self.batch.unseen)


def _adam(module: nn.Module, config: PoseInvariantConfig, name: str) -> torch.optim.AdamW:
    """Return the optimiser of a network; the centroid of the bounded decoder learns at a tenth of the rate."""
    slow = {id(one) for one in module.centroid_parameters()} if isinstance(module, BoundedMeshDecoder) else set()
    whole = config.adversary.lr_share if name == "discriminator" else 1.0
    groups = [
        {"params": [one for one in module.parameters() if (id(one) in slow) == is_slow], "share": share * whole}
        for is_slow, share in ((False, 1.0), (True, CENTROID_RATE_SHARE))
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.optim.lr,
        betas=(config.optim.beta1, config.optim.beta2),
        weight_decay=config.adversary.weight_decay if name == "discriminator" else 0.0,
        fused=True,
    )
