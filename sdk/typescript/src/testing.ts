/**
 * Tests of workflows without waiting: the worker's work and drain() in turn, in one transaction that is rolled back.
 */
import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import { errorOf, type App, type Instance } from "./app.js";

/** A transaction in which an app's workflows and activities run. */
export class Session {
  constructor(
    private readonly app: App,
    readonly client: pg.PoolClient,
  ) {}

  /**
   * Runs all that is ready, here and in the database, until nothing is; with advanceTime timers count as due, the
   * earliest first, once nothing else is ready. An activity's next attempt is waited for.
   */
  async run(options: { advanceTime?: boolean; most?: number } = {}): Promise<void> {
    const most = options.most ?? 10000;
    for (let total = 0; total < most; total++) {
      const served = await this.serve();
      let turns = await this.drain(false, most);
      if (served + turns > 0) continue;
      if (await this.waitForRetry()) continue;
      if (options.advanceTime) turns = await this.drain(true, 1);
      if (turns === 0) return;
    }
    throw new Error(`the workflows did not come to rest in ${most} steps`);
  }

  async status(instance: Instance): Promise<string> {
    return (await this.find(instance)).status;
  }

  /** The output of an instance that has ended; throws its error. */
  async result<O>(instance: Instance<O>): Promise<O> {
    const row = await this.find(instance);
    if (["failed", "cancelled", "paused"].includes(row.status)) throw errorOf(row.error);
    if (row.status !== "completed") throw new Error(`the instance has not ended: it is ${row.status}`);
    return row.output as O;
  }

  private async find(instance: Instance): Promise<any> {
    const sql = "select status::text, output, error from romancy.instances where instance_id = $1::uuid";
    return (await this.client.query(sql, [instance.id])).rows[0];
  }

  private async drain(advance: boolean, most: number): Promise<number> {
    const result = await this.client.query("call romancy.drain($1::int, $2::boolean, null)", [most, advance]);
    return Number(result.rows[0].turns);
  }

  private async serve(): Promise<number> {
    const workflows = await this.client.query("select to_jsonb(t) as task from romancy.fetch_workflows($1::text, 'test', 100) t", [
      this.app.queue,
    ]);
    for (const { task } of workflows.rows) await this.app.stepWorkflow(this.client, task);
    const activities = await this.client.query("select to_jsonb(t) as task from romancy.fetch_activities($1::text, 'test', 100) t", [
      this.app.queue,
    ]);
    for (const { task } of activities.rows) await this.app.serveActivity(task, (sql, values) => this.tell(sql, values));
    return workflows.rows.length + activities.rows.length;
  }

  /** Runs a statement; an error takes nothing else of the transaction back. */
  private async tell(sql: string, values: unknown[]): Promise<any> {
    return (await this.app.inSession(this.client, sql, values))[0];
  }

  private async waitForRetry(): Promise<boolean> {
    const { rows } = await this.client.query(
      "select extract(epoch from min(due_at) - clock_timestamp())::float8 as wait," +
        " count(*) filter (where status = 'ready')::int as ready" +
        " from romancy.activity_tasks where queue = $1::text and status in ('waiting', 'ready')",
      [this.app.queue],
    );
    if (rows[0].ready > 0) return true;
    if (rows[0].wait === null) return false;
    await delay(Math.max(0, rows[0].wait * 1000) + 1);
    return true;
  }
}

/** Defines the app's names, runs test with a Session, and rolls all back. */
export async function session(app: App, test: (session: Session) => Promise<void>): Promise<void> {
  const client = await app.connect();
  try {
    await client.query("begin");
    await app.define(client);
    app.session = client; // (client calls that name no client are made in this transaction, too)
    await test(new Session(app, client));
  } finally {
    app.session = undefined;
    await client.query("rollback");
    app.kept.clear();
    client.release();
  }
}
