"""Teachers against what they are by definition: limits, Bayes' rule, and probabilities."""

import pytest
import torch

from distillation import teachers


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.fixture
def logits(draw) -> torch.Tensor:
    return 2 * torch.randn(4, 7, 5, generator=draw)


@pytest.fixture
def counts() -> torch.Tensor:
    return torch.tensor([[90, 10, 0, 0, 0], [0, 0, 5, 5, 0], [1, 1, 1, 1, 0], [0, 40, 0, 60, 0]])


def test_own_is_the_source_models_answer(logits):
    sources = torch.tensor([0, 3, 1, 1, 2, 0, 3])
    answer = teachers.own(logits, sources)
    for row, source in enumerate(sources):
        assert torch.equal(answer[row], logits[source, row])


def test_correction_turns_posteriors_into_likelihoods(draw):
    """Two clients with opposite priors see one likelihood: Bayes' rule undone agrees with it."""
    likelihood = torch.randn(1, 6, 3, generator=draw).double()
    counts = torch.tensor([[700, 200, 100], [50, 50, 900]])
    priors = counts / counts.sum(1, keepdim=True)
    posteriors = likelihood + priors.double().log()[:, None, :]
    corrected = teachers.prior_corrected(posteriors, counts)
    assert torch.allclose(corrected.softmax(1), likelihood[0].softmax(1), atol=5e-3)
    assert not torch.allclose(
        teachers.uniform(posteriors).softmax(1), likelihood[0].softmax(1), atol=0.05
    )


def test_correction_of_strength_zero_is_the_uniform_mean(logits, counts):
    assert torch.equal(teachers.prior_corrected(logits, counts, 0.0), teachers.uniform(logits))


def test_models_are_read_one_at_a_time(logits, counts):
    stacked = teachers.prior_corrected(logits, counts)
    assert torch.equal(teachers.prior_corrected(iter(logits), counts), stacked)
    with pytest.raises(ValueError, match="no model"):
        teachers.uniform([])


def test_correction_changes_nothing_where_every_client_is_balanced(logits):
    counts = torch.full((4, 5), 8)
    corrected = teachers.prior_corrected(logits, counts).softmax(1)
    assert torch.allclose(corrected, teachers.uniform(logits).softmax(1), atol=1e-6)


def test_class_weighted_trusts_the_only_holder_of_a_class(logits, counts):
    labels = torch.tensor([2, 2, 4, 0, 1, 3, 4])
    answer = teachers.class_weighted(logits, counts, labels).exp()
    assert torch.allclose(answer.sum(1), torch.ones(7), atol=1e-5)
    # Class 2 is held by models 1 and 2, five images to one.
    expected = 5 / 6 * logits[1, 0].softmax(0) + 1 / 6 * logits[2, 0].softmax(0)
    assert torch.allclose(answer[0], expected, atol=1e-6)
    # Nobody holds class 4: all models count the same.
    assert torch.allclose(answer[2], logits[:, 2].softmax(1).mean(0), atol=1e-6)


def test_masked_teaches_nothing_about_absent_classes(logits, counts, draw):
    everyone = torch.randn(7, 5, generator=draw)
    sources = torch.tensor([0, 1, 2, 3, 0, 1, 2])
    answer = teachers.masked(teachers.own(logits, sources), counts, sources, everyone).exp()
    before = everyone.softmax(1)
    assert torch.allclose(answer.sum(1), torch.ones(7), atol=1e-5)
    for row, source in enumerate(sources):
        held = counts[source] > 0
        assert torch.allclose(answer[row][~held], before[row][~held], atol=1e-6)
        mine = logits[source, row][held].softmax(0)
        assert torch.allclose(answer[row][held] / answer[row][held].sum(), mine, atol=1e-5)


def test_masked_is_own_for_a_client_that_holds_all_classes(logits):
    sources = torch.zeros(7, dtype=torch.int64)
    answer = teachers.masked(logits[0], torch.ones(4, 5), sources, logits[1])
    assert torch.allclose(answer.exp(), logits[0].softmax(1), atol=1e-6)


def test_the_fitted_strength_is_where_the_cross_entropy_is_least(logits, counts, draw):
    labels = torch.randint(0, 5, (7,), generator=draw)
    mean, prior = teachers.uniform(logits), teachers.mean_log_prior(counts)
    fitted = teachers.fitted_strength(mean, prior, labels)
    tried = torch.linspace(0, 1.5, 301)
    losses = [
        torch.nn.functional.cross_entropy(mean.double() - s * prior, labels).item() for s in tried
    ]
    assert abs(fitted - float(tried[losses.index(min(losses))])) <= 0.005


def test_balanced_models_are_left_alone_and_biased_ones_corrected(draw):
    """Samples of a known likelihood, from a model with a prior in it and from one without."""
    counts = torch.tensor([[90, 9, 1], [80, 15, 5]])
    labels = torch.arange(3).repeat(2000)
    clean = 1.5 * torch.randn(6000, 3, generator=draw).double()
    # Bayes: a label drawn from softmax(clean) makes `clean` the true log-posterior of even classes.
    labels = torch.multinomial(clean.softmax(1), 1, generator=draw).flatten()
    prior = teachers.mean_log_prior(counts)
    assert teachers.fitted_strength(clean, prior, labels) == pytest.approx(0.0, abs=0.05)
    assert teachers.fitted_strength(clean + prior, prior, labels) == pytest.approx(1.0, abs=0.05)


def test_no_prior_is_taken_out_where_none_is_left(logits, counts):
    mean, prior = teachers.uniform(logits) + 3, teachers.mean_log_prior(counts)
    labels = torch.tensor([4] * 7)  # the rarest class: the fit alone would take all of it out
    assert teachers.fitted_strength(mean, prior, labels) > 1.4
    assert teachers.fitted_strength(mean, prior, labels, 0.0) == 0.0
