"""A payment with a saga: when a later step fails for good, what was done is undone, last first, by the server."""
from romancy import App, Terminal

app = App(queue="payment")


@app.activity
def release(undo: dict) -> None:
    print("released %s" % undo["result"], flush=True)


@app.activity(compensation=release)
def reserve(order: dict) -> str:
    return "stock of " + order["item"]


@app.activity
def refund(undo: dict) -> None:
    print("refunded %s" % undo["result"], flush=True)


@app.activity(compensation=refund)
def charge(order: dict) -> str:
    return "%d cents" % order["cents"]


@app.activity
def ship(order: dict) -> str:
    if "address" not in order:
        raise Terminal("there is no address", code="NoAddress")
    return "parcel to " + order["address"]


@app.workflow
def payment(order: dict) -> str:
    reserve(order)
    charge(order)
    return ship(order)


if __name__ == "__main__":
    app.run()
