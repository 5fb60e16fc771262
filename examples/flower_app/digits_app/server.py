"""The server half: Flower's FedAvg, and what FedF²DG adds to it."""

import torch
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from fedf2dg import AskClients, KeepLocalModels, post_train  # 1

from .task import CLASSES, accuracy, load_test_data, make_model

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train with the clients, then improve the model without them."""
    torch.manual_seed(0)
    model = make_model()
    strategy = KeepLocalModels(FedAvg(), "kept-models")  # 2
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(model.state_dict()),
        num_rounds=int(context.run_config["num-server-rounds"]),
    )
    # Without them, the model is improved from pseudo images.
    clients = AskClients(grid, strategy.kept, CLASSES) if context.run_config["ask"] else None
    improved = post_train(  # 3
        model,
        result.arrays,
        strategy.kept,
        image_shape=(1, 8, 8),
        pixel_range=([-1.0], [1.0]),
        settings={"generation.iterations": int(context.run_config["iterations"])},
        ask=clients,
    )
    for name, state in (
        ("federated", result.arrays.to_torch_state_dict()),
        ("post-trained", improved.state),
    ):
        model.load_state_dict(state)
        print(f"{name}: {accuracy(model, *load_test_data()):.1%} of the test images are right")
    torch.save(improved.state, "model.pt")
