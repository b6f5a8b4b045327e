"""An agent: a model is asked, its tools are called, however long they take, until it has an answer. A worker that dies in
the middle loses no answer of the model: each is a step."""
import time

from romancy import App, set_value

app = App(queue="agent")


@app.activity(retry={"max_attempts": 0})
def ask_model(messages: list) -> dict:
    tools = [m for m in messages if m["role"] == "tool"]  # here the model is called
    return {"answer": "it has %s words" % tools[-1]["content"]} if tools else {"tool": "count", "input": messages[0]["content"]}


@app.activity(heartbeat=3)
def call_tool(name: str, input: str) -> int:
    time.sleep(2)  # longer than the lease: the worker renews it beside the work
    return len(input.split())


@app.workflow
def agent(question: str) -> str:
    messages = [{"role": "user", "content": question}]
    while True:
        reply = ask_model(messages)
        if "answer" in reply:
            return reply["answer"]
        set_value("tool", reply["tool"])
        messages.append({"role": "tool", "content": call_tool(reply["tool"], reply["input"])})


if __name__ == "__main__":
    app.run(lease=1)
