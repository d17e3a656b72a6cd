"""Encodings of points: what stands between coordinates and a network."""

from fields3d.core.config import Table
from fields3d.encodings.fourier import fourier, gaussian_fourier, identity, integrated_fourier
from fields3d.encodings.hashgrid import hashgrid
from fields3d.encodings.planes import kplanes, triplane
from fields3d.encodings.spherical_harmonics import spherical_harmonics

ENCODINGS: Table = {
    "hashgrid": hashgrid,
    "triplane": triplane,
    "kplanes": kplanes,
    "fourier": fourier,
    "integrated_fourier": integrated_fourier,
    "gaussian_fourier": gaussian_fourier,
    "spherical_harmonics": spherical_harmonics,
    "identity": identity,
}
