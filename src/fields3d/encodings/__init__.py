"""Encodings of points: what stands between coordinates and a network."""

from fields3d.core.config import Table
from fields3d.encodings.fourier import fourier, gaussian_fourier, identity
from fields3d.encodings.hashgrid import hashgrid

ENCODINGS: Table = {
    "hashgrid": hashgrid,
    "fourier": fourier,
    "gaussian_fourier": gaussian_fourier,
    "identity": identity,
}
