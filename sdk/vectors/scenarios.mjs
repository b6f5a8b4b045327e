// The scenarios of scenarios.sql in TypeScript's library. A worker, for ROMANCY_TEST_CONNINFO; argv[2]: the library.
const romancy = await import(process.argv[2]);
import { readFileSync } from "node:fs";
const app = new romancy.App({ connectionString: process.env.ROMANCY_TEST_CONNINFO, queue: process.env.ROMANCY_TEST_QUEUE ?? "scenarios" });

const kid = app.workflow("kid", async (i) => {
  if (i === 99) await romancy.receive("never");
  return romancy.activity("sq", i);
});

app.workflow("steps", async (i) => {
  const r = await romancy.activity("sq", i);
  romancy.setValue("stage", "squared");
  romancy.setLabels({ kind: "steps" });
  romancy.now(), romancy.random(), romancy.uuid();
  if (romancy.patched("v2")) romancy.publish("news", r);
  await romancy.sleep(20);
  return romancy.activity("sq", r, { activityId: "named" });
});

app.workflow("parallel", async () => {
  const r = await romancy.gather([romancy.spawn("sq", 2), romancy.spawn("sq", 3), romancy.spawnChild(kid, 5)]);
  const c = await romancy.canvas(romancy.chain(romancy.task("sq", 2), romancy.task("sq")));
  await romancy.any([romancy.spawnTimer(20)]);
  try {
    await romancy.any([romancy.spawnReceive("never")], { timeout: 20 });
  } catch (error) {
    if (!(error instanceof romancy.TimeoutError)) throw error;
  }
  return [r, c, await romancy.child(kid, 7)];
});

app.workflow("saga", async (i) => {
  await romancy.activity("book", i);
  romancy.publish("news", "before");
  romancy.compensate("undo", "by hand");
  throw new romancy.RomancyError("no", { sqlstate: "XX123" });
});

app.workflow("caught", async (i) => {
  try {
    await romancy.activity("book", i);
    await romancy.activity("boom", i);
  } catch {
    return romancy.compensate();
  }
});

app.workflow("messages", async () => {
  romancy.subscribe("chat");
  romancy.joinGroup("crowd");
  let m;
  try {
    m = await romancy.receive("nothing", { timeout: 20 });
  } catch {
    m = await romancy.receive("go");
  }
  romancy.unsubscribe("chat");
  romancy.leaveGroup("crowd");
  return m.data;
});

app.workflow("generations", async (i) => {
  if (i < 2) await romancy.recur(i + 1);
  return i;
});

app.workflow("others", async () => {
  romancy.raiseEvent("shop.paid", "/shop", { n: 1 });
  const id = await romancy.start(kid, 99);
  await romancy.cancel(id, "too late");
  return "started";
});

app.workflow("web", async (url) => {
  const r = await romancy.http("post", `${url}/status/201`, { body: { a: 1 }, headers: { "x-a": "b" }, timeout: "30 s" });
  romancy.sendEvent("shop.paid", "/shop", r.body, { orderingKey: "o-1" });
  try {
    await romancy.http("GET", `${url}/status/404`);
  } catch {
    return [r.status, r.body];
  }
});

app.workflow("more", async () => {
  const m = await romancy.map("sq", [1, 2, 3, 4, 5], { maxParallel: 2 });
  await romancy.sleep(10, { activityId: "nap" });
  await romancy.sleepUntil(new Date("2001-01-01T00:00:00Z"), { activityId: "past" });
  const timedOut = (error) => {
    if (!(error instanceof romancy.TimeoutError)) throw error;
  };
  await romancy.receive("nothing", { timeout: 10, activityId: "ear" }).catch(timedOut);
  await romancy.waitEvent("no.such", { timeout: 10, activityId: "eye" }).catch(timedOut);
  romancy.raiseEvent("shop.seen", "/shop", { n: 1 }, { id: `e-${romancy.instanceId()}`, subject: "s", time: new Date("2026-01-01T00:00:00Z") });
  const id = await romancy.start(kid, 99, { at: new Date("2126-01-01T00:00:00Z"), priority: 3, labels: { l: 1 } });
  await romancy.cancel(id, "too early");
  const c = await romancy.child(kid, 3, { activityId: "own_kid", onParentClose: "abandon", labels: { l: 2 }, priority: 2 });
  romancy.sendTo(romancy.instanceId(), "self", new Uint8Array([0, 255]), { m: 1 });
  const b = (await romancy.receive("self")).data;
  return [m, c, b[1], (await romancy.scheduledAt()) === null, romancy.workflowName()];
});

// (promises of calls run in parallel as well as handles do)
app.workflow("web_parallel", async (url) => {
  const r = await Promise.all([
    romancy.http("POST", `${url}/status/201`, { body: { a: 1 } }),
    romancy.activity("sq", 3),
    romancy.http("GET", `${url}/status/202`, { timeout: "30 s", activityId: "mine" }),
  ]);
  return [r[0].status, r[1], r[2].status];
});

for (const name of JSON.parse(readFileSync(new URL("hostile.json", import.meta.url), "utf8"))) {
  const square = app.activity(name, (i) => i * i);
  app.workflow(`W${name}`, async (n) => {
    const a = await romancy.activity(square, 3);
    const h = await romancy.gather([romancy.spawn(square, 2), romancy.spawn(square, 4)]);
    romancy.subscribe(n);
    romancy.joinGroup(n);
    romancy.publish(n, "x");
    const m = await romancy.receive(n);
    romancy.setValue(n, a);
    romancy.setLabels({ [n]: n });
    const k = romancy.patched(n) ? await romancy.child(kid, 3, { activityId: `kid of ${n}` }) : null;
    romancy.compensate(square, 1);
    return [n, a, h, m.data, k];
  });
}

const circle = {};
circle.self = circle;
app.workflow("unfit", async (i) => [() => 1n, () => circle, () => "\0", () => romancy.activity("sq", 1n)][i]());
app.workflow("unfit_error", async () => {
  throw new romancy.RomancyError("no \0 good", { sqlstate: "X", code: "co\0de", detail: { d: "\0" } });
});
const unfit = app.activity("unfit_activity", (i) => {
  if (i === 0) return 1n;
  throw new romancy.Terminal("no \0 good", { code: "co\0de", detail: { d: "\0" } });
});
app.workflow("unfit_step", async (i) => romancy.activity(unfit, i));

app.workflow("leaves", async () => {
  romancy.publish("news", 1);
  romancy.setValue("left", true);
});

app.workflow("counted", async () => {
  romancy.publish("news", "first");
  return romancy.transaction("count", async (client) => {
    await client.query("insert into counted (who) values (session_user)");
    return 1;
  });
});

app.workflow("refused", async () => "x".repeat(2000000));

await app.run({ concurrency: 4 });
await app.end();
