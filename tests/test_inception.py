"""Inception's distances, by torchmetrics, with a file of weights of the right form: random ones, as nothing is downloaded."""

import pictures
import pytest
import torch

from generators.data import pixels_of
from generators.streams import stream
from validation import images, inception

FRESH, SEEN = pictures.stripes(150, seed=5), pictures.stripes(150)


def test_nobody_asks_inception_without_its_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert inception.weights() is None
    assert "inception" not in images.frechet(SEEN, FRESH, pictures.stripes(150, seed=9)).details


@pytest.mark.slow
def test_inception_knows_same_pictures_from_other_ones(monkeypatch, tmp_path):
    pytest.importorskip("torchmetrics", reason="the optional group inception is not installed")
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / inception.WEIGHTS
    path.parent.mkdir(parents=True)
    with monkeypatch.context() as during, stream(0):  # the network made without weights says which there are
        during.setattr(fidelity, "load_state_dict_from_url", lambda *_, **__: {})
        during.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: None)
        network = fidelity.FeatureExtractorInceptionV3("any", ["2048"])
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(layer.weight)  # that something of a picture comes through
        torch.save(network.state_dict(), path)
    monkeypatch.setattr(inception, "MOST", 30)
    assert inception.weights() == path
    dark = pictures.table(255 - pixels_of(FRESH) // 4, FRESH.column("label").to_numpy(zero_copy_only=False))
    found = inception.inception(path, FRESH, same=FRESH, train=SEEN, other=dark)
    for kind in ("frechet", "kernel"):
        same, train, other = (found[kind][name] for name in ("same", "train", "other"))
        assert same < train < other and abs(same) < 0.1 * other
    assert found["pictures"] == 30
    assert images.frechet(SEEN, FRESH, pictures.stripes(150, seed=9)).details["inception"]["pictures"] == 30
