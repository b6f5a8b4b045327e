/** The worker: polls, runs, renews leases, and stops in order. */
import { hostname } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import type { App } from "./app.js";
import { fromDatabase, isPassing, messageOf } from "./errors.js";
import { current, currentTask, type ActivityTask, type WorkflowTask } from "./run.js";

export interface WorkerOptions {
  /** tasks at a time; default 10 */
  concurrency?: number;
  /** how many more it takes at once, of workflows and of activities, to wait here for a place; they are given back when it stops; default 0 */
  prefetch?: number;
  /** seconds, renewed at a third; default 60 */
  lease?: number;
  /** where warnings go; default console.error */
  log?: (message: string) => void;
}

const RENEWAL = {
  activities: "select romancy.heartbeat_activity($1::text, null, $2::interval)",
  workflows: "select romancy.extend_lease($1::text, $2::interval)",
};

/** Takes workflows and activities of an app's queue. */
export class Worker {
  private readonly name = `${hostname()}/${process.pid}`;
  private readonly concurrency: number;
  private readonly prefetch: number;
  private readonly lease: number;
  private readonly log: (message: string) => void;
  private stopping = false;
  private busy = new Set<Promise<void>>();
  private leases = new Map<string, string>();
  private polling = new Set<pg.PoolClient>();
  /** names that it was given and does not have */
  private readonly unknown = { activities: new Set<string>(), workflows: new Set<string>() };
  private wakeUp: (() => void) | undefined;
  private ended: () => void = () => undefined;
  private readonly stopped = new Promise<void>((resolve) => {
    this.ended = resolve;
  });

  constructor(
    private readonly app: App,
    options: WorkerOptions = {},
  ) {
    this.concurrency = Math.max(1, options.concurrency ?? 10);
    this.prefetch = Math.max(0, options.prefetch ?? 0);
    this.lease = options.lease ?? 60;
    this.log = options.log ?? ((message) => console.error(`romancy: ${message}`));
  }

  /** Works until SIGTERM or SIGINT, or stop(). Work under way is finished. */
  async run(): Promise<void> {
    const stop = () => void this.stop();
    process.on("SIGTERM", stop);
    process.on("SIGINT", stop);
    process.on("unhandledRejection", this.unhandled);
    const renewal = setInterval(() => void this.renew(), (this.lease * 1000) / 3);
    try {
      await Promise.all([
        this.app.activities.size > 0 ? this.poll("activities") : undefined,
        this.app.workflows.size > 0 ? this.poll("workflows") : undefined,
      ]);
      await Promise.all(this.busy);
    } finally {
      clearInterval(renewal);
      process.off("SIGTERM", stop);
      process.off("SIGINT", stop);
      process.off("unhandledRejection", this.unhandled);
    }
  }

  /**
   * A promise of a workflow's or an activity's code has failed and nothing waits for it (yet). Node would end the process, and with it all
   * that other instances do here; the next worker would end in the same place. Other rejections end it as they do without a worker.
   */
  private readonly unhandled = (reason: unknown): void => {
    const where = current.getStore()?.task.workflow ?? currentTask.getStore()?.task.activity;
    if (where !== undefined) this.log(`${where}: a promise failed that nothing waits for: ${messageOf(reason)}`);
    else if (process.listenerCount("unhandledRejection") === 1)
      setImmediate(() => {
        throw reason;
      });
  };

  /** Takes nothing more. */
  async stop(): Promise<void> {
    this.stopping = true;
    this.ended();
    this.wakeUp?.();
    while (this.polling.size > 0) {
      for (const client of this.polling) this.cancel(client);
      await delay(100);
    }
  }

  /**
   * Cancels the call that a connection is blocked in, by the protocol's own means: behind a pool pg_cancel_backend()
   * would hit the client that the server's process works for by now.
   */
  private cancel(client: pg.PoolClient): void {
    const target = client as unknown as { processID: number; secretKey: number };
    const sender = new pg.Client({ connectionString: this.app.options.connectionString }) as unknown as {
      connection: NodeJS.EventEmitter & {
        cancel(processID: number, secretKey: number): void;
        requestSsl(): void;
        connect(portOrPath: number | string, host?: string): void;
      };
      host: string;
      port: number;
      ssl: boolean;
    };
    const wire = sender.connection;
    const send = () => wire.cancel(target.processID, target.secretKey);
    wire.on("error", () => undefined); // no server: then the call fails as well
    wire.on("connect", () => (sender.ssl ? wire.requestSsl() : send()));
    wire.on("sslconnect", send);
    if (sender.host.startsWith("/")) wire.connect(`${sender.host}/.s.PGSQL.${sender.port}`);
    else wire.connect(sender.port, sender.host);
  }

  private async poll(kind: "activities" | "workflows"): Promise<void> {
    let pause = 100;
    while (!this.stopping) {
      try {
        while (this.busy.size >= this.concurrency) await Promise.race(this.busy);
        await this.pollOnce(kind);
        pause = 100;
        continue;
      } catch (error) {
        if ((error as { code?: string }).code === "57014") continue;
        this.log(`poll of ${kind}: ${messageOf(error)}`);
      }
      await Promise.race([
        delay(pause * (0.5 + Math.random())),
        new Promise<void>((resolve) => {
          this.wakeUp = resolve;
        }),
      ]);
      pause = Math.min(pause * 2, 30000);
    }
  }

  private async pollOnce(kind: "activities" | "workflows"): Promise<void> {
    const client = await this.app.connect();
    let tasks: any[] = [];
    let broken: Error | undefined;
    this.polling.add(client);
    try {
      if (this.stopping) return;
      const sql =
        kind === "activities"
          ? "call romancy.poll_activities($1::text, $2::text, $4::int, $3::interval, '20 s', null, $5::text[])"
          : "call romancy.poll_workflows($1::text, $2::text, $4::int, $3::interval, '20 s', null, $5::text[])";
      const unknown = [...this.unknown[kind]].filter((name) => !this.app[kind].has(name));
      const result = await client.query(sql, [this.app.queue, this.name, `${this.lease} s`, 1 + this.prefetch, unknown]);
      tasks = result.rows[0].tasks;
    } catch (error) {
      if ((error as { code?: string }).code !== "57014") broken = error as Error;
      throw error;
    } finally {
      this.polling.delete(client);
      // a cancel request that comes late hits no statement
      client.release(broken ?? this.stopping);
    }
    for (const task of tasks) this.leases.set(task.token, RENEWAL[kind]);
    for (const task of await this.leave(kind, tasks)) {
      while (this.busy.size >= this.concurrency && !this.stopping) await Promise.race([...this.busy, this.stopped]);
      if (this.stopping) await this.release(task.token);
      else this.begin(kind, task);
    }
  }

  /** Gives back what was not begun; others can take it at once. */
  private async release(token: string): Promise<void> {
    this.leases.delete(token);
    try {
      await this.tell("select romancy.release_activity($1::text)", [token]);
    } catch (error) {
      this.log(`a task could not be given back: ${messageOf(error)}`); // its lease ends, and another takes it
    }
  }

  private begin(kind: "activities" | "workflows", task: any): void {
    const work = (kind === "activities" ? this.serveActivity(task as ActivityTask) : this.serveWorkflow(task as WorkflowTask))
      .catch((error: unknown) => {
        const e = error as { code?: string; sqlstate?: string };
        if (e.code !== "RM009" && e.sqlstate !== "RM009") this.log(messageOf(error));
      })
      .finally(() => {
        this.leases.delete(task.token);
        this.busy.delete(work);
      });
    this.busy.add(work);
  }

  /** Runs a statement that may be repeated; over a new connection where the one at hand has broken. */
  private async tell(sql: string, values: unknown[]): Promise<any> {
    for (const pause of [50, 500, 2000, 8000]) {
      try {
        return (await this.app.pool.query(sql, values)).rows[0];
      } catch (error) {
        const e = fromDatabase(error) as { sqlstate?: string };
        if (!isPassing(e) || e.sqlstate === "RM009") throw error;
        this.log(`connection: ${messageOf(error)}`);
        await delay(pause * (0.5 + Math.random()));
      }
    }
    return (await this.app.pool.query(sql, values)).rows[0];
  }

  private async serveActivity(task: ActivityTask): Promise<void> {
    await this.app.serveActivity(task, (sql, values) => this.tell(sql, values), this.log);
  }

  /**
   * Gives back what this worker does not have, no attempt counted: another one of the queue may have it. This one asks for no more of
   * these names. It returns the others.
   */
  private async leave(kind: "activities" | "workflows", tasks: any[]): Promise<any[]> {
    const mine: any[] = [];
    const what = kind === "activities" ? "activity" : "workflow";
    for (const task of tasks) {
      const name: string = task[what];
      if (this.app[kind].has(name)) {
        mine.push(task);
        continue;
      }
      if (!this.unknown[kind].has(name)) this.log(`this worker has no ${what} "${name}": it leaves that to others`);
      this.unknown[kind].add(name);
      await this.release(task.token);
    }
    return mine;
  }

  private async serveWorkflow(task: WorkflowTask): Promise<void> {
    try {
      await this.app.stepWorkflow(this.app.pool, task);
    } catch (error) {
      const e = fromDatabase(error) as { sqlstate?: string };
      if (e.sqlstate === "RM009") throw error;
      this.log(messageOf(error));
      // the connection has broken: others can have it soon; had the server got what it was told, nothing happens
      this.leases.delete(task.token);
      await this.tell("select romancy.extend_lease($1::text, '500 ms'::interval)", [task.token]);
    }
  }

  private async renew(): Promise<void> {
    for (const [token, sql] of this.leases) {
      try {
        await this.app.pool.query(sql, [token, `${this.lease} s`]);
      } catch {
        // lost, or the connection is: the next call of the task says so
      }
    }
  }
}
