"""From a ``compute_target`` to a running Dask cluster and back to nothing.

``open_cluster`` returns a Client of the cluster that a compute target names. What it had to start
(a local cluster, a client) its ``close`` ends again; what was running before is left as it was found.

Dask takes half a second to import, so it is imported with the first use of ``open_cluster`` or
``OpenCluster``; ``warm_up``, which imports none, lets that time pass usefully.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prs_dask.clusters.fork_server import cool_down, warm_up
from prs_dask.lazy_names import loaded_on_first_use

if TYPE_CHECKING:
    from prs_dask.clusters.cluster_outline import ClusterOutline, outline
    from prs_dask.clusters.event_loops import refuse_to_block
    from prs_dask.clusters.targets import OpenCluster, check_target, open_cluster
    from prs_dask.clusters.versions import check_versions

__all__ = [
    "ClusterOutline",
    "OpenCluster",
    "check_target",
    "check_versions",
    "cool_down",
    "open_cluster",
    "outline",
    "refuse_to_block",
    "warm_up",
]

_HOMES = {
    **dict.fromkeys(("OpenCluster", "check_target", "open_cluster"), "targets"),
    **dict.fromkeys(("ClusterOutline", "outline"), "cluster_outline"),
    "check_versions": "versions",
    "refuse_to_block": "event_loops",
}
__getattr__ = loaded_on_first_use(__name__, _HOMES)
