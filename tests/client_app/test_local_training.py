"""The one local loop: steps, loss, hooks, and the losses it offers."""

import math
from itertools import repeat

import pytest
import torch
import torch.nn.functional as F

from client_app.training import symmetric_cross_entropy, train_locally
from foundation.settings.configuration import RunConfiguration
from strategies import ClientAlgorithm


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def embed(self, images):
        return images

    def classify(self, features):
        return self.layer(features)


class Source:
    def __init__(self, *batches):
        self.batches = batches

    def epoch(self, generator):
        yield from self.batches


def batch(count, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, generator=draw), torch.randint(0, 3, (count,), generator=draw)


def algorithm(kind=ClientAlgorithm, **keys):
    values = {name.replace("_", "-"): value for name, value in keys.items()}
    return kind(RunConfiguration.parse({"learning-rate": 0.1, "local-epochs": 2, **values}))


def train(model, source, plan, **options):
    return train_locally(model, source, plan, generator=torch.Generator(), **options)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_is_sgd_as_the_configuration_says(momentum, weight_decay):
    batches = [batch(5), batch(3, 1)]
    torch.manual_seed(0)
    model, reference = Net(), Net()
    reference.load_state_dict(model.state_dict())
    plan = algorithm(momentum=momentum, weight_decay=weight_decay)
    result = train(model, Source(*batches), plan)
    optimizer = torch.optim.SGD(
        reference.parameters(), lr=0.1, momentum=momentum, weight_decay=weight_decay
    )
    total = 0.0
    for images, labels in batches * 2:
        optimizer.zero_grad()
        loss = F.cross_entropy(reference.layer(images), labels)
        loss.backward()
        optimizer.step()
        total += float(loss.detach()) * len(labels)
    for found, expected in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(found, expected)
    assert result.steps == 4
    assert result.loss == pytest.approx(total / 16, rel=1e-6)


def test_momentum_starts_anew_in_every_round():
    torch.manual_seed(0)
    model, reference = Net(), Net()
    reference.load_state_dict(model.state_dict())
    plan = algorithm(local_epochs=1, momentum=0.9)
    for _ in range(2):
        train(model, Source(batch(5)), plan)
        for parameter, gradient in zip(
            reference.parameters(),
            torch.autograd.grad(
                F.cross_entropy(reference.layer(batch(5)[0]), batch(5)[1]),
                list(reference.parameters()),
            ),
            strict=True,
        ):
            parameter.data.sub_(gradient, alpha=0.1)
    for found, expected in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(found, expected)


def test_hooks_see_every_step_and_extra_loss_counts():
    calls = []

    class Watching(ClientAlgorithm):
        def extra_loss(self, images, embedding):
            calls.append(("loss", len(images)))
            return torch.tensor(2.0)

        def adjust_gradients(self, parameters):
            calls.append(("gradients", len(parameters)))
            for parameter in parameters:
                parameter.grad.zero_()

    model = Net()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    plan = algorithm(Watching, local_epochs=1, weight_decay=0.0)
    result = train(model, Source(batch(5), batch(2)), plan)
    assert calls == [("loss", 5), ("gradients", 2), ("loss", 2), ("gradients", 2)]
    for parameter, then in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter.detach(), then), "gradients were adjusted before the step"
    assert result.loss > 2.0


def test_no_batch_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="too few samples"):
        train(Net(), Source(), algorithm())


def test_a_batch_of_one_image_works():
    assert train(Net(), Source(batch(1)), algorithm()).steps == 2


def test_epochs_can_be_given():
    assert train(Net(), Source(batch(2)), algorithm(), epochs=5).steps == 5


def test_symmetric_cross_entropy_is_the_papers_with_log_zero_as_minus_four():
    """0.1·CE + RCE, RCE = -Σ_k p_k·log q_k with log 0 = -4 and log 1 = 0 (Wang et al. 2019)."""
    logits, labels = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        scale = sum(math.exp(value) for value in row)
        p = [math.exp(value) / scale for value in row]
        log_q = [0.0 if k == label else -4.0 for k in range(3)]
        total += 0.1 * -math.log(p[label]) - sum(a * b for a, b in zip(p, log_q, strict=True))
    assert float(symmetric_cross_entropy(logits, labels)) == pytest.approx(total / 6)
    assert float(symmetric_cross_entropy(logits[:1], labels[:1])) > 0


def test_symmetric_cross_entropy_bounds_what_one_wrong_label_can_do():
    """CE's gradient on a confidently wrong label is about 1; here the CE part is a tenth of it."""
    logits = torch.tensor([[20.0, 0.0]], requires_grad=True)
    symmetric_cross_entropy(logits, torch.tensor([1])).backward()
    assert float(logits.grad.abs().max()) < 0.11


def test_generator_is_the_only_source_of_randomness():
    class Random(Source):
        def epoch(self, generator):
            for images, labels in repeat(self.batches[0], 2):
                yield images + torch.randn(images.shape, generator=generator), labels

    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(len(results))
        model = Net()
        torch.nn.init.ones_(model.layer.weight)
        torch.nn.init.zeros_(model.layer.bias)
        train_locally(
            model,
            Random(batch(4)),
            algorithm(),
            generator=torch.Generator().manual_seed(seed),
        )
        results.append(model.layer.weight.detach())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
