/** The application: definitions, client calls, and the worker. */
import { setImmediate as macrotask } from "node:timers/promises";
import pg from "pg";
import { checkProtocol, codeOf, fromDatabase, fromDocument, isPassing, LeaseLost, messageOf, NonDeterminism, RomancyError, Terminal, type ErrorDocument } from "./errors.js";
import { interval, type Duration, type Named } from "./flow.js";
import { detailOf, text } from "./json.js";
import type { Signature } from "./canvas.js";
import { BrokenOff, current, currentTask, Run, type ActivityTask, type HistoryEvent, type Queryable, type WorkflowTask } from "./run.js";
import { Worker, type WorkerOptions } from "./worker.js";

export interface AppOptions {
  /** as pg takes it; default: the PG* environment variables */
  connectionString?: string;
  /** from which its workers take activities and workflows */
  queue?: string;
  /** of the names, where the role has several */
  namespace?: string;
}

export interface ActivityDefinition {
  retry?: Record<string, unknown>;
  compensation?: string | Named<any, any>;
  startToClose?: Duration;
  scheduleToStart?: Duration;
  heartbeat?: Duration;
  maxConcurrency?: number;
  rateLimit?: string;
}

export interface WorkflowDefinition {
  executionTimeout?: Duration;
  retention?: Duration;
  onEvent?: string;
}

export interface StartOptions {
  key?: string;
  id?: string;
  at?: Date;
  priority?: number;
  labels?: Record<string, unknown>;
  /** starts it in this client's transaction, beside the caller's own data */
  client?: Queryable;
}

export type Activity<I, O> = ((input: I) => O | Promise<O>) & Named<I, O> & { readonly activityName: string };

export interface Workflow<I, O> extends Named<I, O> {
  readonly workflowName: string;
  start(input: I, options?: StartOptions): Promise<Instance<O>>;
}

export type { Queryable };

type Code = (input: any) => Promise<any>;

/** The detail of an error as JSON; null where there is none, or none that can be told. */
function detailText(error: unknown): string | null {
  const detail = detailOf(error);
  return detail === undefined ? null : text(detail);
}

const duration = (value: Duration | undefined): string | null => (value === undefined ? null : interval(value));

/** A workflow instance. */
export class Instance<O = any> {
  constructor(
    private readonly app: App,
    readonly id: string,
  ) {}

  /** Waits for the end and gives the output; throws the instance's error, TimeoutError past the timeout. */
  async result(timeout?: Duration): Promise<O> {
    return (await this.app.awaitResult(this.id, duration(timeout))) as O;
  }

  async cancel(reason?: string): Promise<boolean> {
    return (await this.app.row("select romancy.cancel_workflow($1::uuid, $2::text) as done", [this.id, reason ?? null])).done;
  }

  async pause(): Promise<boolean> {
    return (await this.app.row("select romancy.pause_workflow($1::uuid) as done", [this.id])).done;
  }

  async resume(): Promise<boolean> {
    return (await this.app.row("select romancy.resume_workflow($1::uuid) as done", [this.id])).done;
  }

  async retry(): Promise<boolean> {
    return (await this.app.row("select romancy.retry_workflow($1::uuid) as done", [this.id])).done;
  }

  /** Sends a message that receive(channel) of the instance gets; kept until it does. */
  async signal(channel: string, data?: unknown, client?: Queryable): Promise<void> {
    await this.app.row("select romancy.send_to($1::uuid, $2::text, $3::jsonb) as id", [this.id, channel, text(data)], client);
  }

  async status(): Promise<string> {
    const row = await this.app.row("select status::text from romancy.instances where instance_id = $1::uuid", [this.id]);
    if (!row) throw new RomancyError(`there is no instance ${this.id}`, { sqlstate: "RM002" });
    return row.status;
  }

  async progress(): Promise<Record<string, any>> {
    return (await this.app.row("select to_jsonb(p) as p from romancy.get_progress($1::uuid) p", [this.id])).p;
  }

  /** Its history, oldest first. */
  async *history(): AsyncGenerator<HistoryEvent & { created_at: Date }> {
    let after = 0;
    for (;;) {
      const rows = await this.app.rows(
        "select seq, event_type, activity_id, data, created_at from romancy.get_history($1::uuid, $2::bigint)",
        [this.id, after],
      );
      for (const row of rows) {
        after = Number(row.seq);
        yield { ...row, seq: after };
      }
      if (rows.length < 1000) return;
    }
  }

  async value(key: string): Promise<any> {
    return (await this.app.row("select romancy.get_value($1::uuid, $2::text) as v", [this.id, key])).v;
  }
}

/** A run that is kept while it waits. */
interface Kept {
  run: Run;
  end: Promise<void>;
  /** output: as JSON */
  state: { ended: boolean; output?: string; error?: unknown };
}

/** Workflows and activities of one program, on one queue. */
export class App {
  readonly queue: string;
  readonly pool: pg.Pool;
  /** for calls that wait, so that they keep no other from its turn */
  private readonly waits: pg.Pool;
  /** of a test, in whose transaction client calls are made */
  session: Queryable | undefined;
  readonly activities = new Map<string, { code: Code; options: ActivityDefinition }>();
  readonly workflows = new Map<string, { code: Code; options: WorkflowDefinition }>();
  /** runs that wait, by instance */
  readonly kept = new Map<string, Kept>();

  constructor(readonly options: AppOptions = {}) {
    this.queue = options.queue ?? "default";
    const pool = (): pg.Pool => {
      const made = new pg.Pool({ connectionString: options.connectionString, max: 20 });
      // a connection has broken, idle or in use: the statement under way fails, and another connection is opened
      made.on("error", () => undefined);
      made.on("connect", (client) => client.on("error", () => undefined));
      return made;
    };
    this.pool = pool();
    this.waits = pool();
  }

  // ------------------------------------------------------------ definitions

  /** Makes a function an activity: run by a worker, at least once, with the server's retries and time limits. */
  activity<I, O>(name: string, code: (input: I) => O | Promise<O>, options: ActivityDefinition = {}): Activity<I, O> {
    this.activities.set(name, { code: async (input) => code(input as I), options });
    return Object.assign((input: I) => code(input), { activityName: name });
  }

  /** Makes a function a workflow: replayed, so it does nothing but by activities. */
  workflow<I, O>(name: string, code: (input: I) => Promise<O>, options: WorkflowDefinition = {}): Workflow<I, O> {
    this.workflows.set(name, { code: code as Code, options });
    return { workflowName: name, start: (input: I, o: StartOptions = {}) => this.start<O>(name, input, o) };
  }

  /**
   * Tells the database what this program defines. A worker does it when it starts. Throws MissingExtension where the server does not
   * speak this library's protocol.
   */
  async define(client?: Queryable): Promise<void> {
    checkProtocol(await this.row("select oldest, newest from romancy.protocol()", [], client));
    for (const [name, { options: o }] of this.activities) {
      const compensation = typeof o.compensation === "string" ? o.compensation : o.compensation?.activityName;
      await this.row(
        "select romancy.define_activity($1::text, queue => $2::text, retry => $3::jsonb, compensation => $4::text," +
          " start_to_close_timeout => $5::interval, schedule_to_start_timeout => $6::interval," +
          " heartbeat_timeout => $7::interval, max_concurrency => $8::int, rate_limit => $9::text)",
        [
          name,
          this.queue,
          o.retry === undefined ? null : text(o.retry),
          compensation ?? null,
          duration(o.startToClose),
          duration(o.scheduleToStart),
          duration(o.heartbeat),
          o.maxConcurrency ?? null,
          o.rateLimit ?? null,
        ],
        client,
      );
    }
    for (const [name, { options: o }] of this.workflows)
      await this.row(
        "select romancy.define_workflow($1::text, queue => $2::text, execution_timeout => $3::interval," +
          " retention => $4::interval, on_event => $5::text)",
        [name, this.queue, duration(o.executionTimeout), duration(o.retention), o.onEvent ?? null],
        client,
      );
  }

  // ------------------------------------------------------------ client calls

  /** Runs a statement and gives its first row; errors are romancy's. */
  async row(sql: string, values: unknown[], client?: Queryable): Promise<any> {
    return (await this.rows(sql, values, client))[0];
  }

  /** Runs a statement and gives its rows; errors are romancy's. */
  async rows(sql: string, values: unknown[], client?: Queryable): Promise<any[]> {
    try {
      if (client) return (await client.query(sql, values)).rows;
      if (this.session) return await this.inSession(this.session, sql, values);
      const target = await this.connect();
      try {
        return (await target.query(sql, values)).rows;
      } finally {
        target.release();
      }
    } catch (error) {
      throw fromDatabase(error);
    }
  }

  /** Runs a statement in a test's transaction; an error takes nothing else of it back. */
  async inSession(session: Queryable, sql: string, values: unknown[]): Promise<any[]> {
    await session.query("savepoint romancy_call");
    try {
      const { rows } = await session.query(sql, values);
      await session.query("release savepoint romancy_call");
      return rows;
    } catch (error) {
      await session.query("rollback to savepoint romancy_call");
      throw error;
    }
  }

  /** Waits for an instance's end; its errors are the instance's. */
  async awaitResult(id: string, timeout: string | null): Promise<unknown> {
    try {
      const target = this.session ?? (await this.connect(this.waits));
      try {
        return (await target.query("call romancy.await_result($1::uuid, $2::interval, null)", [id, timeout])).rows[0].result;
      } finally {
        if (target !== this.session) (target as pg.PoolClient).release();
      }
    } catch (error) {
      throw fromDatabase(error, true);
    }
  }

  /** A connection of the pool, in the app's namespace. */
  async connect(pool = this.pool): Promise<pg.PoolClient> {
    const client = await pool.connect();
    if (this.options.namespace)
      await client.query("select set_config('romancy.namespace', $1::text, false)", [this.options.namespace]);
    return client;
  }

  /** Starts an instance of any workflow by its name. */
  async start<O = any>(workflow: string, input?: unknown, o: StartOptions = {}): Promise<Instance<O>> {
    const row = await this.row(
      "select romancy.start_workflow($1::text, $2::jsonb, instance_id => $3::uuid, idempotency_key => $4::text," +
        " start_at => $5::timestamptz, priority => $6::int, labels => $7::jsonb) as id",
      [
        workflow,
        input === undefined ? null : text(input),
        o.id ?? null,
        o.key ?? null,
        o.at ?? null,
        o.priority ?? 0,
        o.labels === undefined ? null : text(o.labels),
      ],
      o.client,
    );
    return new Instance<O>(this, row.id);
  }

  /** Starts a signature of task(), chain(), group(), chord() as an instance. */
  async runCanvas<O = any>(
    signature: Signature,
    input?: unknown,
    o: { key?: string; labels?: Record<string, unknown>; client?: Queryable } = {},
  ): Promise<Instance<O>> {
    const row = await this.row(
      "select romancy.run_canvas($1::jsonb, $2::jsonb, labels => $3::jsonb, idempotency_key => $4::text) as id",
      [text(signature), input === undefined ? null : text(input), o.labels === undefined ? null : text(o.labels), o.key ?? null],
      o.client,
    );
    return new Instance<O>(this, row.id);
  }

  instance<O = any>(id: string): Instance<O> {
    return new Instance<O>(this, id);
  }

  /** Works until SIGTERM or SIGINT: takes workflows and activities of the queue. */
  async run(options: WorkerOptions = {}): Promise<void> {
    await this.define();
    await new Worker(this, options).run();
  }

  async end(): Promise<void> {
    await Promise.all([this.pool.end(), this.waits.end()]);
  }

  // ------------------------------------------------------------ carrying out

  /** Runs an activity's task and says how it ended. tell: runs a statement and gives its row. */
  async serveActivity(
    task: ActivityTask,
    tell: (sql: string, values: unknown[]) => Promise<any>,
    log: (message: string) => void = () => undefined,
  ): Promise<void> {
    // what the activity's code asks for: errors are romancy's
    const ask = (sql: string, values: unknown[]) => tell(sql, values).catch((error: unknown) => Promise.reject(fromDatabase(error) as Error));
    const beat = async (details: string | null) =>
      (await ask("select romancy.heartbeat_activity($1::text, $2::jsonb) as state", [task.token, details])).state as string;
    let failure: unknown;
    try {
      const activity = this.activities.get(task.activity);
      if (!activity) throw new Terminal(`this worker has no activity "${task.activity}"`, { sqlstate: "RM001" });
      const result = text(await currentTask.run({ task, beat, ask }, () => activity.code(task.input)));
      try {
        const { kept } = await tell("select romancy.complete_activity($1::text, $2::jsonb) as kept", [task.token, result]);
        if (!kept) log(`activity ${task.activity}: its result came when its lease was lost or its instance over`);
        return;
      } catch (error) {
        failure = fromDatabase(error); // a result that is too large, say
        if (isPassing(failure)) throw error;
      }
    } catch (error) {
      if (failure !== undefined || error instanceof LeaseLost) throw error;
      failure = error;
    }
    const sql = "select romancy.fail_activity($1::text, $2::text, $3::text, $4::jsonb, $5::boolean)";
    const terminal = failure instanceof Terminal || failure instanceof TypeError;
    try {
      await tell(sql, [task.token, messageOf(failure), codeOf(failure), detailText(failure), terminal]);
    } catch (error) {
      if (isPassing(fromDatabase(error))) throw error;
      // a detail that no document can hold, or that is too large
      await tell(sql, [task.token, messageOf(failure).slice(0, 1000), "error", null, terminal]);
    }
  }

  /** Runs a workflow's code as far as it comes and tells the server. */
  async stepWorkflow(client: Queryable, task: WorkflowTask): Promise<void> {
    const before = this.take(task);
    const run = before?.run ?? new Run(task);
    run.task = task;
    run.transact = (code) => this.transact(client, code);
    run.absorb(task.history ?? []);
    let page = task.history ?? [];
    while (page.length >= 1000) {
      const result = await client.query(
        "select seq, event_type, activity_id, data from romancy.read_history($1::text, $2::bigint)",
        [task.token, run.lastSeq],
      );
      page = result.rows as HistoryEvent[];
      run.absorb(page);
    }
    // the code begins when all of history is there
    const kept = before ?? this.begin(run);
    const { state } = kept;
    do {
      run.settle();
      await macrotask(); // what can go on has gone on
      while (run.working.size > 0) {
        await Promise.allSettled([...run.working]);
        await macrotask();
      }
      if (run.broken) throw run.broken as Error;
    } while (run.settle());
    if (!state.ended && !run.changed && run.isStuck()) {
      // it would wait for ever, or go on at a time that no replay knows
      state.error = new TypeError("a workflow may await romancy's calls only: what reads, waits or computes belongs in an activity");
      state.ended = true;
    }
    if (run.changed) {
      // whatever the code made of it
      state.error = run.changed;
      state.ended = true;
    }
    if (state.ended) {
      this.kept.delete(task.instance_id);
      if (!("error" in state)) {
        try {
          run.finish();
        } catch (error) {
          state.error = error;
        }
      }
      try {
        // commands that nothing waits for are carried out first; the code is run again and ends again
        if (run.commands.length > 0 && !(state.error instanceof NonDeterminism)) await this.suspend(client, run, { all: [] });
        else if ("error" in state) await this.fail(client, run, state.error);
        else await this.finish(client, run, state.output!);
      } catch (error) {
        await this.refused(client, run, error);
      }
      return;
    }
    try {
      await this.suspend(client, run, run.waitFor());
    } catch (error) {
      return this.refused(client, run, error);
    }
    this.kept.set(task.instance_id, kept);
    while (this.kept.size > 10000) this.kept.delete(this.kept.keys().next().value as string);
  }

  /** The kept run of an instance, if history has nothing that it has not seen in this order. */
  private take(task: WorkflowTask): Kept | undefined {
    const kept = this.kept.get(task.instance_id);
    this.kept.delete(task.instance_id);
    const history = task.history ?? [];
    if (!kept || history.length >= 1000) return undefined;
    return kept.run.lastSeq === 0 || history.some((e) => Number(e.seq) === kept.run.lastSeq) ? kept : undefined;
  }

  private begin(run: Run): Kept {
    const { task } = run;
    const workflow = this.workflows.get(task.workflow)!;
    const state: Kept["state"] = { ended: false };
    const end = current.run(run, async () => {
      try {
        const output = text(await workflow.code(task.input));
        if (!state.ended) state.output = output;
      } catch (error) {
        if (!state.ended) state.error = error;
      }
      state.ended = true;
    });
    return { run, state, end };
  }

  private async suspend(client: Queryable, run: Run, waitFor: Record<string, unknown> | null): Promise<void> {
    const commands = run.commands;
    const alone = waitFor === null ? commands.at(-1) : undefined;
    for (const command of commands)
      if (command.op === "receive" && command.timeout !== undefined && command !== alone)
        throw new RomancyError("a receive with a timeout cannot wait beside other steps", {
          sqlstate: "RM012",
          hint: "Use spawnReceive() and any() with a timeout.",
        });
    const records = run.records;
    const wait = waitFor === null ? null : text(waitFor);
    if (records.length > 0)
      await client.query("select romancy.record($1::text, $2::jsonb), romancy.suspend($1::text, $3::jsonb, $4::jsonb)", [
        run.task.token,
        text(records),
        text(commands),
        wait,
      ]);
    else await client.query("select romancy.suspend($1::text, $2::jsonb, $3::jsonb)", [run.task.token, text(commands), wait]);
    run.records = [];
    run.commands = [];
    run.sent++;
  }

  private async finish(client: Queryable, run: Run, output: string): Promise<void> {
    if (run.records.length > 0)
      await client.query("select romancy.record($1::text, $2::jsonb), romancy.complete_workflow($1::text, $3::jsonb)", [
        run.task.token,
        text(run.records),
        output,
      ]);
    else await client.query("select romancy.complete_workflow($1::text, $2::jsonb)", [run.task.token, output]);
  }

  /** A call that the server refuses (a payload that is too large, say) is the workflow's error. */
  private async refused(client: Queryable, run: Run, error: unknown): Promise<void> {
    const e = fromDatabase(error);
    if (isPassing(e)) throw error;
    run.records = [];
    return this.fail(client, run, e);
  }

  /** Ends the instance as failed; RM003 pauses it. */
  private async fail(client: Queryable, run: Run, error: unknown): Promise<void> {
    try {
      await this.tellFailure(client, run, error, [run.task.token, messageOf(error), codeOf(error), detailText(error)]);
    } catch (refused) {
      if (isPassing(fromDatabase(refused))) throw refused;
      // what was done, or the detail, is what no document can hold, or too large
      run.records = [];
      await this.tellFailure(client, run, error, [run.task.token, messageOf(error).slice(0, 1000), "error", null]);
    }
  }

  private async tellFailure(client: Queryable, run: Run, error: unknown, values: (string | null)[]): Promise<void> {
    if (run.records.length > 0 && !(error instanceof NonDeterminism))
      await client.query(
        "select romancy.record($1::text, $5::jsonb), romancy.fail_workflow($1::text, $2::text, $3::text, $4::jsonb)",
        [...values, text(run.records)],
      );
    else await client.query("select romancy.fail_workflow($1::text, $2::text, $3::text, $4::jsonb)", values);
  }

  /** Runs code in a transaction of its own; in a session of a test, in a part of the session's. */
  private async transact<T>(client: Queryable, code: (client: Queryable) => Promise<T>): Promise<T> {
    let broken: Error | undefined;
    let pooled: pg.PoolClient | undefined;
    let over = false;
    // what the server did not refuse, and did not do: the run is broken off, and the code learns nothing of it
    const query = async (sql: string, values?: unknown[]) => {
      try {
        return await (pooled ?? client).query(sql, values);
      } catch (error) {
        if (isPassing(fromDatabase(error))) broken = error as Error;
        throw error;
      }
    };
    const target: Queryable = {
      query: (sql, values) => (over ? Promise.reject(new Error("the transaction is over")) : query(sql, values)),
    };
    try {
      if (client === this.pool) pooled = await this.connect().catch((error) => Promise.reject((broken = error as Error)));
      await query(pooled ? "begin" : "savepoint romancy_transaction");
      try {
        const result = await code(target);
        over = true;
        await query(pooled ? "commit" : "release savepoint romancy_transaction");
        return result;
      } catch (error) {
        over = true;
        await query(pooled ? "rollback" : "rollback to savepoint romancy_transaction");
        throw error;
      }
    } catch (error) {
      if (broken) throw new BrokenOff(broken);
      throw fromDatabase(error);
    } finally {
      pooled?.release(broken);
    }
  }
}

/** The error of an instance as a view shows it. */
export function errorOf(document: unknown): RomancyError {
  return fromDocument(document as ErrorDocument);
}
