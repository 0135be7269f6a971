"""Is the synthetic table like the real one, and as useful? Judges compare tables; they know no model and no encoder.

A judge is `judge(train, holdout, synthetic, *, seed=0, rare_below=10) -> Score`, found here by the name of its metric. Of series,
some look at steps, others at one row for each subject (rows.py), and some judges are for series or images alone.
"""

from importlib import import_module


def lazily(path: str, rows: str | None = None, images: str | None = None):
    """The judge at `module:function`, imported when it is first called. rows: what in rows.py makes rows for it of series and images, which it
    else sees as they are; images: the judge that stands in for it where there are images. more: what a judge of one's own is told
    beside (`fidelity.condition`: given)."""

    def judge(train, holdout, synthetic, *, seed=0, rare_below=10, **more):
        tables, at = (train, holdout, synthetic), path
        if images and train.schema.image:
            at = images
        elif rows and (train.schema.time or train.schema.image):
            tables = getattr(import_module("validation.rows"), rows)(*tables, seed)
        module, function = at.split(":")
        return getattr(import_module(module), function)(*tables, seed=seed, rare_below=rare_below, **more)

    judge.__name__ = judge.__qualname__ = path.split(":")[1]
    judge.__doc__ = f"{path}, imported when called."
    return judge


JUDGES = {
    "fidelity.shape": lazily("validation.marginals:shape"),
    "fidelity.dependence": lazily("validation.dependence:dependence"),
    "fidelity.coverage": lazily("validation.coverage:coverage", rows="known"),
    "fidelity.missingness": lazily("validation.missingness:missingness"),
    "fidelity.detection": lazily("validation.detection:detection", rows="known"),
    "fidelity.course": lazily("validation.series:course"),
    "fidelity.autocorrelation": lazily("validation.series:autocorrelation"),
    "fidelity.spectrum": lazily("validation.spectrum:spectrum"),
    "fidelity.crosscorrelation": lazily("validation.series:crosscorrelation"),
    "fidelity.transitions": lazily("validation.transitions:transitions"),
    "fidelity.timing": lazily("validation.series:timing"),
    "fidelity.condition": lazily("validation.condition:condition"),
    "fidelity.frechet": lazily("validation.images:frechet"),
    "fidelity.density": lazily("validation.images:density"),
    "fidelity.agreement": lazily("validation.images:agreement"),
    "utility.target": lazily("validation.utility:target", rows="known", images="validation.images:target"),
}
OF_SERIES = (
    "fidelity.course", "fidelity.autocorrelation", "fidelity.spectrum", "fidelity.crosscorrelation", "fidelity.transitions", "fidelity.timing",
)  # fmt: skip
OF_IMAGES = ("fidelity.frechet", "fidelity.density", "fidelity.agreement")
