"""Keys of the federated rounds: who takes part, and how a client trains."""

import math
from dataclasses import dataclass, field
from typing import Literal

from foundation.members import LOCAL_LOSSES, MODELS, STRATEGIES
from foundation.wording import names_in

from .declaration import Section, key

#: Local losses that need nothing but logits and labels; they are part of the training loop.
LOSSES_OF_THE_LOOP = ("cross-entropy", "symmetric-cross-entropy")

# With the default rate, 0.0003: all layers of an EfficientNet-Lite0 that was trained on ImageNet
# kept what they knew of signed digits for two rounds, and lost it within three at 0.003.
_KEEPS_FEATURES = 0.03


@dataclass(frozen=True)
class ScheduleSettings(Section):
    """The local step size, and the weight of a proximal term, over the rounds."""

    of: Literal["learning-rate", "mu", "both"] = key(
        "learning-rate",
        "What the schedule multiplies: learning-rate; mu, the weight of FedProx's proximal term "
        "(proximal-mu) and of MOON's contrastive loss (moon.mu); or both.",
    )

    kind: Literal["constant", "cosine", "step"] = key(
        "constant",
        "How it changes over the rounds: constant; cosine, from the whole of it along "
        "half a cosine towards 0; step, multiplied by schedule.decay every schedule.every rounds. "
        "Rounds of the competition loop keep the last one's.",
    )
    warm_up_rounds: int = key(
        0,
        "First rounds in which the step size grows evenly, before the schedule begins.",
        unit="rounds",
        minimum=0,
    )
    decay: float = key(0.1, "Factor of the schedule step.", above=0.0, maximum=1.0)
    every: int = key(10, "Rounds between two factors of the schedule step.", minimum=1)

    def factor(self, server_round: int, rounds: int) -> float:
        """Return the schedule's factor in a round r, from 1, of R; above 0, at most 1.

        Behind the last round it stays as it was there.
        """
        position = min(server_round, rounds)
        if position <= self.warm_up_rounds:
            return position / (self.warm_up_rounds + 1)
        done = position - 1 - self.warm_up_rounds
        if self.kind == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done / (rounds - self.warm_up_rounds)))
        if self.kind == "step":
            return float(self.decay ** (done // self.every))
        return 1.0


@dataclass(frozen=True)
class FederatedTrainingKeys(Section):
    """What happens in a round; part of the run's configuration."""

    strategy: str = key(
        "scaffold",
        "The federated algorithm. fedadam, fedyogi, fedadagrad, fedavgm, fedmedian, "
        "fedtrimmedavg, krum, multikrum, bulyan and qfedavg are Flower's own; fedlc, fedrs, fedntd "
        "and fedvls are for label skew; centralized (all data pooled) and local (every client "
        "alone) are baselines.",
        original="alg",
        family=STRATEGIES,
    )
    num_clients: int = key(
        10,
        "Number of clients; must equal the number of SuperNodes.",
        unit="clients",
        minimum=1,
        original="n_parties",
    )
    min_clients: int = key(
        0,
        "Fewest real sites that suffice to start, once node-timeout is over; the others may come "
        "later, and take part from their next round. 0: all num-clients.",
        unit="clients",
        minimum=0,
        binds="run",
    )
    num_server_rounds: int = key(
        5,
        "Federated rounds. 0: none, for methods that ask the clients about the initial weights and "
        "need no local models (head, calibration).",
        unit="rounds",
        minimum=0,
        original="comm_round",
        binds="generate",
    )
    patience: int = key(
        0,
        "Rounds without a gain on the clients' held-out images after which training ends; its "
        "result is then the best round's model, and the last one's is in model-last/. 0: all "
        "rounds, and the last is the result. Each round sends the clients two models more.",
        unit="rounds",
        minimum=0,
    )
    global_average: Literal["last", "window", "geometric"] = key(
        "last",
        "What is offered to the judges beside the result of the rounds: last: nothing; window: the "
        "mean of the last global models; geometric: a mean that forgets the earlier ones. Clients "
        "measure BatchNorm statistics for it. Where nobody judges, it is the result.",
    )
    global_average_rounds: int = key(
        3,
        "Models in the window of global-average, which are part of every checkpoint; of a "
        "geometric average the length 1/(1 − d).",
        unit="rounds",
        minimum=1,
    )
    fraction_train: float = key(
        1.0,
        "Fraction of the clients sampled for a round.",
        above=0.0,
        maximum=1.0,
        original="sample",
    )
    server_learning_rate: float = key(
        1.0,
        "Step η_g of the server along the aggregated update; 1 is plain averaging.",
        above=0.0,
    )
    clip_update_norm: float = key(
        0.0,
        "Scale local updates down to so many times the median norm of the round's updates; "
        "0: never. A poisoned update then weighs no more than an honest one of that norm.",
        unit="median norms",
        minimum=0.0,
        binds="run",
    )
    client_identity: Literal["node-id", "partition-id"] = key(
        "node-id",
        "What a client that comes back must have in common with the one that left: its Flower "
        "node id, which SuperNodes with keys keep, or only the partition-id it names, which "
        "proves nothing.",
        binds="run",
    )
    min_successful_clients: int = key(
        0,
        "Fewest valid replies in a round before the run fails; 0 means half of those asked.",
        unit="clients",
        minimum=0,
        binds="run",
    )
    round_timeout: float = key(
        3600.0,
        "Longest wait for the replies to one question (a round, a judgement, images), after its "
        "last message. In the local engine's processes: the longest that one client may take; a "
        "client in this process (processes=1) is not bounded, nor is an upload that has begun.",
        unit="seconds",
        above=0.0,
        binds="run",
    )
    node_timeout: float = key(
        120.0,
        "Longest wait for num-clients nodes to be connected. Those that are have 180 seconds or "
        "more to look at their data.",
        unit="seconds",
        above=0.0,
        binds="run",
    )
    local_epochs: int = key(
        5, "Passes over a client's data per round.", unit="epochs", minimum=1, original="epochs"
    )
    batch_size: int = key(
        16, "Images per local step.", unit="images", minimum=1, original="batch-size"
    )
    learning_rate: float = key(0.01, "Local step size η.", above=0.0, original="lr")
    momentum: float = key(0.9, "Local momentum ρ.", minimum=0.0, maximum=0.999, original="rho")
    weight_decay: float = key(1e-5, "Local weight decay λ.", minimum=0.0, original="reg")
    proximal_mu: float = key(
        0.01, "Weight μ of FedProx's proximal term (μ/2)·‖y − x‖².", minimum=0.0, original="mu"
    )
    local_loss: str = key(
        "cross-entropy",
        "Local training loss: cross-entropy, symmetric-cross-entropy (for wrong labels), or for "
        "label skew logit-adjusted, calibrated (FedLC), restricted-softmax (FedRS), "
        "not-true-distillation (FedNTD), vacant-class-distillation (FedVLS).",
        words=LOSSES_OF_THE_LOOP,
        family=LOCAL_LOSSES,
    )
    batch_norm: Literal["averaged", "measured", "frozen"] = key(
        "averaged",
        "BatchNorm's running statistics. averaged: the mean of the local models'; measured: "
        "what the clients' images give the averaged model, before it is judged, inverted or kept; "
        "frozen: averaged, but local training leaves them alone in late rounds.",
    )
    batch_norm_frozen_from: int = key(
        0,
        "First round with frozen statistics; 0: the first of the second half.",
        unit="round",
        minimum=0,
    )
    model: str = key(
        "resnet8",
        "The classifier. Those with -gn have GroupNorm, those with -ws standardized weights "
        "besides: no BatchNorm statistics to average, and none that fedf2dg and fedadi could match "
        "(their images are poorer; heads and the other methods need none). efficientnet_lite0, "
        "those of torchvision and timm/NAME (any classifier of timm, which is to be installed) are "
        "for images of 32 pixels and more.",
        original="model",
        family=MODELS,
    )
    initial_weights: str = key(
        "",
        "Weights that training starts from: imagenet, trained ones for the model (of "
        "efficientnet_lite0 from the package of fedf2dg[pretrained]; of torchvision/NAME and "
        "timm/NAME downloaded); a file of them (safetensors, or a checkpoint of PyTorch's); the "
        "directory of an earlier run or its model/. The server alone needs them; a head for other "
        "classes is replaced. Empty: fresh weights, drawn by seed.",
        is_path=True,
        words=("imagenet",),
    )
    initial_head: Literal["fresh", "closed-form"] = key(
        "fresh",
        "The head before the first round: fresh, as the seed or initial-weights give it; or "
        "closed-form, as post-training=head finds it from one message of every client (section "
        "head), so that a random head does not spoil trained features.",
    )
    encoder_step: float = key(
        0.0,
        "Local step size of the encoder, as a multiple of that of the head. 0: 1, or behind "
        "initial-head=closed-form 0.03, since ordinary steps destroy trained features.",
        minimum=0.0,
        maximum=1.0,
    )
    freeze: str = key(
        "",
        "Layers that are not trained, separated by commas: encoder (all but projection and head), "
        "or names of layers, such as encoder.0; their BatchNorm statistics stay as well. Empty: "
        "all are trained.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = key(
        "auto",
        "Type of convolutions and matrix products in local training; weights, BatchNorm and losses "
        "stay in float32. auto: bfloat16 on hardware that is faster in it, on processors unless "
        "the model is tiny.",
    )
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)

    @property
    def encoder_factor(self) -> float:
        """What gradients of the encoder are multiplied by in local training."""
        usual = _KEEPS_FEATURES if self.initial_head == "closed-form" else 1.0
        return self.encoder_step or usual

    @property
    def frozen_layers(self) -> tuple[str, ...]:
        """The names in ``freeze``."""
        return names_in(self.freeze)

    @property
    def clients_per_round(self) -> int:
        """Number of clients sampled for a round, at least 1."""
        return max(1, round(self.num_clients * self.fraction_train))

    @property
    def required_replies(self) -> int:
        """Fewest valid replies a round needs."""
        return self.min_successful_clients or math.ceil(self.clients_per_round / 2)

    def freezes_statistics_at(self, server_round: int) -> bool:
        """Tell whether local training of a round leaves BatchNorm's running statistics alone."""
        first = self.batch_norm_frozen_from or self.num_server_rounds // 2 + 1
        return self.batch_norm == "frozen" and server_round >= first

    def learning_rate_at(self, server_round: int) -> float:
        """Return the local step size η of a round, counted from 1, for the server and clients."""
        return self.learning_rate * self._factor("learning-rate", server_round)

    def _factor(self, of: str, server_round: int) -> float:
        if self.schedule.of not in (of, "both"):
            return 1.0
        return self.schedule.factor(server_round, self.num_server_rounds)
