"""A trained shape space: decoder, codes, and meshes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.engine.checkpoint import load_checkpoint
from shapewright.engine.config import from_dict, suggestion
from shapewright.engine.device import half_precision, prepare_process, resolve_device
from shapewright.engine.run_dir import RunDir
from shapewright.errors import UserError
from shapewright.geometry.isosurface import extract_isosurface
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.topology import component_labels, keep_faces, largest_component
from shapewright.methods.deep_sdf.config import DeepSdfConfig, MeshConfig
from shapewright.methods.deep_sdf.fitting import FitContext
from shapewright.methods.deep_sdf.method import DeepSdfMethod
from shapewright.methods.deep_sdf.model import FoldedDecoder
from shapewright.methods.deep_sdf.results import read_code
from shapewright.methods.deep_sdf.shapes import ShapeSet

Field = Callable[[Float[Tensor, "n 3"]], Float[Tensor, " n"]]


@dataclass(frozen=True)
class ShapeSpace:
    """Hold a run's decoder and codes, to fit, to mix and to draw.

    Args:
        run: The run folder.
        config: Its settings.
        shapes: The shapes that it learned and held out.
        decoder: The frozen decoder.
        codes: Codes of the learned shapes.
        step: Step of the checkpoint.
        device: Where to compute.
    """

    run: RunDir
    config: DeepSdfConfig
    shapes: ShapeSet
    decoder: FoldedDecoder
    codes: Float[Tensor, "shapes code"]
    step: int
    device: torch.device

    @staticmethod
    def open(path: Path, device: str = "auto", checkpoint: Literal["latest", "best"] | int = "latest") -> ShapeSpace:
        """Return the shape space of a run folder.

        Raises:
            UserError: if the folder is no run of ``deep_sdf``, or has no such checkpoint.
        """
        prepare_process()
        run = RunDir.open(path)
        config = from_dict(DeepSdfConfig, run.config)
        step, tensors, _ = load_checkpoint(run, checkpoint)
        shapes = ShapeSet.of_run(run)
        target = resolve_device(device)
        method = DeepSdfMethod(config, None, len(tensors["codes.codes"]), target)
        method.load_state_dict(tensors)
        method.decoder.eval()
        return ShapeSpace(run, config, shapes, method.decoder.fold(), method.codes.detach(), step, target)

    def fit_context(self, seed: int = 0) -> FitContext:
        """Return what fitting needs."""
        dtype = half_precision(self.config.optim.precision, self.device)
        return FitContext(self.decoder, self.codes, self.config.loss.clamp, dtype, seed)

    @cached_property
    def names(self) -> dict[str, int]:
        """Return the place of each learned shape's code, by its full name and by its last part where that is unique."""
        full = {str(key): place for place, key in enumerate(self.shapes.train)}
        short: dict[str, list[int]] = {}
        for place, key in enumerate(self.shapes.train):
            short.setdefault(key.name, []).append(place)
        return {name: places[0] for name, places in short.items() if len(places) == 1} | full

    def code(self, text: str) -> Float[Tensor, " code"]:
        """Return the code that a person names: a learned shape, a fitted one, or a file of a code.

        Raises:
            UserError: if there is none of this name.
        """
        if text in self.names:
            return self.codes[self.names[text]]
        fitted = self.run.path / "codes" / f"{text}.npz"
        path = fitted if fitted.exists() else Path(text)
        if path.suffix == ".npz" and path.exists():
            return read_code(path, self.codes.shape[1]).code.to(self.device)
        known = [*self.names, *(file.stem for file in sorted((self.run.path / "codes").glob("*.npz")))]
        raise UserError(f"{self.run.path} has no shape {text!r}.", suggestion(text, known))

    def field(self, code: Float[Tensor, " code"], decoder: FoldedDecoder | None = None) -> Field:
        """Return the signed distance of a code as a function of positions."""
        chosen = decoder or self.decoder
        return lambda points: chosen.sdf(points.to(self.device), code.to(self.device))

    def mesh(
        self,
        code: Float[Tensor, " code"],
        support: Float[Tensor, "n 3"] | None = None,
        decoder: FoldedDecoder | None = None,
        config: MeshConfig | None = None,
    ) -> Mesh:
        """Return the surface of a code in the unit sphere.

        Args:
            code: The code.
            support: Points on the surface; with ``components = supported`` parts far from all of them are left out.
            decoder: Another decoder than the run's, as after a fit of the last layers.
            config: Resolution and parts; those of the run by default.

        Raises:
            UserError: if the field has one sign everywhere.
        """
        config = config or self.config.mesh
        corner = torch.ones(3, device=self.device)
        found = extract_isosurface(
            self.field(code, decoder), -corner, corner, config.resolution, lipschitz=config.lipschitz
        )
        mesh = found.mesh.to("cpu")
        if config.components == "largest":
            return largest_component(mesh)
        if config.components == "supported" and support is not None and len(support):
            return keep_supported(mesh, support, 4.0 / (config.resolution - 1))
        return mesh


def keep_supported(mesh: Mesh, support: Float[Tensor, "n 3"], distance: float) -> Mesh:
    """Return the connected parts of a mesh that have a vertex near a point; all of them if none has.

    Args:
        mesh: The mesh.
        support: Points where there is a surface.
        distance: How near is near.
    """
    from scipy.spatial import cKDTree

    near = cKDTree(support.cpu().numpy()).query(mesh.vertices.numpy(), distance_upper_bound=distance)[0]
    is_near = torch.from_numpy(np.isfinite(near))
    labels = component_labels(mesh)
    has_near = torch.zeros(int(labels.max()) + 1, dtype=torch.bool)
    has_near[labels[is_near[mesh.faces].any(dim=1)]] = True
    return keep_faces(mesh, has_near[labels]) if has_near.any() and not has_near.all() else mesh
