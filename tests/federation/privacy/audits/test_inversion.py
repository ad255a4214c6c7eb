"""An update without protection shows its record; noise hides it; what only looks like protection does not."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
import torch

from edgefl.federation.privacy.audits.inversion import (
    RECOGNISABLE_DB,
    Attacker,
    Observed,
    Setting,
    audit_scene,
    inversion,
    observe,
    settings_of,
)
from edgefl.federation.privacy.audits.pictures import png
from edgefl.federation.privacy.audits.results import Scene


def scene(subject, setting) -> Scene:
    *_, found = audit_scene(subject, setting, records=2)
    assert isinstance(found, Scene)
    return found


def by_attack(found: Scene) -> dict[str, float]:
    return {one.attack: one.psnr for one in found.reconstructions}


@pytest.mark.slow
def test_a_plain_update_of_one_record_is_the_record(subject):
    plain = Setting("plain", None, 0.0, 1, is_site=False)
    assert by_attack(scene(subject, plain))["adaptive"] > 60


def test_the_first_layer_alone_gives_a_record_away(subject):
    features, labels = subject.pool(1)
    attacker = Attacker(subject.model(), subject.loss(), subject.pool(50)[0], 7)
    plain = Setting("plain", None, 0.0, 1, is_site=False)
    seen = observe(attacker, plain, features, labels, torch.Generator().manual_seed(1))
    psnr, _ = attacker.psnr(attacker.adaptive(seen)["first layer"], attacker.seen(features))
    assert psnr > 60


@pytest.mark.slow
def test_clipping_alone_hides_nothing_from_an_attacker_who_knows_of_it(subject):
    found = by_attack(scene(subject, Setting("clipped", 0.01, 0.0, 1, is_site=False)))
    assert found["adaptive"] > 60
    assert found["naive"] < RECOGNISABLE_DB


@pytest.mark.slow
@pytest.mark.parametrize(("clip", "attack", "way"), [(None, "naive", "distance"), (0.01, "adaptive", "direction")])
def test_matching_gradients_finds_records_that_stand_in_no_layers_weights(subject, clip, attack, way):
    unbiased = replace(subject, parameters={**subject.parameters, "kind": "unbiased"})
    found = scene(unbiased, Setting("one record", clip, 0.0, 1, is_site=False))
    [made] = [one for one in found.reconstructions if one.attack == attack]
    assert made.method == way, "there is no bias to divide by"
    assert made.mean_psnr > 40
    assert inversion(unbiased, [found], records=2).guess_psnr < RECOGNISABLE_DB


@pytest.mark.slow
def test_the_sites_noise_hides_the_record_and_the_verdict_says_so(subject):
    (own,) = [setting for setting in settings_of(subject, 3, sums=False) if setting.is_site]
    found = scene(subject, own)
    assert own.sigma > 0.3
    assert found.psnr < RECOGNISABLE_DB
    assert inversion(subject, [found], records=2).passed


@pytest.mark.slow
def test_noise_that_is_decorative_is_caught(subject):
    found = scene(subject, Setting("decorative", 1.0, 1e-5, 1, is_site=True))
    assert not inversion(subject, [found], records=2).passed


def test_a_sum_is_the_devices_clipped_and_noised_updates_and_nothing_more(subject):
    features, labels = subject.pool(3)
    attacker = Attacker(subject.model(), subject.loss(), features, 7)
    generator = torch.Generator().manual_seed(1)
    total = observe(attacker, Setting("sum", 0.1, 0.0, 3, is_site=False), features, labels, generator)
    parts = [attacker.gradient(features[n : n + 1], labels[n : n + 1]) for n in range(3)]
    norms = [torch.stack([part.square().sum() for part in one]).sum().sqrt() for one in parts]
    for place, found in enumerate(total.gradient):
        torch.testing.assert_close(
            found, sum(one[place] * (0.1 / norm).clamp(max=1) for one, norm in zip(parts, norms, strict=True))
        )
    assert isinstance(total, Observed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("private", "sums", "own"), [(True, False, "ε 2"), (False, False, "plain"), (True, True, "sum of 4, ε 2")]
)
def test_the_scene_of_the_sites_own_terms_is_marked(subject, private, sums, own):
    settings = settings_of(replace(subject, private=private), 4, sums=sums)
    assert [setting.name for setting in settings if setting.is_site] == [own]
    assert len(settings) == 5


def test_psnr_is_that_of_its_definition(subject):
    features, _ = subject.pool(50)
    attacker = Attacker(subject.model(), subject.loss(), features, 7)
    wrong = (features[:1] + 0.1).clamp(attacker.low, attacker.high)
    error = float((wrong - features[:1]).square().mean()) / (attacker.high - attacker.low) ** 2
    found, _ = attacker.psnr(wrong, features[:1])
    assert found == pytest.approx(-10 * torch.log10(torch.tensor(error)).item(), abs=1e-3)


def test_records_become_pictures_where_they_can():
    for shape in ((1, 4, 5), (3, 4, 5), (49,), (26,)):
        assert base64.b64decode(png(torch.rand(shape), 0, 1)).startswith(b"\x89PNG")
    assert png(torch.rand(1000), 0, 1) == ""
