"""Query text for a whole schema: what a person would write, and may edit."""

from __future__ import annotations

from relann.models.generators.dfs import dfs
from relann.models.generators.gat import gat
from relann.models.generators.hgt import hgt
from relann.models.generators.messages import PastLabels
from relann.models.generators.program import Target
from relann.models.generators.relgnn import relgnn
from relann.models.generators.sage import sage

__all__ = ["PastLabels", "Target", "dfs", "gat", "hgt", "relgnn", "sage"]
