"""Checkpoints of the original program (bomb2peng/learn3D), read.

A folder holds ``last-E.ckpt`` and ``last-G.ckpt``, the encoder and the decoder, and ``last-D.ckpt``, the discriminator
of poses, where it was kept; instead of ``last`` also ``best`` or a number of batches, or nothing: ``E.ckpt``. Files are
unpickled with ``weights_only``: they cannot run code.

The original works in the left-handed frame of the Neural Mesh Renderer and its template is ``sphere_642.obj``: the
vertices of our sphere in the order of their x, y and z. Here meshes come out in the right-handed world.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from shapewright.errors import UserError
from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mirror_pairs import mirror_pairs
from shapewright.geometry.published_frames import world_from_frame
from shapewright.methods.pose_invariant.config import NetworkConfig

ENCODER, DECODER, DISCRIMINATOR = "E", "G", "D"
HINT = "Copy the checkpoint again from where it was trained."
_UNREAD_HINT = "Read a model of 64 or 128 px pictures with the plain decoder, or train anew."
_NAME = re.compile(r"(?:(.+)-)?E\.ckpt")
# Heads that the original trains or at least stores, but whose output it never uses.
_DEAD = ("muLayer.", "logvarLayer.", "bias_layer_1.", "bias_layer_2.", "centroid_layer.", "adv_layer.")
_ENCODER_LAYERS = {"FC.0": "head.0", "FC.2": "head.2", "shapeLayer": "head.4"}
_DECODER_LAYERS = {"fclayers.0": "layers.0", "fclayers.2": "layers.2", "bias_layer": "layers.4"}
_DISCRIMINATOR_LAYERS = {"hidden_layer0": "layers.0", "hidden_layer1": "layers.2", "digit_layer": "layers.4"}

State = dict[str, Tensor]


@dataclass(frozen=True)
class OriginalNetworks:
    """Hold a checkpoint of the original program, with parameters under our names.

    Args:
        network: Sizes of the networks.
        image_size: Pixels along each side of the pictures.
        num_bins: Pose bins of the discriminator; none: there is none.
        encoder: Of ``ConvEncoder``.
        decoder: Of ``MeshDecoder``; meshes come out in the world.
        discriminator: Of ``PoseDiscriminator``; empty: there is none.
    """

    network: NetworkConfig
    image_size: int
    num_bins: int | None
    encoder: State
    decoder: State
    discriminator: State = field(default_factory=dict)

    def reconstructor_state(self) -> State:
        """Return the parameters of ``Reconstructor``."""
        parts = {"encoder": self.encoder, "decoder": self.decoder}
        return {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}


def read_original(folder: Path, checkpoint: str | None = None) -> OriginalNetworks:
    """Return the networks of a checkpoint of the original program.

    Args:
        folder: Where its files are.
        checkpoint: ``last``, ``best`` or a number of batches; none: the only one, else ``last``, else the latest.

    Raises:
        UserError: if a file is missing, damaged or of another network, or the files do not belong together.
    """
    prefix = _prefix(folder, checkpoint)
    encoder_path, decoder_path, discriminator_path = (
        folder / f"{prefix}{part}.ckpt" for part in (ENCODER, DECODER, DISCRIMINATOR)
    )
    encoder, channels, image_size = _read_encoder(encoder_path)
    code_dim = len(encoder["head.4.bias"])
    decoder = _renamed(decoder_path, _load(decoder_path), _DECODER_LAYERS)
    _check_code(decoder_path, decoder, code_dim)
    discriminator = {}
    if discriminator_path.exists():
        discriminator = _renamed(discriminator_path, _load(discriminator_path), _DISCRIMINATOR_LAYERS)
        _check_code(discriminator_path, discriminator, code_dim)
    network = NetworkConfig(
        channels=4 if channels == 4 else 3,
        encoder_widths=tuple(len(value) for name, value in encoder.items() if re.match(r"conv.*bias", name)),
        encoder_hidden=len(encoder["head.0.bias"]),
        code_dim=code_dim,
        decoder_hidden=_hidden(decoder),
        discriminator_hidden=_hidden(discriminator) if discriminator else NetworkConfig().discriminator_hidden,
    )
    num_bins = len(discriminator["layers.4.bias"]) if discriminator else None
    return OriginalNetworks(network, image_size, num_bins, encoder, _in_world(decoder_path, decoder), discriminator)


def published_order() -> Int64[Tensor, " vertices"]:
    """Return which vertex of our sphere each line of ``sphere_642.obj`` is: by x, then y, then z, of five digits."""
    rows = (icosphere(3, torch.float64).vertices * 1e5).round().long().tolist()
    return torch.tensor(sorted(range(len(rows)), key=rows.__getitem__))


def _in_world(path: Path, decoder: State) -> State:
    """Return a decoder whose meshes are the original's in the world, on our template, with faces that look outwards.

    The original's vertex i lies at ``(base_i + b_i) / 2``, and A takes it to the world. A mirrors, so that our vertex j
    takes the place of the one that is mirrored too, ``base_i = diag(1, 1, -1) template_j``: faces stay faces, and look
    outwards. A turns the sphere by a right angle as well, which is not one of its symmetries: the offset of our vertex
    has the difference, ``A b_i + A base_i - template_j``.
    """
    template = icosphere(3, torch.float64).vertices
    weight, bias = decoder["layers.4.weight"], decoder["layers.4.bias"]
    if len(bias) != template.numel():
        raise UserError(
            f"{path} returns {len(bias)} numbers for a mesh, not {template.numel()}: it is another decoder.",
            _UNREAD_HINT,
        )
    pairs = mirror_pairs(template)
    mirrored = torch.arange(len(template))
    mirrored[pairs.positive], mirrored[pairs.mirrored] = pairs.mirrored, pairs.positive
    line_of_vertex = published_order().argsort()[mirrored]
    A = world_from_frame("kato")
    turned = torch.einsum("ij,vjh->vih", A, weight.double().view(len(template), 3, -1)[line_of_vertex])
    offsets = (bias.double().view(-1, 3)[line_of_vertex] + template[mirrored]) @ A.T - template
    return {
        **decoder,
        "layers.4.weight": turned.reshape(weight.shape).to(weight.dtype),
        "layers.4.bias": offsets.flatten().to(bias.dtype),
    }


def _read_encoder(path: Path) -> tuple[State, int, int]:
    """Return the parameters, the channels and the size of the pictures."""
    found = _load(path)
    if any(name.startswith("model.") for name in found):
        raise UserError(f"{path} holds the ResNet of 224 px pictures, which is not read.", _UNREAD_HINT)
    places = sorted({int(m[1]) for name in found if (m := re.fullmatch(r"convBlocks\.(\d+)\.weight", name))})
    layers = {f"convBlocks.{place}": f"convolutions.{place}" for place in places or (0,)}
    state = _renamed(path, found, layers | _ENCODER_LAYERS)
    first, last = (state[f"convolutions.{place}.weight"] for place in (places[0], places[-1]))
    side = round((state["head.0.weight"].shape[1] / len(last)) ** 0.5)
    channels = first.shape[1] if first.ndim == 4 else 0
    if channels not in (3, 4) or side**2 * len(last) != state["head.0.weight"].shape[1]:
        raise UserError(f"{path} is no encoder of square pictures of 3 or 4 channels.", _UNREAD_HINT)
    return state, channels, side * 2 ** len(places)


def _renamed(path: Path, found: Mapping[str, Tensor], layers: Mapping[str, str]) -> State:
    """Return the parameters under our names, without those that nothing uses.

    Raises:
        UserError: if one is missing, not known, of another rank or not finite.
    """
    state: State = {}
    for theirs, ours in layers.items():
        for kind, ranks in (("weight", (2, 4)), ("bias", (1,))):
            value = found.get(f"{theirs}.{kind}")
            if value is None:
                raise UserError(f"{path} misses the parameter '{theirs}.{kind}'.", _expected(path, layers))
            if value.ndim not in ranks or not value.numel():
                raise UserError(f"{path} has shape {list(value.shape)} for the parameter '{theirs}.{kind}'.", HINT)
            if not bool(value.isfinite().all()):
                raise UserError(f"{path}: the parameter '{theirs}.{kind}' is not finite.", HINT)
            state[f"{ours}.{kind}"] = value.float()
    known = {f"{theirs}.{kind}" for theirs in layers for kind in ("weight", "bias")}
    strange = [name for name in found if name not in known and not name.startswith(_DEAD)]
    if strange:
        raise UserError(f"{path} has the parameter '{strange[0]}', which is not known.", _expected(path, layers))
    _check_chain(path, state)
    return state


def _check_chain(path: Path, state: State) -> None:
    """Raise unless each layer takes what the one before returns."""
    width = None
    for name, weight in state.items():
        if not name.endswith("weight"):
            continue
        bias = state[name.removesuffix("weight") + "bias"]
        is_flattened = name == "head.0.weight"
        if len(bias) != len(weight) or (width not in (None, weight.shape[1]) and not is_flattened):
            raise UserError(f"{path}: the layers do not fit together at '{name}' {list(weight.shape)}.", HINT)
        width = len(weight)


def _check_code(path: Path, state: State, code_dim: int) -> None:
    taken = state["layers.0.weight"].shape[1]
    if taken != code_dim:
        raise UserError(
            f"{path} takes codes of {taken} numbers, but the encoder beside it returns {code_dim}.",
            "Put files of one training together.",
        )


def _hidden(state: State) -> tuple[int, ...]:
    return len(state["layers.0.bias"]), len(state["layers.2.bias"])


def _expected(path: Path, layers: Iterable[str]) -> str:
    return f"{path.name} of the original has the layers {', '.join(layers)}."


def _prefix(folder: Path, checkpoint: str | None) -> str:
    """Return what the names of a checkpoint's files begin with.

    Raises:
        UserError: if there is no such checkpoint.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.", "Name the folder with the files E.ckpt and G.ckpt.")
    names = sorted(m[1] or "" for path in folder.iterdir() if (m := _NAME.fullmatch(path.name)))
    if not names:
        raise UserError(f"{folder} has no file E.ckpt or last-E.ckpt.", "Name the folder with the original's files.")
    if checkpoint is None:
        numbered = sorted((name for name in names if name.isdecimal()), key=int)
        checkpoint = next((name for name in ("", "last", *numbered[-1:]) if name in names), names[0])
    if checkpoint not in names:
        listed = ", ".join(name or "one without a name" for name in names)
        raise UserError(f"{folder} has no checkpoint {checkpoint!r}.", f"There are: {listed}.")
    return f"{checkpoint}-" if checkpoint else ""


def _load(path: Path) -> dict[str, Tensor]:
    """Return the parameters of a file.

    Raises:
        UserError: if it is missing or holds something else.
    """
    if not path.is_file():
        raise UserError(f"The file {path} does not exist.", HINT)
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        reason = str(error).split("\n")[0][:200]
        raise UserError(f"{path} cannot be read as a file of torch: {reason}", HINT) from error
    is_table = isinstance(found, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in found.items()
    )
    if not is_table or not found:
        raise UserError(f"{path} holds no table of parameters.", HINT)
    return dict(found)
