"""Checkpoints of the original program (bomb2peng/learn3D), read.

A folder holds ``last-E.ckpt`` and ``last-G.ckpt``, the encoder and the decoder, and ``last-D.ckpt``, the discriminator
of poses, where it was kept; instead of ``last`` also ``best`` or a number of batches, or nothing: ``E.ckpt``. Files are
unpickled with ``weights_only``: they cannot run code.

The encoder tells which pictures a checkpoint is of, and so the frame of its meshes. The original gives masks to the
encoder, as a fourth channel, for renderings (Kato's and LSM's), whose meshes lie in the left-handed frame of the Neural
Mesh Renderer; for the photographs of Pascal3D+ it gives colours alone, to convolutions (64 and 128 px) or a ResNet-18
(224 px), and meshes are right-handed as they are. Here all come out in the right-handed world. LSM's renderings reach
its encoder blue first; the 72 bins of its discriminator alone tell, so without ``D.ckpt`` a checkpoint is taken for one
of Kato's.

The template is ``sphere_642.obj``: the vertices of our sphere in the order of their x, y and z. With the ResNet the
decoder is symmetric. The order of its outputs is in another file of the original program, ``symmetry_idx.npz``, which
must lie in the folder too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from shapewright.errors import UserError
from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mirror_pairs import mirror_pairs, mirror_partners
from shapewright.geometry.published_frames import Frame, world_from_frame
from shapewright.io.arrays import read_npz
from shapewright.methods.pose_invariant.config import NetworkConfig
from shapewright.networks.residual_encoders import WIDTHS, ResidualEncoder

ENCODER, DECODER, DISCRIMINATOR = "E", "G", "D"
SYMMETRY = "symmetry_idx.npz"
HINT = "Copy the checkpoint again from where it was trained."
_UNREAD_HINT = "Read a model of 64, 128 or 224 px pictures with the decoder it was trained with, or train anew."
_MIXED_HINT = "Put files of one training together."
_LSM_BINS = 72
# Of the ResNet, whose checkpoints do not tell it: convolutions and a mean over what they return take any.
RESNET_SIZE = 224
_NAME = re.compile(r"(?:(.+)-)?E\.ckpt")
# Heads that the original trains or at least stores, but whose output it never uses.
_DEAD = ("muLayer.", "logvarLayer.", "bias_layer_1.", "bias_layer_2.", "centroid_layer.", "adv_layer.")
_ENCODER_LAYERS = {"FC.0": "head.0", "FC.2": "head.2", "shapeLayer": "head.4"}
_BLOCK_LAYERS = {
    "first": "conv1",
    "first_norm": "bn1",
    "second": "conv2",
    "second_norm": "bn2",
    "shortcut.0": "downsample.0",
    "shortcut.1": "downsample.1",
}
# Theirs of ours.
_RESNET_LAYERS = {"stem.0": "conv1", "stem.1": "bn1"} | {
    f"blocks.{block}.{ours}": f"layer{block // 2 + 1}.{block % 2}.{theirs}"
    for block in range(8)
    for ours, theirs in _BLOCK_LAYERS.items()
}
_DECODER_LAYERS = {"fclayers.0": "layers.0", "fclayers.2": "layers.2", "bias_layer": "layers.4"}
# x and y of 32 vertices on the plane z = 0, and x, y and z of 305 beside it.
_NUM_SYMMETRIC = 2 * 32 + 3 * 305
_DISCRIMINATOR_LAYERS = {"hidden_layer0": "layers.0", "hidden_layer1": "layers.2", "digit_layer": "layers.4"}

State = dict[str, Tensor]


@dataclass(frozen=True)
class OriginalNetworks:
    """Hold a checkpoint of the original program, with parameters under our names.

    Args:
        network: Sizes of the networks.
        image_size: Pixels along each side of the pictures.
        num_bins: Pose bins of the discriminator; none: there is none.
        encoder: Of ``ConvEncoder`` or ``ResidualEncoder``.
        decoder: Of ``MeshDecoder`` or ``SymmetricMeshDecoder``; meshes come out in the world.
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
    encoder, network, image_size = _read_encoder(encoder_path)
    decoder = _renamed(decoder_path, _load(decoder_path), _DECODER_LAYERS)
    _check_code(decoder_path, decoder, network.code_dim)
    discriminator = {}
    if discriminator_path.exists():
        discriminator = _renamed(discriminator_path, _load(discriminator_path), _DISCRIMINATOR_LAYERS)
        _check_code(discriminator_path, discriminator, network.code_dim)
        network = replace(network, discriminator_hidden=_hidden(discriminator))
    frame: Frame = "pascal3d" if network.channels == 3 else "kato"
    if len(decoder["layers.4.bias"]) == _NUM_SYMMETRIC:
        network = replace(network, symmetric=True)
        decoder = _in_our_order(decoder_path, decoder, frame)
    else:
        decoder = _in_world(decoder_path, decoder, frame)
    network = replace(network, decoder_hidden=_hidden(decoder))
    num_bins = len(discriminator["layers.4.bias"]) if discriminator else None
    if num_bins == _LSM_BINS and network.channels == 4:
        first = "convolutions.0.weight"
        encoder = encoder | {first: encoder[first][:, [2, 1, 0, 3]]}
    return OriginalNetworks(network, image_size, num_bins, encoder, decoder, discriminator)


def read_resnet(path: Path) -> State:
    """Return the parameters of ``ResidualEncoder`` from a file of a ResNet-18, named as torchvision names them.

    Args:
        path: A state dict, such as that of a ResNet-18 trained on ImageNet; its 1000 classes are left out.

    Raises:
        UserError: if it is missing or damaged, or holds another network.
    """
    return _read_resnet(path, _load(path), "")


def published_order() -> Int64[Tensor, " vertices"]:
    """Return which vertex of our sphere each line of ``sphere_642.obj`` is: by x, then y, then z, of five digits."""
    rows = (icosphere(3, torch.float64).vertices * 1e5).round().long().tolist()
    return torch.tensor(sorted(range(len(rows)), key=rows.__getitem__))


def _in_world(path: Path, decoder: State, frame: Frame) -> State:
    """Return a decoder whose meshes are the original's in the world, on our template, with faces that look outwards.

    The original's vertex i lies at ``(base_i + b_i) / 2``, and A takes it to the world. Where A mirrors, our vertex j
    takes the place of the one that is mirrored too, ``base_i = diag(1, 1, -1) template_j``: faces stay faces, and look
    outwards. A turns the sphere by a right angle as well, which is not one of its symmetries: the offset of our vertex
    has the difference, ``A b_i + A base_i - template_j``. Where A is the identity, i is just j in another order.
    """
    template = icosphere(3, torch.float64).vertices
    weight, bias = decoder["layers.4.weight"], decoder["layers.4.bias"]
    if len(bias) != template.numel():
        raise UserError(
            f"{path} returns {len(bias)} numbers for a mesh, not {template.numel()}, nor {_NUM_SYMMETRIC} for a "
            "symmetric one: it is another decoder.",
            _UNREAD_HINT,
        )
    A = world_from_frame(frame)
    partner = torch.arange(len(template))
    if torch.linalg.det(A) < 0:
        partner = mirror_partners(template)
    line_of_vertex = published_order().argsort()[partner]
    turned = torch.einsum("ij,vjh->vih", A, weight.double().view(len(template), 3, -1)[line_of_vertex])
    offsets = (bias.double().view(-1, 3)[line_of_vertex] + template[partner]) @ A.T - template
    return {
        **decoder,
        "layers.4.weight": turned.reshape(weight.shape).to(weight.dtype),
        "layers.4.bias": offsets.flatten().to(bias.dtype),
    }


def _in_our_order(path: Path, decoder: State, frame: Frame) -> State:
    """Return a symmetric decoder whose outputs are for the vertices of our template in their order.

    Nothing turns: the frame of Pascal3D+ is the world's, and both decoders are symmetric at its plane z = 0.

    Raises:
        UserError: if the encoder is one of renderings, whose frame has that plane elsewhere, or the order is not known.
    """
    if frame != "pascal3d":
        raise UserError(
            f"{path} is the symmetric decoder of photographs, but the encoder beside it takes renderings with masks.",
            _MIXED_HINT,
        )
    order_path = path.with_name(SYMMETRY)
    if not order_path.is_file():
        raise UserError(
            f"{path} is a symmetric decoder: which of its outputs moves which vertex is written in {SYMMETRY} alone, "
            f"which is not in {path.parent}.",
            f"Copy {SYMMETRY} from the original program (bomb2peng/learn3D) to {path.parent}.",
        )
    rows = _outputs_in_our_order(order_path)
    return decoder | {name: decoder[name][rows] for name in ("layers.4.weight", "layers.4.bias")}


def _outputs_in_our_order(path: Path) -> Int64[Tensor, " outputs"]:
    """Return which output of the original's symmetric decoder each one of ours is.

    Args:
        path: The lines of ``sphere_642.obj``, from 0, that lie on the plane, beside it, and mirrored to these.

    Raises:
        UserError: if the file holds anything else.
    """
    arrays = read_npz(path)
    names = ("arr_0", "arr_1", "arr_2")
    whole = {name: array.ravel().tolist() for name, array in arrays.items() if array.dtype.kind in "iu"}
    listed = [whole.get(name, []) for name in names]
    pairs = mirror_pairs(icosphere(3, torch.float64).vertices)
    line_of_vertex = published_order().argsort()
    wanted = [line_of_vertex[vertices].tolist() for vertices in (pairs.on_plane, pairs.positive, pairs.mirrored)]
    is_known = sorted(listed[0]) == sorted(wanted[0]) and len(listed[1]) == len(listed[2]) == len(wanted[1])
    if not is_known or dict(zip(*listed[1:], strict=True)) != dict(zip(*wanted[1:], strict=True)):
        raise UserError(
            f"{path} does not list the lines of sphere_642.obj on the plane z = 0, beside it, and mirrored to these.",
            "Copy it again from the original program (bomb2peng/learn3D).",
        )
    on_plane, beside = (
        torch.tensor([theirs.index(line) for line in ours]) for theirs, ours in zip(listed[:2], wanted[:2], strict=True)
    )
    flat = 2 * on_plane[:, None] + torch.arange(2)
    side = 2 * len(on_plane) + 3 * beside[:, None] + torch.arange(3)
    return torch.cat([flat.flatten(), side.flatten()])


def _read_encoder(path: Path) -> tuple[State, NetworkConfig, int]:
    """Return the parameters, the sizes of the encoder and the size of the pictures."""
    found = _load(path)
    for name in found:
        if match := re.match(r"(.*?)layer[1-4]\.[01]\.", name):
            network = NetworkConfig(encoder="resnet", channels=3, code_dim=WIDTHS[-1])
            return _read_resnet(path, found, match[1]), network, RESNET_SIZE
    places = sorted({int(m[1]) for name in found if (m := re.fullmatch(r"convBlocks\.(\d+)\.weight", name))})
    layers = {f"convBlocks.{place}": f"convolutions.{place}" for place in places or (0,)}
    state = _renamed(path, found, layers | _ENCODER_LAYERS)
    first, last = (state[f"convolutions.{place}.weight"] for place in (places[0], places[-1]))
    side = round((state["head.0.weight"].shape[1] / len(last)) ** 0.5)
    channels = first.shape[1] if first.ndim == 4 else 0
    if channels not in (3, 4) or side**2 * len(last) != state["head.0.weight"].shape[1]:
        raise UserError(f"{path} is no encoder of square pictures of 3 or 4 channels.", _UNREAD_HINT)
    network = NetworkConfig(
        channels=4 if channels == 4 else 3,
        encoder_widths=tuple(len(state[f"convolutions.{place}.bias"]) for place in places),
        encoder_hidden=len(state["head.0.bias"]),
        code_dim=len(state["head.4.bias"]),
    )
    return state, network, side * 2 ** len(places)


def _read_resnet(path: Path, found: Mapping[str, Tensor], prefix: str) -> State:
    """Return the parameters of ``ResidualEncoder``.

    The original names layers as torchvision does, after a prefix, and stores 1000 classes that nothing uses.

    Raises:
        UserError: if a parameter is missing, not known, of another shape or not finite.
    """
    hint = "Give the state dict of a ResNet-18 that takes 3 channels."
    with torch.device("meta"):
        encoder = ResidualEncoder()
    state: State = {}
    known = set()
    for ours, like in encoder.state_dict().items():
        layer, _, kind = ours.rpartition(".")
        theirs = f"{prefix}{_RESNET_LAYERS[layer]}.{kind}"
        known.add(theirs)
        value = found.get(theirs)
        if value is None and kind == "num_batches_tracked":  # not counted before torch 0.4.1
            value = torch.zeros((), dtype=like.dtype)
        if value is None:
            raise UserError(f"{path} misses the parameter '{theirs}'.", hint)
        if value.shape != like.shape:
            raise UserError(
                f"{path} has shape {list(value.shape)} for the parameter '{theirs}', not {list(like.shape)}.", hint
            )
        _check_finite(path, theirs, value)
        state[ours] = value.to(like.dtype)
    strange = [name for name in found if name not in known and not name.startswith(f"{prefix}fc.")]
    if strange:
        raise UserError(f"{path} has the parameter '{strange[0]}', which is not known.", hint)
    return state


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
            _check_finite(path, f"{theirs}.{kind}", value)
            state[f"{ours}.{kind}"] = value.float()
    known = {f"{theirs}.{kind}" for theirs in layers for kind in ("weight", "bias")}
    strange = [name for name in found if name not in known and not name.startswith(_DEAD)]
    if strange:
        raise UserError(f"{path} has the parameter '{strange[0]}', which is not known.", _expected(path, layers))
    _check_chain(path, state)
    return state


def _check_finite(path: Path, name: str, value: Tensor) -> None:
    if not bool(value.isfinite().all()):
        raise UserError(f"{path}: the parameter '{name}' is not finite.", HINT)


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
            _MIXED_HINT,
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
