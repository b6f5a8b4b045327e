// The scenarios of scenarios.sql in TypeScript's library. A worker, for ROMANCY_TEST_CONNINFO; argv[2]: the library.
const romancy = await import(process.argv[2]);
const app = new romancy.App({ connectionString: process.env.ROMANCY_TEST_CONNINFO, queue: "scenarios" });

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
