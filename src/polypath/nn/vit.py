"""Vision transformers of timm, cut into the layers that mu2Net clones (paper, section 3.5).

    embedding · cls · posembed_input · encoderblock_0 .. encoderblock_{n-1} · encoder_norm · (a task's head)

The final norm belongs to the head: it reads one vector an image (the class token's, or the mean over patches), and a
child always trains it. Layer names are those of the authors' checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import nn
from torch.nn import functional

from polypath.core.config import Config
from polypath.core.errors import InvalidInput
from polypath.core.task import Image, InputSpec
from polypath.nn.patches import check_patches

PRESETS = {
    "Ti/16": "vit_tiny_patch16_224",
    "S/16": "vit_small_patch16_224",
    "B/16": "vit_base_patch16_224",
    "L/16": "vit_large_patch16_224",
}
PUBLISHED = "augreg_in21k"
"""Tag of the ImageNet-21k weights that a preset stands for (Steiner et al. 2021)."""

BLOCK = "encoderblock_"
NORM = "encoder_norm"


class VitOptions(Config):
    """A plain vision transformer.

    Args:
        name: `Ti/16`, `S/16`, `B/16`, `L/16`, or a timm name, with its tag where weights are wanted.
        depth: number of blocks; None: as published. Fewer than there are keeps the lowest.
        pretrained: start from published weights, downloaded by timm when first used; for a preset ImageNet-21k's.
            Position embeddings are interpolated to the images' size, bilinearly.
        options: further arguments of `timm.create_model`.
    """

    name: str = "Ti/16"
    depth: int | None = Field(None, ge=0)
    pretrained: bool = False
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("options")
    @classmethod
    def _free(cls, options: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(options.keys() & {"img_size", "in_chans", "num_classes", "depth"})
        if taken:
            raise ValueError(f"options: {taken} follow from the inputs and the other settings; leave them out")
        return options


class ClassToken(nn.Module):
    """Puts a learned token in front of the others."""

    def __init__(self, value: nn.Parameter) -> None:
        super().__init__()
        self.value = value

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, 1 + t, d) from (n, t, d)."""
        return torch.cat([self.value.expand(tokens.shape[0], -1, -1), tokens], dim=1)


class Position(nn.Module):
    """Adds what is learned of every position."""

    def __init__(self, value: nn.Parameter) -> None:
        super().__init__()
        self.value = value

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, t, d)."""
        return tokens + self.value


class FinalNorm(nn.Module):
    """One normalised vector an image, which the head reads.

    Args:
        norm: over the features of a token.
        pool: the class `token`, or the `avg` over patches.
        skip: tokens that are no patches.
        first: normalise before the mean (of no matter to a single token).
    """

    def __init__(self, norm: nn.Module, pool: Literal["token", "avg"], skip: int, first: bool) -> None:
        super().__init__()
        self.norm, self.pool, self.skip, self.first = norm, pool, skip, first

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, d) from (n, t, d)."""
        if self.pool == "token":
            found: torch.Tensor = self.norm(tokens[:, 0])
            return found
        patches = tokens[:, self.skip :]
        found = self.norm(patches).mean(1) if self.first else self.norm(patches.mean(1))
        return found


def vit_layers(inputs: InputSpec, options: VitOptions) -> tuple[dict[str, nn.Module], int]:
    """Layers by name, in order, and the length of the vector that heads read.

    Random values are drawn from the global generator, as the authors' library draws them (timm's scheme `jax`); on
    the meta device nothing is drawn or downloaded.

    Raises:
        InvalidInput: inputs that are no images it can cut into patches, no such model, or one that is no plain ViT.
    """
    if not isinstance(inputs, Image):
        raise InvalidInput(f"root 'vit' takes images, received {inputs!r}")
    meta = torch.get_default_device().type == "meta"
    values = None if meta or not options.pretrained else _made(options, {"in_chans": inputs.channels}, pretrained=True)
    size = (inputs.height, inputs.width)
    shape: dict[str, Any] = {"img_size": size, "in_chans": inputs.channels}
    if options.depth is not None:
        shape["depth"] = options.depth
    model = _made(options, shape, pretrained=False)
    _require_plain(model, options.name)
    check_patches(model, size, f"root: {options.name!r}")
    if values is not None:
        take_values(model, values)
    return _cut(model), int(model.num_features)


def _made(options: VitOptions, shape: Mapping[str, Any], *, pretrained: bool) -> Any:
    import timm

    name = PRESETS.get(options.name, options.name)
    if pretrained and options.name in PRESETS:
        name = f"{name}.{PUBLISHED}"
    # timm's own scheme draws block weights with deviation 0.02; the authors' library draws as `jax` does.
    given = {"num_classes": 0, "weight_init": "jax", **shape, **options.options}
    try:
        try:
            return timm.create_model(name, pretrained=pretrained, **given)
        except TypeError as error:
            if "weight_init" not in str(error):
                raise
            del given["weight_init"]  # no vision transformer of timm's own class; what it is will be said
            return timm.create_model(name, pretrained=pretrained, **given)
    except Exception as error:  # timm and its hub client raise many kinds for a missing model or connection
        raise InvalidInput(
            f"root: {options.name!r} cannot be made with {given}, pretrained={pretrained}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _require_plain(model: nn.Module, name: str) -> None:
    """Raise InvalidInput unless the layers above, one after the other, are all that the model computes."""
    from timm.models.vision_transformer import VisionTransformer

    problems = []
    if type(model) is not VisionTransformer:
        problems.append(f"it is a {type(model).__name__}")
    else:
        if model.num_reg_tokens or model.no_embed_class or model.pos_embed is None or model.dynamic_img_size:
            problems.append("it has register tokens, or position embeddings of another kind")
        if model.global_pool not in ("token", "avg") or model.attn_pool is not None or model.pool_include_prefix:
            problems.append(f"it pools by {model.global_pool!r}")
        extra = [model.norm_pre, model.patch_drop]
        if not all(isinstance(part, nn.Identity) for part in extra) or model.pos_drop.p or model.head_drop.p:
            problems.append("it has a norm or dropout between its layers")
        if isinstance(model.norm, nn.Identity) == isinstance(model.fc_norm, nn.Identity):
            problems.append("it has no final norm")
    if problems:
        raise InvalidInput(
            f"root: the layers of {name!r} cannot be enumerated: {'; '.join(problems)}. Plain timm ViTs are taken "
            "(vit_*_patch*), or describe a network that is a sequence of layers ('mlp', 'conv', 'timm_stages', ...)"
        )


def _cut(model: Any) -> dict[str, nn.Module]:
    layers: dict[str, nn.Module] = {"embedding": model.patch_embed}
    if model.cls_token is not None:
        layers["cls"] = ClassToken(model.cls_token)
    layers["posembed_input"] = Position(model.pos_embed)
    layers |= {f"{BLOCK}{index}": block for index, block in enumerate(model.blocks)}
    first = isinstance(model.fc_norm, nn.Identity)
    norm = model.norm if first else model.fc_norm
    layers[NORM] = FinalNorm(norm, model.global_pool, model.num_prefix_tokens, first)
    return layers


def new_block(inputs: InputSpec, options: VitOptions) -> nn.Module:
    """A randomly initialised block, drawn from the global generator."""
    assert isinstance(inputs, Image)
    shape = {"img_size": (inputs.height, inputs.width), "in_chans": inputs.channels, "depth": 1}
    block: nn.Module = _made(options, shape, pretrained=False).blocks[0]
    return block


@torch.no_grad()
def take_values(model: Any, source: Any) -> None:
    """Copy a ViT's values into one of another image size or with fewer blocks.

    Raises:
        InvalidInput: the model asks for blocks that the source does not have.
    """
    if len(model.blocks) > len(source.blocks):
        raise InvalidInput(
            f"root: depth={len(model.blocks)} is more than the {len(source.blocks)} blocks that were published"
        )
    found = dict(source.state_dict())
    skip = int(model.num_prefix_tokens)
    found["pos_embed"] = interpolated(
        found["pos_embed"], source.patch_embed.grid_size, model.patch_embed.grid_size, skip
    )
    model.load_state_dict({key: found[key] for key in model.state_dict()})


def interpolated(embedding: torch.Tensor, old: tuple[int, int], new: tuple[int, int], skip: int) -> torch.Tensor:
    """Position embeddings (1, skip + rows * columns, d) of another grid, bilinear with corners on corners.

    That is `scipy.ndimage.zoom(order=1)`, which the authors' library uses; timm would take bicubic.

    Args:
        embedding: of the old grid.
        old: its rows and columns.
        new: wanted rows and columns.
        skip: leading tokens that are no patches and stay as they are.
    """
    if math.prod(old) != embedding.shape[1] - skip:
        raise InvalidInput(f"position embeddings of {embedding.shape[1]} tokens do not make a grid of {old}")
    if tuple(old) == tuple(new):
        return embedding
    tokens, grid = embedding[:, :skip], embedding[:, skip:]
    grid = grid.reshape(1, *old, -1).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, size=tuple(new), mode="bilinear", align_corners=True)
    return torch.cat([tokens, grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
