"""Generative models of vectors and sets: noise, diffusion, samplers, guidance, normalising flows."""

from fields3d.core.config import Table
from fields3d.generative.diffusion import diffusion
from fields3d.generative.flows import FLOWS
from fields3d.generative.noise import NOISES
from fields3d.generative.samplers import SAMPLERS

DIFFUSIONS: Table = {
    "diffusion": diffusion,
}

__all__ = ["DIFFUSIONS", "FLOWS", "NOISES", "SAMPLERS"]
