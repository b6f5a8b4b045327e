"""A fan-out with progress: pages are measured in parallel, and every session can see how far it is (get_progress)."""
from typing import List

from romancy import App, gather, progress, spawn

app = App(queue="report")


@app.activity(max_concurrency=4)
def measure(page: str) -> int:
    return len(page)


@app.workflow
async def report(pages: List[str]) -> int:
    total = 0
    handles = [spawn(measure, page) for page in pages]
    for done, handle in enumerate(handles, 1):
        [size] = await gather(handle)
        total += size
        progress(done, len(pages), "measured")
    return total


if __name__ == "__main__":
    app.run()
