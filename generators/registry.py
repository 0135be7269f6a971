"""The generator families, by the name they have in flows.yaml."""

from generators.autoregressive import Autoregressive
from generators.baselines import SDV
from generators.diffusion import Diffusion
from generators.flow import Flow
from generators.gan import GAN
from generators.gmm import GMM
from generators.hmm import HMM
from generators.recurrent import Recurrent
from generators.vae import VAE

FAMILIES = {"gmm": GMM, "autoregressive": Autoregressive, "flow": Flow, "vae": VAE, "gan": GAN, "diffusion": Diffusion, "sdv": SDV}

OF_SERIES = {"hmm": HMM, "autoregressive": Recurrent}  # what says the steps, given what stays
