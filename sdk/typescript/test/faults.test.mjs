// Mistakes of a newcomer's program, and accidents that it meets: in test sessions, and with a real worker.
import assert from "node:assert/strict";
import { spawn as start } from "node:child_process";
import { once } from "node:events";
import { after, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import * as romancy from "../dist/index.js";

const options = { connectionString: process.env.ROMANCY_TEST_URL, queue: "ts_faults" };
const app = new romancy.App(options);
let version = 1;
let runs = 0;
const done = [];

const note = app.activity("ts_note", (text) => {
  done.push(text);
  return text;
});
const odd = app.activity(
  "ts_odd",
  (what) => {
    if (what === "null") throw null;
    if (what === "text") throw "just a text";
    if (what === "bare") throw Object.create(null);
    if (what === "number") throw Object.assign(new Error("has a number"), { code: 404 });
    if (what === "NaN") return NaN;
    if (what === "Map") return new Map([[1, 2]]);
    if (what === "BigInt") return { n: 1n };
    if (what === "circle") {
      const circle = {};
      circle.self = circle;
      return circle;
    }
    return null;
  },
  { retry: { max_attempts: 1 } },
);
const fails = app.activity("ts_faults_fail", () => {
  throw new romancy.Terminal("declined", { code: "Declined" });
});
const floats = app.activity("ts_floats", async () => {
  void Promise.reject(new Error("nobody waits for me"));
  await delay(20);
  return "done";
});

const hidesChange = app.workflow("ts_hides_change", async () => {
  try {
    await romancy.activity(note, version === 1 ? "one" : "two");
  } catch {
    return "hidden";
  }
  await romancy.receive("go");
  return "done";
});
const transactionFails = app.workflow("ts_transaction_fails", async () => {
  let seen;
  try {
    await romancy.transaction("declined", async () => {
      runs++;
      throw new TypeError("declined");
    });
  } catch (error) {
    seen = [error.message, error.code];
  }
  await romancy.receive("go");
  return { seen, note: await romancy.activity(note, "went on") };
});
const transactionTypo = app.workflow("ts_transaction_typo", () => romancy.transaction("typo", (client) => client.query("select * from no_such_table")));
const callsOdd = app.workflow("ts_calls_odd", (what) => romancy.activity(odd, what));
const throwsNull = app.workflow("ts_throws_null", async () => {
  throw null;
});
const sets = app.workflow("ts_sets", async (what) => {
  romancy.setValue("x", what === "NaN" ? [Infinity] : { set: new Set([1]) });
});
const foreign = app.workflow("ts_foreign", async () => {
  await delay(5);
  return "slept";
});
const never = app.workflow("ts_never", () => new Promise(() => undefined));
const late = app.workflow("ts_late", async () => {
  const first = romancy.activity(fails);
  await romancy.sleep("100 ms");
  try {
    await first;
  } catch (error) {
    return error.code;
  }
});
const later = app.workflow("ts_later", async () => {
  const helper = async () => romancy.activity(fails);
  const first = helper();
  await romancy.sleep("100 ms");
  return first;
});
const callsFloats = app.workflow("ts_calls_floats", () => romancy.activity(floats));
const nothing = app.workflow("ts_nothing", async () => {
  const results = await romancy.gather([]);
  try {
    await romancy.any([]);
  } catch (error) {
    return [results, error.message];
  }
});
const measures = app.activity("ts_measures", async (x) => {
  await romancy.progress(x, 4, "measured");
});
const messages = app.workflow("ts_messages", async () => {
  const sent = romancy.publish("news", 1);
  const toSelf = romancy.sendTo(romancy.instanceId(), "go", 0);
  const ids = await romancy.gather([sent, toSelf]);
  const first = await romancy.receive("go");
  const own = await romancy.receive("go");
  await romancy.activity(measures, 3);
  const started = await romancy.startMany(waits, [1, 2, 3]);
  return { data: [first.data, own.data], publisher: [first.publisher, own.publisher], sender: [first.sender, own.sender ?? null],
    ids: [ids[0] > 0, ids[1] === first.id], started: new Set(started).size };
});
const refusal = async (call) => {
  try {
    await call();
  } catch (error) {
    return error.message;
  }
};
const ready = delay(50).then(() => "ready");
// promises of the workflow, of each kind, that a transaction's code awaits
const outer = app.workflow("ts_outer", async (how) => {
  const one = romancy.activity(note, how);
  const made = {
    call: () => one,
    then: () => one.then((text) => text),
    all: () => Promise.all([one, romancy.activity(note, "other")]),
    own: () => (async () => (await one) + "!")(),
    told: () => (async () => (await romancy.receive("go")).data + "!")(),
    handle: () => romancy.gather([romancy.spawn(note, "spawned")]),
    failed: () => romancy.transaction("fails", () => Promise.reject(new Error("declined"))).catch((error) => error.message),
    done: () => one,
  }[how]();
  if (how === "done") await made;
  let refused = "";
  try {
    await romancy.transaction("awaits", async (client) => {
      await made;
      await client.query("insert into ts_outer values ($1)", [how]);
    });
  } catch (error) {
    refused = error.message;
  }
  return [refused, await made];
});
// what may be awaited there, beside a call that waits
const besideCall = app.workflow("ts_beside_call", () =>
  Promise.all([
    romancy.activity(note, "beside"),
    romancy.transaction("own", async (client) => {
      const own = delay(20).then(() => client.query("select 1 as one"));
      return [await ready, (await own).rows[0].one, await Promise.all([1, Promise.resolve(2)])];
    }),
  ]),
);
const inside = app.workflow("ts_inside", async () => {
  const refused = await romancy.transaction("within", async () => [
    await refusal(() => romancy.activity(note, "inside")),
    await refusal(() => romancy.uuid()),
    await refusal(() => romancy.transaction("more", async () => 1)),
    await refusal(() => romancy.instanceId()),
  ]);
  let thrown;
  try {
    await romancy.transaction("waits", () => romancy.receive("go"));
  } catch (error) {
    thrown = error.message;
  }
  return [...refused, thrown, await romancy.activity(note, "outside")];
});
const two = async (client) => (await client.query("select 1 + 1 as two")).rows[0].two;
const declined = async () => {
  runs++;
  throw new TypeError("declined");
};
const pair = app.workflow("ts_pair", async () => {
  romancy.setValue("before", 1);
  let begin;
  const recording = new Promise((resolve) => (begin = resolve));
  const results = await Promise.allSettled([
    romancy.transaction("good", async (client) => {
      const value = await two(client);
      const { query } = client;
      client.query = (sql, values) => (begin(), query(sql, values)); // the record's is the next
      return value;
    }),
    romancy.transaction("bad", () => recording.then(declined)),
    romancy.transaction("quick", two),
  ]);
  return results.map((r) => r.value ?? r.reason.message);
});
const besides = app.workflow("ts_besides", async (what) => {
  const message = romancy.receive("go");
  if (what === "race") return Promise.race([message, romancy.transaction("bad", declined)]);
  return Promise.all([message, romancy.transaction("counts", async (client) => (runs++, two(client)))]);
});
const asks = app.activity("ts_asks", async (what) => {
  try {
    await (what === "progress" ? romancy.progress(1, 2) : what === "at" ? romancy.scheduledAt() : romancy.heartbeat());
  } catch (error) {
    done.push([what, error instanceof romancy.LeaseLost, error.sqlstate]);
    throw error;
  }
});
const callsAsks = app.workflow("ts_calls_asks", (what) => romancy.activity(asks, what));
const waits = app.workflow("ts_waits", async () => {
  await romancy.receive("go");
  return "went";
});

async function runThrough(workflow, input) {
  let result;
  await romancy.session(app, async (s) => {
    const instance = await workflow.start(input, { client: s.client });
    await s.run({ advanceTime: true });
    if ((await s.status(instance)) === "waiting_for_message") {
      app.kept.clear(); // as in another process
      await instance.signal("go", 1, s.client);
      await s.run({ advanceTime: true });
    }
    result = await s.result(instance);
  });
  return result;
}

if (process.argv[2] === "worker") {
  await app.run({ concurrency: 4, lease: 3 });
  await app.end();
} else {
  describe("faults in sessions", () => {
    it("a changed program is paused whatever it catches", async () => {
      await romancy.session(app, async (s) => {
        version = 1;
        const instance = await hidesChange.start(null, { client: s.client });
        await s.drain(false, 100);
        await s.serve();
        app.kept.clear();
        version = 2;
        await s.run();
        version = 1;
        assert.equal(await s.status(instance), "paused");
      });
    });
    it("an error of a transaction is part of history", async () => {
      assert.deepEqual(await runThrough(transactionFails), { seen: ["declined", "TypeError"], note: "went on" });
      assert.equal(runs, 1);
    });
    it("a typo in a statement is no missing extension", async () => {
      await assert.rejects(runThrough(transactionTypo), { sqlstate: "42P01", message: 'relation "no_such_table" does not exist' });
    });
    it("whatever is thrown is an error", async () => {
      await assert.rejects(runThrough(callsOdd, "null"), { code: "Error", message: "null" });
      await assert.rejects(runThrough(callsOdd, "text"), { code: "Error", message: "just a text" });
      await assert.rejects(runThrough(callsOdd, "bare"), { code: "Error" });
      await assert.rejects(runThrough(callsOdd, "number"), { code: "Error", message: "has a number" });
      await assert.rejects(runThrough(throwsNull), { message: "null" });
    });
    it("what JSON cannot hold is an error, and not something else", async () => {
      for (const what of ["NaN", "Map", "BigInt", "circle"]) await assert.rejects(runThrough(callsOdd, what), { code: "TypeError" }, what);
      for (const what of ["NaN", "Set"]) await assert.rejects(runThrough(sets, what), { code: "TypeError" }, what);
      for (const value of [NaN, -Infinity, { a: [new Map()] }, new Set(), 1n]) await assert.rejects(app.start("ts_waits", value), /JSON can hold/);
    });
    it("a promise that is not romancy's is refused", async () => {
      await assert.rejects(runThrough(foreign), /may await romancy's calls only/);
      await assert.rejects(runThrough(never), /may await romancy's calls only/);
    });
    it("no call is made inside a transaction", { timeout: 60_000 }, async () => {
      const refused = ["activity()", "uuid()", "transaction()", "instanceId()", "receive()"].map((what) => `${what} cannot be called inside transaction()`);
      assert.deepEqual(await runThrough(inside), [...refused, "outside"]);
    });
    it("no promise of the workflow is awaited inside a transaction", { timeout: 60_000 }, async () => {
      await app.pool.query("create table if not exists ts_outer (how text)");
      const refused = "a promise of the workflow cannot be awaited inside transaction(): await it before";
      assert.deepEqual(await runThrough(outer, "call"), [refused, "call"]);
      assert.deepEqual(await runThrough(outer, "then"), [refused, "then"]);
      assert.deepEqual(await runThrough(outer, "all"), [refused, ["all", "other"]]);
      assert.deepEqual(await runThrough(outer, "own"), [refused, "own!"]);
      assert.deepEqual(await runThrough(outer, "handle"), [refused, ["spawned"]]);
      assert.deepEqual(await runThrough(outer, "failed"), [refused, "declined"]);
      assert.deepEqual(await runThrough(outer, "done"), ["", "done"]);
      assert.deepEqual(await runThrough(besideCall), ["beside", ["ready", 1, [1, 2]]]);
    });
    it("transactions beside each other lose no record and send none twice", { timeout: 60_000 }, async () => {
      runs = 0;
      await romancy.session(app, async (s) => {
        const instance = await pair.start();
        await s.run({ most: 200 });
        assert.deepEqual(await s.result(instance), [2, "declined", 2]);
        const steps = [];
        for await (const event of instance.history()) if (event.activity_id) steps.push(event.activity_id);
        assert.deepEqual(steps, ["set_value:1", "good:1", "bad:1", "quick:1"]);
      });
      assert.equal(runs, 1);
    });
    it("a transaction waits for no message, nor does its failure", { timeout: 60_000 }, async () => {
      runs = 0;
      await romancy.session(app, async (s) => {
        const race = await besides.start("race");
        const both = await besides.start("all");
        await s.run({ most: 200 });
        assert.equal(runs, 2);
        assert.equal(await s.status(both), "waiting_for_message");
        await assert.rejects(s.result(race), { message: "declined" });
        await both.signal("go", 1);
        await s.run({ most: 200 });
        assert.equal((await s.result(both))[1], 2);
      });
    });
    it("what an activity asks when its lease is lost", async () => {
      done.length = 0;
      for (const what of ["beat", "progress", "at"])
        await romancy.session(app, async (s) => {
          await callsAsks.start(what);
          await s.drain(false, 100);
          const workflows = await s.client.query("select to_jsonb(t) as task from romancy.fetch_workflows('ts_faults', 'test', 1) t");
          await app.stepWorkflow(s.client, workflows.rows[0].task);
          await s.drain(false, 100);
          const { rows } = await s.client.query("select to_jsonb(t) as task from romancy.fetch_activities('ts_faults', 'test', 1) t");
          await s.client.query("select romancy.release_activity($1::text)", [rows[0].task.token]);
          await assert.rejects(app.serveActivity(rows[0].task, (sql, values) => s.tell(sql, values)), romancy.LeaseLost);
        });
      assert.deepEqual(done, ["beat", "progress", "at"].map((what) => [what, true, "RM009"]));
    });
    it("nothing to wait for", async () => {
      assert.deepEqual(await runThrough(nothing), [[], "any() needs at least one handle"]);
    });
    it("who published, and which ids", async () => {
      const { rows } = await app.pool.query("select current_user::text as me");
      const { me } = rows[0];
      await romancy.session(app, async (s) => {
        const instance = await messages.start();
        await s.run();
        await instance.signal("go", 1);
        await s.run();
        assert.deepEqual(await s.result(instance), { data: [0, 1], publisher: [me, me], sender: [instance.id, null], ids: [true, true], started: 3 });
        assert.equal((await instance.progress()).note, "measured");
      });
    });
    it("a session is where client calls go", async () => {
      let instance;
      await romancy.session(app, async (s) => {
        instance = await waits.start();
        await s.run();
        await instance.signal("go");
        await s.run();
        assert.equal(await instance.status(), "completed");
      });
      await assert.rejects(instance.status(), /there is no instance/);
    });
  });

  describe("faults of clients", () => {
    after(() => app.end());
    it("a refusal keeps its own hint", async () => {
      await app.pool.query("create or replace function no_table(i jsonb) returns jsonb language sql as 'select i'; create role ts_definer; select romancy.grant_usage('ts_definer')");
      const other = new romancy.App({ ...options, namespace: "ts_definer" });
      try {
        await other.row("select romancy.define_workflow('no_table', 'no_table(jsonb)')", []);
        await assert.rejects(other.start("no_table"), (error) => error.sqlstate === "42501" && /SET ROLE/.test(error.hint));
      } finally {
        await other.end();
        await app.pool.query("select romancy.revoke_usage('ts_definer'); drop role ts_definer");
      }
    });
    it("an instance that failed for a missing table", async () => {
      await app.pool.query(
        "create or replace function no_table(i jsonb) returns jsonb language plpgsql as $$ begin return to_jsonb((select count(*) from no_such_table)); end $$",
      );
      const failed = await app.start("no_table");
      await assert.rejects(failed.result("60 s"), { sqlstate: "42P01", message: 'relation "no_such_table" does not exist' });
    });
    it("calls that wait keep no other from its turn", async () => {
      await app.define();
      const instance = await waits.start();
      const ended = [];
      const waiting = Array.from({ length: 25 }, () => instance.result("60 s").catch((error) => ended.push(error)));
      const active = "select count(*)::int as n from pg_stat_activity where state = 'active' and query like 'call romancy.await_result%'";
      // (the pool for calls that wait has 20 connections)
      while ((await app.pool.query(active)).rows[0].n < 20) {
        assert.deepEqual(ended, []);
        await delay(50);
      }
      await instance.status();
      assert.deepEqual(ended, []); // (they wait still)
      await instance.cancel();
      await Promise.all(waiting);
      assert.equal(ended.length, 25);
      for (const error of ended) assert.ok(error instanceof romancy.Cancelled, error);
    });
    it("what a worker does not have takes no place from what it has", { timeout: 120_000 }, async () => {
      const own = new romancy.App({ ...options, queue: "ts_places" });
      const ownActivity = own.activity("ts_own", () => "served");
      const ownWorkflow = own.workflow("ts_own_workflow", async () => `${await romancy.activity(ownActivity)} in its turn`);
      await own.define();
      await own.row("select romancy.define_activity('ts_nobodys', queue => 'ts_places'), romancy.define_workflow('ts_no_workflow', queue => 'ts_places')", []);
      const [{ ids }] = await own.rows("select array_agg(id)::text[] as ids from romancy.start_workflows('ts_no_workflow', array_fill('1'::jsonb, array[1000])) id", []);
      const others = await own.runCanvas(romancy.group(...Array.from({ length: 150 }, () => romancy.task("ts_nobodys"))));
      const held = async () =>
        (await own.rows("select status::text from romancy.activity_tasks where queue = 'ts_places' and activity = 'ts_nobodys'", [])).map((row) => row.status);
      while ((await held()).length < 150) await delay(20);
      const turns = "select count(*)::int as n from romancy.t_task t where t.activity = 'ts_no_workflow' and t.state = 0";
      while ((await own.rows(turns, []))[0].n < 1000) await delay(20);
      const served = await own.runCanvas(romancy.task("ts_own"));
      const lines = [];
      const inTurn = await ownWorkflow.start();
      const worker = own.run({ concurrency: 2, log: (line) => lines.push(line) });
      try {
        assert.equal(await served.result("30 s"), "served");
        assert.equal(await inTurn.result("30 s"), "served in its turn");
      } finally {
        process.emit("SIGTERM");
        await worker;
      }
      assert.deepEqual(await held(), Array(150).fill("ready")); // all of it was given back
      while ((await own.rows(turns, []))[0].n < 1000) await delay(20);
      await others.cancel();
      await own.row("select count(romancy.cancel_workflow(id::uuid)) from unnest($1::text[]) id", [ids]);
      assert.deepEqual(lines.sort(), ["activity \"ts_nobodys\"", "workflow \"ts_no_workflow\""].map((what) => `this worker has no ${what}: it leaves that to others`));
      await own.end();
    });
    it("a worker lives on, whatever its programs do", async () => {
      const other = new romancy.App(options);
      const elsewhere = other.activity("ts_elsewhere", () => "done elsewhere");
      const left = other.workflow("ts_left", () => romancy.activity(elsewhere));
      await other.define();
      const waiting = await left.start();
      const program = start(process.execPath, [fileURLToPath(import.meta.url), "worker"], { stdio: "inherit", env: { ...process.env, NODE_TEST_CONTEXT: "" } });
      const ended = once(program, "exit");
      try {
        assert.equal(await (await callsFloats.start()).result("60 s"), "done");
        assert.deepEqual(await (await pair.start()).result("60 s"), [2, "declined", 2]);
        assert.equal((await (await inside.start()).result("60 s")).at(-1), "outside");
        // (one that nothing resolves before the transaction has failed: an activity's may be over by then)
        const told = await outer.start("told");
        const failed = "select count(*)::int as n from romancy.get_history($1) where event_type = 'ActivityFailed'";
        while ((await app.pool.query(failed, [told.id])).rows[0].n === 0) await new Promise((resolve) => setTimeout(resolve, 20));
        await told.signal("go", "it");
        assert.deepEqual(await told.result("60 s"), ["a promise of the workflow cannot be awaited inside transaction(): await it before", "it!"]);
        assert.deepEqual(await (await outer.start("done")).result("60 s"), ["", "done"]);
        assert.deepEqual((await app.pool.query("select how from ts_outer")).rows, [{ how: "done" }]);
        assert.equal(await (await late.start()).result("60 s"), "Declined");
        await assert.rejects((await later.start()).result("60 s"), { code: "Declined" });
        assert.equal(await (await callsFloats.start()).result("60 s"), "done");
        assert.equal(program.exitCode, null);
        const worker = other.run({ lease: 3, log: () => {} });
        assert.equal(await waiting.result("60 s"), "done elsewhere");
        process.emit("SIGTERM");
        await worker;
      } finally {
        program.kill("SIGTERM");
        assert.deepEqual(await ended, [0, null]);
        await other.end();
      }
    });
  });
}
