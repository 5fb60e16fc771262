"""FedAvg (McMahan et al. 2017): x⁺ = Σ p_i y_i. Both halves are the bases of all others."""

from .algorithm import Algorithm

algorithm = Algorithm("fedavg")
