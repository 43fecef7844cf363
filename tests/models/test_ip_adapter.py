"""An IP-Adapter is installed, read and removed again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny import state_bytes, tiny_of
from helpers.tiny_ip_adapter import tiny_ip_adapter

from efface.core.errors import EffaceError
from efface.models.ip_adapter import installed_ip_adapter


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_images_change_predictions_and_the_model_stays(family: str, tmp_path: Path) -> None:
    model = tiny_of(family)
    folder, state, processors = tiny_ip_adapter(tmp_path / "a", model), state_bytes(model), model.unet.attn_processors
    z, t, cond = torch.randn(2, 4, 8, 8), torch.tensor([400, 400]), model.encode(["a gun", "a cat"])
    before = model.predict(z, t, cond).value
    with installed_ip_adapter(model, folder) as adapter, torch.no_grad():
        tokens = adapter.tokens(torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16)]))
        assert tokens.shape == (2, 4, cond.states.shape[-1])
        assert torch.equal(model.predict(z, t, cond).value, before), "without images it is the model's own"
        shown = adapter.predict(model.predict, z, t, cond, tokens).value
        assert not torch.allclose(shown, before)
        assert not torch.allclose(adapter.predict(model.predict, z, t, cond, tokens.flip(0)).value, shown)
    assert torch.equal(model.predict(z, t, cond).value, before)
    assert state_bytes(model) == state
    assert list(model.unet.attn_processors) == list(processors)
    assert model.pipe.image_encoder is None


def test_a_folder_without_an_adapter_or_with_another_model_s_is_refused(tmp_path: Path) -> None:
    model = tiny_of("sd1")
    with pytest.raises(EffaceError, match="is no IP-Adapter: put one file"), installed_ip_adapter(model, tmp_path):
        pass
    folder = tiny_ip_adapter(tmp_path / "sdxl", tiny_of("sdxl"))
    with pytest.raises(EffaceError, match=r"tiny\.safetensors does not fit"), installed_ip_adapter(model, folder):
        pass
    assert model.unet.encoder_hid_proj is None
