/** The activities, or the workflow, of tests of workers: worker.mjs LIBRARY activities|workflows|held|bench QUEUE, for ROMANCY_TEST_CONNINFO. */
import { setTimeout as delay } from "node:timers/promises";

const [library, kind, queue] = process.argv.slice(2);
const { App, activity, attempt, heartbeat, instanceId, lastDetails, receive, scheduledAt, sleep, stepKey, Terminal } = await import(library);
const app = new App({ connectionString: process.env.ROMANCY_TEST_CONNINFO, queue });

if (kind === "activities") {
  app.activity("upper", (text) => text.toUpperCase(), { retry: { max_attempts: 1 } });
  app.activity(
    "work",
    async (i) => {
      await delay(20);
      if (i.fail >= attempt()) throw new Error(`bad luck with ${i.n}`);
      if (i.never) throw new Terminal("this one never works", { code: "NonRetryable" });
      return { n: i.n, attempt: attempt() };
    },
    { retry: { initial_interval: "20ms", max_attempts: 3 } },
  );
  app.activity(
    "careful",
    async () => {
      const before = lastDetails();
      await heartbeat({ begun: attempt() });
      if (before === undefined) throw new Error("begun, not done");
      return { ...before, key: stepKey().split("/").at(-1), same: stepKey().includes(instanceId()) };
    },
    { retry: { initial_interval: "20ms" } },
  );
} else if (kind === "held") {
  // ends when the test lets go of a lock
  app.activity(
    "held",
    async (i) => {
      await app.row("select pg_advisory_xact_lock_shared(42)", []);
      return i;
    },
    { retry: { max_attempts: 1 } },
  );
  const seconds = (at) => (at ? at.getTime() / 1000 : 0);
  const meantFor = app.activity("meant_for", async () => seconds(await scheduledAt()));
  app.workflow("planned", async () => [seconds(await scheduledAt()), await activity(meantFor)]);
} else if (kind === "bench") {
  const one = app.activity("one", (i) => i + 1);
  app.workflow("three", async (i) => activity(one, await activity(one, await activity(one, i))));
  app.workflow("parked", () => receive("never"));
} else {
  app.workflow("greet", async (i) => {
    const text = `Hello, ${i.name}`;
    await sleep(100);
    return { text: i.upper ? await activity("upper", text) : text };
  });
}

await app.run({
  concurrency: Number(process.env.ROMANCY_TEST_CONCURRENCY ?? 10),
  prefetch: Number(process.env.ROMANCY_TEST_PREFETCH ?? 0),
});
await app.end();
