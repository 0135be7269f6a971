"""The generator families, by the name they have in flows.yaml."""

from generators.autoregressive import Autoregressive
from generators.baselines import SDV
from generators.diffusion import Diffusion
from generators.flow import Flow
from generators.gan import GAN
from generators.gmm import GMM
from generators.images.autoregressive import PixelCNN
from generators.images.diffusion import Denoiser
from generators.images.flow import PictureFlow
from generators.images.gan import PictureGAN
from generators.images.gmm import PictureMixture
from generators.images.vae import PictureVAE
from generators.marginals import Marginals
from generators.series.autoregressive import Recurrent
from generators.series.diffusion import Denoised
from generators.series.gan import Adversarial
from generators.series.gmm import WindowMixture
from generators.series.hmm import HMM
from generators.series.marginals import Markov
from generators.series.vae import Latent
from generators.vae import VAE

FAMILIES = {"gmm": GMM, "autoregressive": Autoregressive, "flow": Flow, "vae": VAE, "gan": GAN, "diffusion": Diffusion, "marginals": Marginals, "sdv": SDV}

# what says the steps of series, given what stays
OF_SERIES = {
    "gmm": WindowMixture, "hmm": HMM, "autoregressive": Recurrent, "vae": Latent, "gan": Adversarial, "diffusion": Denoised, "marginals": Markov,
}  # fmt: skip

# what says the pixels of images, given what stands beside them
OF_IMAGES = {"gmm": PictureMixture, "autoregressive": PixelCNN, "flow": PictureFlow, "vae": PictureVAE, "gan": PictureGAN, "diffusion": Denoiser}
