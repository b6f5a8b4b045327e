/** A fan-out with progress: pages are measured in parallel, and every session can see how far it is (get_progress). */
import { App, gather, progress, spawn } from "romancy";

const app = new App({ queue: "report" });

const measure = app.activity("measure", (page: string) => page.length, { maxConcurrency: 4 });

app.workflow("report", async (pages: string[]) => {
  let total = 0;
  const handles = pages.map((page) => spawn(measure, page));
  for (const [done, handle] of handles.entries()) {
    const [size] = await gather([handle]);
    total += size;
    progress(done + 1, pages.length, "measured");
  }
  return total;
});

await app.run();
await app.end();
