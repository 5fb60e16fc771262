"""The client half: train the model that came on the client's own data, and send it back."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor, nn

from fedf2dg import tell_predictions

from .task import accuracy, load_data, make_model, train

app = ClientApp()


@app.train()
def train_on_own_data(message: Message, context: Context) -> Message:
    """Train for some epochs."""
    model, (images, labels) = _setup(message, context)
    loss = train(
        model,
        images,
        labels,
        int(context.run_config["local-epochs"]),
        float(context.run_config["learning-rate"]),
    )
    content = RecordDict(
        {
            "arrays": ArrayRecord(model.state_dict()),
            "metrics": MetricRecord({"train-loss": loss, "num-examples": len(labels)}),
        }
    )
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate_on_own_data(message: Message, context: Context) -> Message:
    """Tell how many of its own images the model has right."""
    model, (images, labels) = _setup(message, context)
    metrics = MetricRecord(
        {"accuracy": accuracy(model, images, labels), "num-examples": len(labels)}
    )
    content = RecordDict({"metrics": metrics})
    return Message(content=content, reply_to=message)


@app.query("predictions")
def predict_own_data(message: Message, context: Context) -> Message:
    """Tell the sum of the model's predictions for its own images, ten numbers, and its labels."""
    model, data = _setup(message, context)
    return Message(content=tell_predictions(model, [data]), reply_to=message)


def _setup(message: Message, context: Context) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    model = make_model()
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    client, clients = context.node_config["partition-id"], context.node_config["num-partitions"]
    return model, load_data(int(client), int(clients))
