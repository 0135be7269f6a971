"""The generator families, by the name they have in flows.yaml."""

from generators.autoregressive import Autoregressive
from generators.flow import Flow
from generators.gmm import GMM
from generators.vae import VAE

FAMILIES = {"gmm": GMM, "autoregressive": Autoregressive, "flow": Flow, "vae": VAE}
