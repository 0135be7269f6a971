"""Is the synthetic table like the real one, and as useful? Judges compare tables; they know no model and no encoder.

A judge is `judge(train, holdout, synthetic, *, seed=0, rare_below=10) -> Score`, found here by the name of its metric.
"""

from importlib import import_module


def lazily(path: str):
    """The judge at `module:function`, imported when it is first called."""
    module, function = path.split(":")

    def judge(train, holdout, synthetic, *, seed=0, rare_below=10):
        return getattr(import_module(module), function)(train, holdout, synthetic, seed=seed, rare_below=rare_below)

    judge.__name__ = judge.__qualname__ = function
    judge.__doc__ = f"{path}, imported when called."
    return judge


JUDGES = {
    "fidelity.shape": lazily("validation.marginals:shape"),
    "fidelity.dependence": lazily("validation.dependence:dependence"),
    "fidelity.coverage": lazily("validation.coverage:coverage"),
    "fidelity.missingness": lazily("validation.missingness:missingness"),
    "fidelity.detection": lazily("validation.detection:detection"),
    "utility.target": lazily("validation.utility:target"),
}
