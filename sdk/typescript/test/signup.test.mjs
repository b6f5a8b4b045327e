// A sign-up service as a new user would write it, in test sessions and with a real worker that is killed.
import assert from "node:assert/strict";
import { spawn as start } from "node:child_process";
import { once } from "node:events";
import { after, beforeEach, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import * as romancy from "../dist/index.js";

const app = new romancy.App({ connectionString: process.env.ROMANCY_TEST_URL, queue: "ts_signup" });
const mails = [];
let version = 1;

const createAccount = app.activity("ts_create_account", (email) => email.length);
const sendMail = app.activity(
  "ts_send_mail",
  ({ to, template }) => {
    mails.push(`${to} ${template}`);
    if (to === "flaky@x" && mails.length < 3) throw new Error("no route");
  },
  { retry: { max_attempts: 3, initial_interval: "10 ms" } },
);
const fails = app.activity("ts_fails", (code) => {
  throw new romancy.Terminal("card declined", { code, detail: { limit: 5 } });
});

const signup = app.workflow("ts_signup", async (email) => {
  const account = await romancy.activity(createAccount, email);
  await romancy.activity(sendMail, { to: email, template: "confirm" });
  try {
    await romancy.receive("confirmed", { timeout: "30 days" });
  } catch (error) {
    if (error instanceof romancy.TimeoutError) return "expired";
    throw error;
  }
  await romancy.activity(sendMail, { to: email, template: "welcome" });
  return `account ${account}`;
});

const fanOut = app.workflow("ts_fan_out", async (n) => {
  romancy.progress(0, n);
  const handles = Array.from({ length: n }, (_, i) => romancy.spawn(createAccount, "x".repeat(i)));
  const results = await romancy.gather(handles);
  romancy.setValue("results", results);
  romancy.progress(n, n, "done");
  return results;
});

const parallel = app.workflow("ts_parallel", async () => {
  const [a, b] = await Promise.all([romancy.activity(createAccount, "a"), romancy.activity(createAccount, "bb")]);
  await romancy.sleep("1 s");
  return [a, b];
});

const race = app.workflow("ts_race", async () => {
  const timer = romancy.spawnTimer("1 day");
  const message = romancy.spawnReceive("m");
  const { handle } = await romancy.any([timer, message]);
  try {
    await romancy.any([handle === timer ? message : timer], { timeout: 1000 });
  } catch (error) {
    assert.ok(error instanceof romancy.TimeoutError);
    return `${handle === timer ? "timer" : "message"}, then nothing`;
  }
  return "both";
});

const order = app.workflow("ts_order", async (code) => {
  const a = romancy.now();
  const id = romancy.uuid();
  await romancy.sleep("1 s");
  try {
    await romancy.activity(fails, code);
  } catch (error) {
    const kid = await romancy.child(signup, "kid@x");
    romancy.publish("orders", { code: error.code });
    return { code: error.code, kid, a: a.toISOString(), id };
  }
  return {};
});

const changed = app.workflow("ts_changed", async () => {
  await romancy.activity(createAccount, version === 1 ? "a" : "b");
  await romancy.receive("go");
});

if (process.argv[2] === "worker") {
  await app.run({ concurrency: 4, lease: 3 });
  await app.end();
} else {
  after(() => app.end());
  beforeEach(() => mails.splice(0));

  describe("test sessions", () => {
    it("expires after thirty days", () =>
      romancy.session(app, async (s) => {
        const instance = await signup.start("eva@x", { client: s.client });
        await s.run({ advanceTime: true });
        assert.equal(await s.result(instance), "expired");
        assert.deepEqual(mails, ["eva@x confirm"]);
      }));

    it("is confirmed", () =>
      romancy.session(app, async (s) => {
        const instance = await signup.start("eva@x", { client: s.client });
        await s.run();
        assert.equal(await s.status(instance), "waiting_for_message");
        await instance.signal("confirmed", { ok: true }, s.client);
        await s.run();
        assert.equal(await s.result(instance), "account 5");
      }));

    it("is tried again by the server", () =>
      romancy.session(app, async (s) => {
        const instance = await signup.start("flaky@x", { client: s.client });
        await s.run({ advanceTime: true });
        assert.equal(await s.result(instance), "expired");
        assert.equal(mails.length, 3);
      }));

    it("fans out, also from a run that is begun anew each time", () =>
      romancy.session(app, async (s) => {
        const instance = await fanOut.start(7, { client: s.client });
        await s.run();
        assert.deepEqual(await s.result(instance), [0, 1, 2, 3, 4, 5, 6]);
      }));

    it("waits for promises that run in parallel, kept and replayed", () =>
      romancy.session(app, async (s) => {
        const kept = await parallel.start(undefined, { client: s.client });
        await s.run({ advanceTime: true });
        assert.deepEqual(await s.result(kept), [1, 2]);
        const keep = app.kept.set;
        app.kept.set = () => app.kept;
        try {
          const replayed = await parallel.start(undefined, { client: s.client });
          await s.run({ advanceTime: true });
          assert.deepEqual(await s.result(replayed), [1, 2]);
        } finally {
          app.kept.set = keep;
        }
      }));

    it("takes the first of several, and times out", () =>
      romancy.session(app, async (s) => {
        const instance = await race.start(undefined, { client: s.client });
        await s.run();
        await instance.signal("m", 1, s.client);
        await s.run({ advanceTime: true });
        assert.equal(await s.result(instance), "message, then nothing");
      }));

    it("catches an error, and keeps recorded values", () =>
      romancy.session(app, async (s) => {
        const instance = await order.start("CARD", { client: s.client });
        await s.run({ advanceTime: true });
        const result = await s.result(instance);
        assert.equal(result.code, "CARD");
        assert.equal(result.kid, "expired");
      }));

    it("pauses a changed program", () =>
      romancy.session(app, async (s) => {
        version = 1;
        const instance = await changed.start(undefined, { client: s.client });
        await s.run();
        version = 2;
        app.kept.clear(); // another process
        await instance.signal("go", null, s.client);
        await s.run();
        version = 1;
        assert.equal(await s.status(instance), "paused");
        await assert.rejects(s.result(instance), romancy.NonDeterminism);
      }));
  });

  it("a worker that is killed, and one that is stopped", { timeout: 300000 }, async () => {
    await app.define();
    const program = () => start(process.execPath, [fileURLToPath(import.meta.url), "worker"], { stdio: "inherit" });
    const instances = [];
    for (let i = 0; i < 20; i++) instances.push(await signup.start(`user${i}@x`, { key: `user${i}` }));
    assert.equal((await signup.start("user0@x", { key: "user0" })).id, instances[0].id);
    const killed = program();
    const fan = await fanOut.start(20);
    assert.deepEqual(
      await fan.result("90 s"),
      Array.from({ length: 20 }, (_, i) => i),
    );
    assert.equal((await fan.progress()).note, "done");
    killed.kill("SIGKILL");
    await once(killed, "exit");
    const stopped = program();
    for (const instance of instances) await instance.signal("confirmed");
    for (const [i, instance] of instances.entries())
      assert.equal(await instance.result("180 s"), `account ${`user${i}@x`.length}`);
    stopped.kill("SIGTERM");
    const [code] = await once(stopped, "exit");
    assert.equal(code, 0);
  });

  describe("what is missing is said", () => {
    const attempt = async (change) => {
      const other = new romancy.App({ connectionString: change(process.env.ROMANCY_TEST_URL) });
      other.activity("any_activity", (x) => x);
      try {
        await other.define();
      } catch (error) {
        assert.ok(error instanceof romancy.MissingExtension, String(error));
        return error;
      } finally {
        await other.end();
      }
      assert.fail("no error");
    };

    it("a database without the extension", async () => {
      const error = await attempt((u) => u.replace("/postgres?", "/template1?"));
      assert.match(error.message, /lacks extension romancy/);
      assert.match(error.hint, /CREATE EXTENSION romancy/);
    });

    it("a role without usage", async () => {
      await app.row("create role ts_stranger login", []);
      try {
        const error = await attempt((u) => u.replace(/user=[^&]*/, "user=ts_stranger"));
        assert.match(error.message, /may not use romancy/);
        assert.match(error.hint, /grant_usage/);
      } finally {
        await app.row("drop role ts_stranger", []);
      }
    });
  });
}
