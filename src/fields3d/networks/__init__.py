"""Networks: what stands between encoded points and a field's values."""

from fields3d.core.config import Table
from fields3d.networks.mlp import mlp

NETWORKS: Table = {
    "mlp": mlp,
}
