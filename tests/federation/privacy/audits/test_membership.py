"""A membership audit finds what leaks, and finds nothing where nothing does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from edgefl.federation.privacy.audits.membership import _attack, _leave_one_out, audit_level, lira, membership
from edgefl.federation.privacy.audits.results import Level
from edgefl.federation.privacy.audits.subject import AuditUnfit, Subject
from edgefl.federation.privacy.plan import PrivacyTerms
from edgefl.progress import Progress


def level(subject: Subject, epsilon: float | None, models: int = 16, records: int = 160) -> Level:
    *events, found = audit_level(subject, epsilon, models=models, records=records)
    assert all(isinstance(event, Progress) for event in events)
    assert isinstance(found, Level)
    return found


def overfitted(subject: Subject) -> Subject:
    eager = {**subject.parameters, "local_epochs": 4.0, "learning_rate": 3.0}
    return replace(subject, parameters=eager, terms=replace(subject.terms, max_grad_norm=100.0))


@pytest.mark.slow
def test_a_model_that_learned_its_records_by_heart_is_found_out(subject):
    found = level(overfitted(subject), None)
    assert found.accuracy_in > 0.95
    assert found.accuracy_out < 0.65
    for attack in found.attacks:
        assert attack.auc.low > 0.75
    assert found.epsilon_low > 2


@pytest.mark.slow
def test_enough_noise_leaves_nothing_to_find_and_the_same_seed_finds_the_same(subject):
    one, two = level(subject, 1.0), level(subject, 1.0)
    assert one.model_copy(update={"seconds": 0.0}) == two.model_copy(update={"seconds": 0.0})
    for attack in one.attacks:
        assert attack.auc.low < 0.5 + 0.03
        assert attack.auc.value < 0.56
    assert one.epsilon_low < 0.5
    assert not one.is_broken


@pytest.mark.slow
def test_training_whose_noise_is_not_what_was_accounted_for_is_caught(subject):
    class Broken(Subject):
        def plan(self, epsilon):
            return replace(super().plan(epsilon), sigma=0.0)

    honest = overfitted(subject)
    broken = Broken(honest.task, honest.parameters, honest.terms, honest.private, honest.directories)
    found = level(broken, 1.0)
    assert found.is_broken
    assert not membership(broken, [found], models=16, records=160).passed


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LiRA", "loss"])
def test_of_models_that_never_saw_the_records_nothing_is_proven(kind):
    rng = np.random.default_rng(8)
    hard = rng.standard_normal(300)  # some records are harder than others, whoever saw them
    found = [
        _attack(kind, {kind: hard + 0.3 * rng.standard_normal((16, 300))}, rng.random((16, 300)) < 0.5, 1e-5) for _ in range(20)
    ]
    assert sum(attack.epsilon_low > 0 for attack in found) <= 3  # 2.5 % each are allowed
    assert sum(attack.auc.low <= 0.5 <= attack.auc.high for attack in found) >= 16


def test_the_likelihood_ratio_is_that_of_two_normal_distributions():
    rng = np.random.default_rng(5)
    members = rng.random((20, 30)) < 0.5
    shadow, target = rng.standard_normal((20, 30)) + 2.0 * members, rng.standard_normal(30)
    logs = []
    for mask in (members, ~members):
        means = [shadow[mask[:, record], record].mean() for record in range(30)]
        errors = np.concatenate([shadow[mask[:, record], record] - means[record] for record in range(30)])
        logs.append(norm.logpdf(target, means, np.sqrt((errors**2).sum() / (len(errors) - 30))))
    np.testing.assert_allclose(lira(target, shadow, members), logs[0] - logs[1])


def test_a_record_that_no_shadow_model_saw_is_not_guessed_at():
    members = np.ones((8, 3), bool)
    members[:4, 1:] = False
    scores = lira(np.full(3, 5.0), np.random.default_rng(1).standard_normal((8, 3)), members)
    assert scores[0] == 0
    assert _leave_one_out(np.zeros((8, 3)), np.ones((8, 3), bool)).tolist() == np.zeros((8, 3)).tolist()


def test_a_claim_that_a_device_would_refuse_is_a_finding_and_no_failure(subject):
    found = level(replace(subject, terms=PrivacyTerms(8.0, 2.0, 0.009, 1.0, 5)), 3.0)
    assert "promises nothing" in found.refused
    assert membership(subject, [found], models=16, records=160).figures == {}


@pytest.mark.parametrize(("models", "records", "says"), [(7, 160, "even number"), (16, 20, "too few")])
def test_too_little_to_audit_with_is_said(subject, models, records, says):
    with pytest.raises(AuditUnfit, match=says):
        level(subject, None, models, records)
