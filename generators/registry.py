"""The generator families, by the name they have in flows.yaml."""

from generators.gmm import GMM

FAMILIES = {"gmm": GMM}
