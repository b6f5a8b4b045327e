"""A sign-up service: an account, a mail, a confirmation or a timeout, a welcome. PGHOST and its like say where."""
from romancy import App, TimeoutError, receive

app = App(queue="signup")


@app.activity
def create_account(email: str) -> int:
    return len(email)  # insert into account …


@app.activity(retry={"max_attempts": 10})
def send_mail(to: str, template: str) -> None:
    print("to %s: %s" % (to, template), flush=True)


@app.workflow
def signup(email: str) -> str:
    account = create_account(email)
    send_mail(email, "please confirm")
    try:
        receive("confirmed", timeout="3 days")
    except TimeoutError:
        return "expired"
    send_mail(email, "welcome")
    return "account %d" % account


if __name__ == "__main__":
    app.run()
