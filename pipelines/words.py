"""What each metric means, in words for people who do not know its id."""

from __future__ import annotations

from typing import NamedTuple


class Words(NamedTuple):
    """What a metric means to somebody who does not know its id."""

    title: str
    asks: str
    scale: str = ""
    wrong: str = ""  # what is so where the figure is past its bound
    count: bool = False  # a census of whole numbers, without an interval


WORDS = {
    "fidelity.shape": Words(
        "Column shapes", "Is each column distributed as the real one?", "1 is equal.",
        "columns are not distributed as the real ones",
    ),
    "fidelity.dependence": Words(
        "Dependence", "Do columns hang together, two by two, as the real ones do?", "1 is equal.",
        "columns do not hang together as the real ones do",
    ),
    "fidelity.coverage": Words(
        "Coverage", "Is every kind of real row there, or did the generator collapse onto some?", "1: every one.",
        "real rows have no synthetic row near them: whole kinds are missing (mode collapse), or synthetic rows lie apart from all of them; "
        "try more passes, a lower rate (a larger pack, if it is a gan), or another family",
    ),
    "fidelity.missingness": Words(
        "Missing values", "Is the same missing, as often and together?", "0 is equal.",
        "columns are empty, alone or together, more or less often than the real ones",
    ),
    "fidelity.detection": Words(
        "Detection", "Can a classifier tell synthetic rows from real ones?", "1: not at all; 0: every one.",
        "a classifier tells synthetic rows from real ones",
    ),
    "fidelity.course": Words(
        "Course", "Is each column, in each quarter of a series, distributed as the real one?", "1 is equal.",
        "columns are not distributed over the course of a series as the real ones",
    ),
    "fidelity.autocorrelation": Words(
        "Autocorrelation", "Does a step hang together with those before as in the real series?", "1 is equal.",
        "steps do not hang together with those before as the real ones do",
    ),
    "fidelity.spectrum": Words(
        "Spectrum", "Do numbers move as fast, and are they as rough, as the real ones?", "1 is equal.",
        "series are smoother or rougher than the real ones",
    ),
    "fidelity.crosscorrelation": Words(
        "Cross-correlation", "Do columns go together, at a step and from step to step, as the real ones do?", "1 is equal.",
        "columns do not go together from step to step as the real ones do",
    ),
    "fidelity.transitions": Words(
        "Transitions", "Do values of categories follow each other as in the real series?", "1 is equal.",
        "values of categories do not follow each other as the real ones do",
    ),
    "fidelity.timing": Words(
        "Timing", "Are there as many steps, so far apart, on such days and at such times, as in the real series?", "1 is equal.",
        "series are not as long, steps not as far apart, or not at such times, as the real ones",
    ),
    "fidelity.condition": Words(
        "Conditioned rows", "Are rows that were asked for by a condition distributed as the real ones that meet it?", "1 is equal.",
        "rows that were asked for by a condition are not distributed as the real ones that meet it",
    ),
    "fidelity.frechet": Words(
        "Distance of images", "Are images as near to held-out ones as training images are?", "1: no farther.",
        "images are not distributed as the real ones, by what a network sees in them",
    ),
    "fidelity.density": Words(
        "Density of images", "Do images lie where real ones do?", "1: as real ones; below, some are unlike any.",
        "images lie where there are hardly any real ones",
    ),
    "fidelity.agreement": Words(
        "Labels of images", "Do images show what their label says?", "1: as surely as real ones.",
        "a network that knows real images takes many for another kind than their label says",
    ),
    "utility.target": Words(
        "Utility", "Does a model trained on synthetic rows work on real people?", "1: nothing is lost.",
        "a model trained on synthetic rows predicts real people worse than one trained on real rows",
    ),
    "privacy.copies": Words(
        "Copied rows", "Do synthetic rows sit on real ones?", "A share beyond chance. A smoke test, no proof.",
        "synthetic rows sit on rows that were learned from",
    ),
    "privacy.membership": Words(
        "Membership", "Can somebody tell who was in the training table?", "0: no better than chance.",
        "an attacker can tell who was in the training table",
    ),
    "privacy.attribute": Words(
        "Attribute inference", "Can a secret be learned of a person beyond what holds for strangers?", "0: no.",
        "an attacker learns secrets of people in the training table beyond what holds for strangers",
    ),
    "privacy.singling": Words(
        "Singling out", "Does a guess that the synthetic table suggests fit exactly one person, beyond what luck does with strangers?", "0: no.",
        "guesses from the synthetic table single out people who are in the training table",
    ),
    "privacy.linkability": Words(
        "Linkability", "Does the synthetic table link two records of one person that share no column, beyond what luck does with strangers?", "0: no.",
        "the synthetic table links records of one person that share no column",
    ),
    "privacy.rare": Words(
        "Rare values", "Did values come out that only a few people hold?", "How many. Real rows are no yardstick: there must be none.",
        "values came out that only a few people hold", True,
    ),
    "privacy.passages": Words(
        "Passages of series", "Did a passage of one person's series come out?", "Of how many people, beyond what strangers share by chance.",
        "passages of single people's series came out, longer than strangers share them by chance", True,
    ),
    "privacy.disclosure": Words(
        "Identifiers and text", "Did real identifiers, names or texts come out?", "How many.",
        "real identifiers, names or texts came out", True,
    ),
    "contract.source": Words("Contract of the source", "Is the real table as it was promised to be?"),
    "contract.synthetic": Words("Contract of the synthetic table", "Does it keep types, empty shares, ranges and allowed values?"),
}  # fmt: skip
