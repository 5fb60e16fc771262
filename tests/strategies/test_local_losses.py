"""Local losses for label skew: their limits, their gradients, and what they compose with."""

import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from client_app.training import LOSSES, local_loss, train_locally
from foundation.members import LOCAL_LOSSES
from foundation.settings.configuration import ConfigurationError, RunConfiguration, key_table
from server_app import preflight
from strategies import get, label_loss, prior_left
from strategies.fedlc import calibration
from strategies.fedntd import not_true_distillation
from strategies.fedrs import restriction
from strategies.fedvls import logit_suppression, vacant_class_distillation
from strategies.logit_adjustment import log_prior

CLASSES = 5
SKEWED = torch.tensor([12, 0, 3, 0, 1])
EQUAL = torch.full((CLASSES,), 4)
NAMES = {
    "fedlc": "calibrated",
    "fedrs": "restricted-softmax",
    "fedntd": "not-true-distillation",
    "fedvls": "vacant-class-distillation",
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.layer = nn.Linear(4, CLASSES)

    def embed(self, images):
        return self.norm(images)

    def classify(self, features):
        return self.layer(features)


class Source:
    """Three batches in which only the classes of SKEWED that the client has occur."""

    def epoch(self, generator):
        draw = torch.Generator().manual_seed(1)
        labels = torch.tensor([0] * 12 + [2] * 3 + [4])[torch.randperm(16, generator=draw)]
        for chosen in labels.split(6):
            yield torch.randn(len(chosen), 4, generator=draw), chosen


def network(seed=0):
    torch.manual_seed(seed)
    return Net()


def trained(name, counts=SKEWED, strategy="fedavg", **keys):
    """Train a small network for two epochs and return its parameters, joined."""
    return torch.cat([value.flatten() for value in trained_state(name, counts, strategy, **keys)])


def trained_state(name, counts=SKEWED, strategy="fedavg", frozen=(), **keys):
    """Train a small network, but for parameters that are named; return its state's values."""
    values = {key.replace("__", ".").replace("_", "-"): value for key, value in keys.items()}
    configuration = RunConfiguration.parse(
        {"learning-rate": 0.1, "local-epochs": 2, "strategy": strategy, **values}
    )
    model = network()
    for parameter in frozen:
        model.get_parameter(parameter).requires_grad_(False)
    declared = get(strategy)
    plan = declared.client(configuration)
    plan.begin_round(model, {})
    loss = LOSSES.get(name) or label_loss(name).loss(configuration, counts, model)
    train_locally(model, Source(), plan, generator=torch.Generator(), loss=loss)
    return list(model.state_dict().values())


def batch(seed=3, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(7, CLASSES, generator=draw, dtype=dtype)
    teacher = torch.randn(7, CLASSES, generator=draw, dtype=dtype)
    return logits, teacher, torch.tensor([0, 2, 4, 0, 0, 2, 0])


# ----------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("logit-adjusted", {"logit_adjustment__tau": 0.0}),
        ("calibrated", {"logit_adjustment__tau": 0.0}),
        ("restricted-softmax", {"fedrs__alpha": 1.0}),
        ("not-true-distillation", {"fedntd__beta": 0.0}),
    ],
)
def test_switched_off_it_is_fedavg_bit_for_bit_and_switched_on_it_is_not(name, off):
    plain = trained("cross-entropy")
    assert torch.equal(trained(name, **off), plain)
    assert not torch.equal(trained(name), plain)


@pytest.mark.parametrize("name", ["logit-adjusted", "calibrated", "restricted-softmax"])
def test_with_all_classes_in_equal_numbers_it_is_fedavg_bit_for_bit(name):
    assert torch.equal(trained(name, counts=EQUAL), trained("cross-entropy"))


def test_fedvls_without_its_terms_is_logit_adjustment():
    off = {"fedvls__distillation": 0.0, "fedvls__suppression": 0.0}
    adjusted = trained("logit-adjusted", logit_adjustment__epsilon=1e-9)
    assert torch.equal(trained("vacant-class-distillation", **off), adjusted)
    assert not torch.equal(trained("vacant-class-distillation"), adjusted)


def test_fedvls_without_vacant_classes_needs_no_teacher():
    configuration = RunConfiguration.parse({})
    loss = label_loss("vacant-class-distillation").loss(configuration, EQUAL, network())
    loss.observe(torch.zeros(2, 4))
    assert torch.isfinite(loss(torch.zeros(2, CLASSES), torch.tensor([0, 1])))


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox"])
@pytest.mark.parametrize("name", LOCAL_LOSSES.ours)
def test_frozen_parameters_stay_and_the_others_move(name, strategy):
    frozen = ["norm.weight", "norm.bias", "layer.bias"]
    begin = network().state_dict()
    end = dict(zip(begin, trained_state(name, strategy=strategy, frozen=frozen), strict=True))
    for parameter in frozen:
        assert torch.equal(end[parameter], begin[parameter])
    assert not torch.equal(end["layer.weight"], begin["layer.weight"])


def test_a_model_that_is_frozen_whole_is_refused():
    with pytest.raises(ValueError, match="all parameters of the model are frozen"):
        trained_state("cross-entropy", frozen=[name for name, _ in network().named_parameters()])


# ------------------------------------------------------------------------------------ mathematics


def test_adjusted_softmax_is_bayes_rule():
    """softmax(z + log π)_c = π_c·e^{z_c} / Σ π·e^z: z are log-likelihoods up to a constant."""
    logits, _, _ = batch()
    counts = torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0], dtype=torch.float64)
    posterior = F.softmax(logits + log_prior(counts, 1.0, 1e-300), dim=1)
    joint = counts / counts.sum() * logits.exp()
    assert torch.allclose(posterior, joint / joint.sum(1, keepdim=True), rtol=1e-12)


def test_fedlc_is_the_pairwise_margin_of_the_paper():
    """Their equation 7: log(1 + Σ_{c ≠ y} exp(z_c - z_y + τ(n_y^{-1/4} - n_c^{-1/4})))."""
    logits, _, labels = batch(dtype=torch.float32)
    tau, counts = 0.7, SKEWED.float()
    found = F.cross_entropy(logits + calibration(SKEWED, tau), labels, reduction="none")
    for row, label in enumerate(labels):
        others = [c for c in range(CLASSES) if c != label and counts[c] > 0]
        total = sum(
            torch.exp(
                logits[row, c]
                - logits[row, label]
                + tau * (counts[label] ** -0.25 - counts[c] ** -0.25)
            )
            for c in others
        )
        assert float(found[row]) == pytest.approx(float(torch.log1p(total)), rel=1e-5)


@pytest.mark.parametrize("name", ["calibrated", "logit-adjusted", "restricted-softmax"])
def test_absent_classes_are_pushed_down_less(name):
    configuration = RunConfiguration.parse({})
    loss = label_loss(name).loss(configuration, SKEWED, network())
    logits, _, labels = batch(dtype=torch.float32)
    logits.requires_grad_()
    (own,) = torch.autograd.grad(loss(logits, labels), logits)
    (plain,) = torch.autograd.grad(F.cross_entropy(logits, labels), logits)
    absent = SKEWED == 0
    assert torch.isfinite(own).all()
    assert float(own[:, absent].sum()) < 0.7 * float(plain[:, absent].sum())
    if name == "calibrated":
        assert float(own[:, absent].abs().max()) == 0.0


def test_restriction_scales_absent_classes_alone():
    assert torch.equal(restriction(SKEWED, 0.25), torch.tensor([1, 0.25, 1, 0.25, 1]))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_not_true_distillation_knows_nothing_of_the_true_class(temperature):
    logits, teacher, labels = batch()
    value = not_true_distillation(logits, teacher, labels, temperature)
    for changed in (logits, teacher):
        changed.scatter_add_(1, labels[:, None], torch.full((7, 1), 5.0).double())
    assert float(not_true_distillation(logits, teacher, labels, temperature)) == float(value) > 0
    # It is 0 exactly where both agree on the others, up to a constant.
    shifted = teacher + torch.randn(7, 1).double()
    assert float(not_true_distillation(shifted, teacher, labels, temperature)) < 1e-12


def test_not_true_distillation_is_the_divergence_written_out():
    logits, teacher, labels = batch()
    total = 0.0
    for own, taught, label in zip(logits, teacher, labels, strict=True):
        keep = torch.arange(CLASSES) != label
        p, q = F.softmax(taught[keep] / 2, 0), F.softmax(own[keep] / 2, 0)
        total += float((p * (p / q).log()).sum())
    found = not_true_distillation(logits, teacher, labels, 2.0)
    assert float(found) == pytest.approx(4 * total / 7, rel=1e-12)


def test_vacant_class_distillation_looks_at_vacant_classes_alone():
    logits, teacher, _ = batch()
    vacant = torch.tensor([1, 3])
    value = vacant_class_distillation(logits, teacher, vacant)
    p, q = F.softmax(teacher[:, vacant], 1), F.softmax(logits[:, vacant], 1)
    assert float(value) == pytest.approx(float((p * (p / q).log()).sum() / 7), rel=1e-12)
    logits[:, [0, 2, 4]] += 3.0
    assert float(vacant_class_distillation(logits, teacher, vacant)) == float(value)


def test_logit_suppression_is_the_sum_written_out():
    logits, _, labels = batch()
    prior = SKEWED.double() / SKEWED.sum()
    total = 0.0
    for c in range(CLASSES):
        if prior[c] == 0:
            continue
        inside = [
            torch.exp(logits[i, c] - torch.log(CLASSES * prior[c])) if labels[i] != c else 1.0
            for i in range(7)
        ]
        total += float(prior[c]) * float(torch.log(torch.as_tensor(sum(inside)) / 7))
    assert float(logit_suppression(logits, labels, prior)) == pytest.approx(total, rel=1e-7)


@pytest.mark.parametrize("name", LOCAL_LOSSES.ours)
def test_gradients_agree_with_finite_differences(name):
    model = network().double()
    loss = label_loss(name).loss(
        RunConfiguration.parse({"fedvls.suppression": 0.5}), SKEWED.double(), model
    )
    logits, images, labels = batch()
    loss.observe(images[:, :4])
    assert torch.autograd.gradcheck(lambda z: loss(z, labels), (logits.requires_grad_(),))


def test_a_teacher_is_not_moved_by_training():
    model = network()
    loss = label_loss("not-true-distillation").loss(RunConfiguration.parse({}), SKEWED, model)
    images = torch.randn(6, 4)
    before = loss.teacher(images)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    model.train()
    model.embed(images)
    assert torch.equal(loss.teacher(images), before)


# ------------------------------------------------------------------------------------ composition


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_is_fedavg_with_its_loss(name):
    declared = get(name)
    assert declared.loss_name(preflight.parse({"strategy": name})) == NAMES[name]
    assert declared.server is get("fedavg").server
    preflight.parse({"strategy": name, "local-loss": NAMES[name]})


@pytest.mark.parametrize("strategy", ["scaffold", "fedprox", "fednova", "moon", "fedadam", "krum"])
@pytest.mark.parametrize("name", LOCAL_LOSSES.ours)
def test_any_other_strategy_takes_any_local_loss(strategy, name):
    configuration = preflight.parse({"strategy": strategy, "local-loss": name})
    assert get(strategy).loss_name(configuration) == name


def test_the_proximal_term_is_added_to_a_local_loss():
    near = trained("logit-adjusted", strategy="fedprox", proximal_mu=5.0)
    assert not torch.equal(near, trained("logit-adjusted"))
    assert torch.equal(
        trained("logit-adjusted", strategy="fedprox", proximal_mu=0.0), trained("logit-adjusted")
    )


def test_two_losses_that_contradict_each_other_are_refused():
    with pytest.raises(
        ConfigurationError,
        match=r"'fedlc' is federated averaging with the local loss 'calibrated', and local-loss = "
        r"'restricted-softmax' contradicts it.*strategy=fedavg local-loss=restricted-softmax",
    ):
        preflight.parse({"strategy": "fedlc", "local-loss": "restricted-softmax"})


def test_the_key_offers_what_there_is():
    (offered,) = [info.range for name, _, info in key_table() if name == "local-loss"]
    assert set(offered.split(", ")) == {*LOSSES, *LOCAL_LOSSES.ours, "module:name"}


@pytest.mark.parametrize(
    ("keys", "left"),
    [
        ({}, 1.0),
        ({"local-loss": "symmetric-cross-entropy"}, 1.0),
        ({"local-loss": "logit-adjusted"}, 0.0),
        ({"local-loss": "logit-adjusted", "logit-adjustment.tau": 0.25}, 0.75),
        ({"strategy": "fedlc"}, 0.0),
        ({"strategy": "fedlc", "logit-adjustment.tau": 0.0}, 1.0),
        ({"strategy": "fedvls"}, 0.0),
        ({"strategy": "fedntd"}, 1.0),
    ],
)
def test_what_training_left_of_the_prior_is_known_from_the_configuration(keys, left):
    assert prior_left(RunConfiguration.parse({"strategy": "fedavg", **keys})) == left


def test_a_model_that_fits_a_prior_has_what_is_said_to_be_left_of_it():
    """With no input but a bias, the loss's minimum shows how much of log π the logits hold."""
    counts = torch.tensor([60, 30, 10])
    labels = torch.arange(3).repeat_interleave(counts)
    for tau in (0.0, 0.25, 1.0):
        configuration = RunConfiguration.parse(
            {"strategy": "fedavg", "local-loss": "logit-adjusted", "logit-adjustment.tau": tau}
        )
        loss = label_loss("logit-adjusted").loss(configuration, counts, network())
        bias = torch.zeros(3, requires_grad=True)
        optimizer = torch.optim.LBFGS([bias], max_iter=100, line_search_fn="strong_wolfe")

        def closure(loss=loss, bias=bias, optimizer=optimizer):
            optimizer.zero_grad()
            value = loss(bias.expand(len(labels), -1), labels)
            value.backward()
            return value

        optimizer.step(closure)
        prior = (counts / counts.sum()).log()
        wanted = prior_left(configuration) * (prior - prior.mean())
        torch.testing.assert_close(bias.detach() - bias.mean(), wanted, atol=5e-3, rtol=0)


OWN = """
from dataclasses import dataclass
from torch.nn.functional import cross_entropy
from foundation.settings import Section, key
from strategies.local_loss import ClientLoss, LocalLoss

@dataclass(frozen=True)
class ScaledSettings(Section, name="scaled"):
    factor: float = key(2.0, "Factor of the cross-entropy.", above=0.0)

class Scaled(ClientLoss):
    def __call__(self, logits, labels):
        return self.configuration.section(ScaledSettings).factor * cross_entropy(logits, labels)

scaled = LocalLoss("scaled", Scaled, settings=ScaledSettings)
"""


def test_a_loss_of_ones_own_is_used_with_its_settings(tmp_path, monkeypatch):
    (tmp_path / "losses_of_a_test.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    values = {"strategy": "fedavg", "local-loss": "losses_of_a_test:scaled", "scaled.factor": 3}
    configuration = RunConfiguration.parse(values)
    loss = local_loss(get("fedavg"), configuration, lambda: SKEWED, network())
    logits, labels = torch.randn(5, CLASSES), torch.arange(5) % CLASSES
    expected = 3 * F.cross_entropy(logits, labels)
    assert torch.allclose(loss(logits, labels), expected)
