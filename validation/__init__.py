"""Is the synthetic table like the real one, and as useful? Judges compare tables; they know no model and no encoder.

A judge is `judge(train, holdout, synthetic, *, seed=0, rare_below=10) -> Score`, found here by the name of its metric. Of series,
some look at steps, others at one row for each subject (summary.py), and some judges are for series alone.
"""

from importlib import import_module


def lazily(path: str, by_subject: bool = False, alone: bool = False):
    """The judge at `module:function`, imported when it is first called. by_subject: of series it sees one row for each subject; alone: and
    of real windows only those that do not overlap. more: what a judge of one's own is told beside (`fidelity.condition`: given)."""
    module, function = path.split(":")

    def judge(train, holdout, synthetic, *, seed=0, rare_below=10, **more):
        if by_subject and train.schema.time:
            from validation.summary import Summary, apart

            see = Summary.of(train)
            train, holdout = (apart(train), apart(holdout)) if alone else (train, holdout)
            train, holdout, synthetic = see.table(train), see.table(holdout), see.table(synthetic)
        return getattr(import_module(module), function)(train, holdout, synthetic, seed=seed, rare_below=rare_below, **more)

    judge.__name__ = judge.__qualname__ = function
    judge.__doc__ = f"{path}, imported when called."
    return judge


JUDGES = {
    "fidelity.shape": lazily("validation.marginals:shape"),
    "fidelity.dependence": lazily("validation.dependence:dependence"),
    "fidelity.coverage": lazily("validation.coverage:coverage", by_subject=True),
    "fidelity.missingness": lazily("validation.missingness:missingness"),
    "fidelity.detection": lazily("validation.detection:detection", by_subject=True),
    "fidelity.course": lazily("validation.series:course"),
    "fidelity.autocorrelation": lazily("validation.series:autocorrelation"),
    "fidelity.spectrum": lazily("validation.spectrum:spectrum"),
    "fidelity.crosscorrelation": lazily("validation.series:crosscorrelation"),
    "fidelity.transitions": lazily("validation.transitions:transitions"),
    "fidelity.timing": lazily("validation.series:timing"),
    "fidelity.condition": lazily("validation.condition:condition"),
    "utility.target": lazily("validation.utility:target", by_subject=True),
}
OF_SERIES = (
    "fidelity.course", "fidelity.autocorrelation", "fidelity.spectrum", "fidelity.crosscorrelation", "fidelity.transitions", "fidelity.timing",
)  # fmt: skip
