"""What names in FROM mean before the database is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from relann.algebra.nodes import Node


@dataclass
class Environment:
    """Relations that names in FROM may mean before the database is asked: CTEs, layer arguments.

    Values are made on first use, once, so a CTE read twice is one node with one set of parameters.
    """

    parent: Environment | None = None
    makers: dict[str, Callable[[], Node]] = field(default_factory=dict)
    made: dict[str, Node] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)

    def define(self, name: str, make: Callable[[], Node]) -> None:
        """Make a name known."""
        self.makers[name.casefold()] = make
        self.shown[name.casefold()] = name

    def find(self, name: str) -> Node | None:
        """The node a name stands for, None when it is not defined here or above."""
        key = name.casefold()
        if key in self.made:
            return self.made[key]
        if key in self.makers:
            self.made[key] = self.makers[key]()
            return self.made[key]
        return self.parent.find(name) if self.parent else None

    def names(self) -> list[str]:
        """All names known here, as they were written."""
        return [*self.shown.values(), *(self.parent.names() if self.parent else [])]
