"""What does the synthetic table give away? Attacks, each with a control, an interval and a positive control.

A judge is `judge(train, holdout, synthetic, *, seed=0, rare_below=10) -> Score`, found here by the name of its metric.
"""

from validation import lazily

JUDGES = {
    "privacy.copies": lazily("privacy.copies:copies", rows="attacked"),
    "privacy.membership": lazily("privacy.membership:membership", rows="strangers"),
    "privacy.attribute": lazily("privacy.attribute:attribute", rows="strangers"),
    "privacy.singling": lazily("privacy.singling:singling", rows="strangers"),
    "privacy.linkability": lazily("privacy.linkability:linkability", rows="strangers"),
    "privacy.rare": lazily("privacy.rare:rare"),
    "privacy.passages": lazily("privacy.passages:passages"),
    "privacy.disclosure": lazily("privacy.verbatim:disclosure"),
}
OF_SERIES = ("privacy.passages",)
