"""Sources, flows, publishing, the report and the command line.

In a notebook: `from pipelines import read, Synthesizer`, and `mechanism` for differential privacy.
"""

from __future__ import annotations

from typing import Any


def read(source: Any, **options: Any):
    """A Table from a path, glob, folder, URL, scikit-learn dataset or a pandas DataFrame.

    options: target, subject, columns ({name: {kind: ...}}) as in flows.yaml; of series also subject and time, or window (steps) and stride.
    For images, of a .npz, a folder or Parquet: images=True, and label (the column, or what to call that of the classes), size and split if wanted.
    Raises DataError for what cannot be read so.
    """
    from pathlib import Path

    from generators.data import DataError
    from pipelines import origin, reading, sources

    frame = hasattr(source, "columns") and hasattr(source, "dtypes")
    if not frame and not isinstance(source, str | Path):
        raise DataError(f"found {type(source).__name__}, expected a path, a URL, the name of a dataset or a pandas DataFrame")
    where, options = "DataFrame" if frame else str(source), {name: value for name, value in options.items() if value is not None}
    if options.pop("images", False):
        if frame:
            raise DataError("DataFrame: found beside images=True, expected the path of a .npz, of Parquet or of a folder")
        kind = "images"
    elif not frame and where in reading.DATASETS and not Path(where).exists():
        kind = "dataset"
    else:
        kind = "series" if {"time", "window", "stride"} & set(options) else "table"
    asked = origin.source({kind: where} | options, where)
    if not frame:
        return sources.load(asked, root=Path())
    import pyarrow as pa

    twice = source.columns[source.columns.duplicated()]
    if len(twice):
        raise DataError(f"DataFrame: found two columns {twice[0]!r}, expected names that differ")
    try:
        values = pa.Table.from_pandas(source, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as problem:  # its first words hold a value, its last ones the column
        raise DataError(f"DataFrame: {problem.args[-1]}, expected values of one type in each column") from None
    return sources.of_values(reading.storable(values), asked)


def __getattr__(name: str):
    if name == "Synthesizer":
        from generators.synthesizer import Synthesizer

        return Synthesizer
    if name == "mechanism":
        from pipelines.promise import mechanism

        return mechanism
    raise AttributeError(f"module 'pipelines' has no attribute {name!r}")
