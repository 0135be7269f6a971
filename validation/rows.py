"""Series and images as rows, for judges of tables: one row for each subject, three tables in and three out.

What a judge knows decides how it looks. `known` has learned from the training data what to look at; `attacked` has only what an attacker
has, the synthetic data: a network that has learned from the training images sees them otherwise than strangers, whatever was published.
"""

from __future__ import annotations

from generators.data import Table
from validation.pictures import look
from validation.summary import Summary, apart

Tables = tuple[Table, Table, Table]


def known(train: Table, holdout: Table, synthetic: Table, seed: int) -> Tables:
    """By the training data."""
    see = Summary.of(train) if train.schema.time else look(train, seed)
    return see.table(train), see.table(holdout), see.table(synthetic)


def attacked(train: Table, holdout: Table, synthetic: Table, seed: int) -> Tables:
    """Of images, by the synthetic ones."""
    see = Summary.of(train) if train.schema.time else look(synthetic, seed)
    return see.table(train), see.table(holdout), see.table(synthetic)


def strangers(train: Table, holdout: Table, synthetic: Table, seed: int) -> Tables:
    """The same, and of real windows of one long series only those that do not overlap: others are no strangers to each other."""
    if not train.schema.time:
        return attacked(train, holdout, synthetic, seed)
    see = Summary.of(train)
    return see.table(apart(train)), see.table(apart(holdout)), see.table(synthetic)
