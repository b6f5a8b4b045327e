/**
 * One run of a workflow's code: what history answers, and the commands of what it does not.
 *
 * The code is run from the top; each call has an id, which is counted per name as the server counts for handlers
 * ("charge:1"), so histories look alike in every language. Calls that history lacks are collected as records (done here) and
 * commands (to be scheduled), and sent in one round trip when nothing in the code can go on. The promises then stay
 * pending: the run is kept and goes on where it stopped, or it is begun anew in another process.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { promiseHooks } from "node:v8";
import { fromDocument, NonDeterminism, type ErrorDocument } from "./errors.js";

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json | undefined };

/** Runs statements: a pg client or pool, or a client in a transaction of the caller's. */
export interface Queryable {
  query(sql: string, values?: unknown[]): Promise<{ rows: any[] }>;
}

export interface HistoryEvent {
  seq: number;
  event_type: string;
  activity_id?: string | null;
  data?: Record<string, any> | null;
}

export interface WorkflowTask {
  token: string;
  instance_id: string;
  workflow: string;
  namespace?: string;
  attempt?: number;
  input: any;
  scheduled_at?: string | null;
  history?: HistoryEvent[];
}

interface Waiter {
  ids: string[];
  any: boolean;
  timeout?: string;
  label?: string;
  /** a call that runs a step and waits for it, as a handler's does; gather() and any() wait for what was scheduled */
  call?: boolean;
  /** resolves the promise of the call when history has what it waits for; false: not yet */
  settle: () => boolean;
}

/** Ends a run that is begun anew later; the workflow's code never sees it. */
export class BrokenOff extends Error {
  constructor(override readonly cause: Error) {
    super(cause.message);
  }
}

const LIFE_CYCLE = new Set(["CompensationExecuted", "CompensationFailed"]);
const SCHEDULED = new Set(["ActivityScheduled", "TimerScheduled", "ReceiveScheduled", "ChildWorkflowScheduled"]);
const FAILED = new Set(["ActivityFailed", "ChildWorkflowFailed", "MessageTimeout", "AwaitTimeout", "CallFailed"]);

export const current = new AsyncLocalStorage<Run>();

/** A transaction whose code runs. fail: ends it with an error. */
export interface Inside {
  run: Run;
  fail: (error: Error) => void;
}

/** of the code of a transaction */
export const inside = new AsyncLocalStorage<Inside>();

/** promises that workflows' code has made, outside of transactions */
const outer = new WeakSet<Promise<unknown>>();
let watching = false;

/**
 * Sees which promises a transaction's code awaits: one of the workflow's, whatever it was made of, may wait for the turn, and the turn
 * waits for the transaction.
 */
function watch(): void {
  if (watching) return;
  watching = true;
  promiseHooks.onInit((promise: Promise<unknown>, parent?: Promise<unknown>) => {
    const transaction = inside.getStore();
    if (!transaction) {
      if (current.getStore()) outer.add(promise);
    } else if (parent && outer.has(parent)) {
      // (one that is about to be resolved is not waited for)
      inside.run(undefined as unknown as Inside, () => setImmediate(() => void refuse(transaction, parent)));
    }
  });
}

/** Ends a transaction that waits for a promise which only the turn's end resolves. */
async function refuse(transaction: Inside, promise: Promise<unknown>): Promise<void> {
  const pending = Symbol();
  const first = await Promise.race([promise, Promise.resolve(pending)]).catch(() => undefined);
  if (first === pending && transaction.run.isWaiting())
    transaction.fail(new Error("a promise of the workflow cannot be awaited inside transaction(): await it before"));
}

/** An activity's task, and how to renew its lease with details (JSON, or null) for the next attempt. */
export interface ActivityTask {
  token: string;
  instance_id: string;
  activity: string;
  input: any;
  attempt: number;
  step_key: string;
  last_details?: any;
}

export const currentTask = new AsyncLocalStorage<{ task: ActivityTask; beat: (details: string | null) => Promise<string>; ask: (sql: string, values: unknown[]) => Promise<any> }>();

/** A document with sorted keys: the server stores jsonb, which keeps no order. */
export function canonical(value: unknown): string {
  return JSON.stringify(value ?? null, (_key, v) =>
    v && typeof v === "object" && !Array.isArray(v)
      ? Object.fromEntries(Object.entries(v).filter(([, x]) => x !== undefined).sort(([a], [b]) => (a < b ? -1 : 1)))
      : v,
  );
}

export class Run {
  readonly steps = new Map<string, HistoryEvent>();
  readonly outcomes = new Map<string, HistoryEvent>();
  readonly used = new Set<string>();
  records: Record<string, unknown>[] = [];
  commands: Record<string, unknown>[] = [];
  lastSeq = 0;
  /** calls that wait, oldest first */
  private waiters: Waiter[] = [];
  private counts = new Map<string, number>();
  /** true once the code has to end: recur */
  ending = false;
  /** what the code is doing here, and not the server: transactions */
  readonly working = new Set<Promise<unknown>>();
  /** runs code in a transaction of the worker's connection */
  transact: (<T>(code: (client: Queryable) => Promise<T>) => Promise<T>) | undefined;
  /** the end of the last of the transactions, which run one after the other: history holds them in the order of the calls */
  private transacted: Promise<unknown> = Promise.resolve();

  /** why the run cannot go on: a transaction's connection has broken */
  broken: unknown;

  /** in what the code differs from history, whatever it caught */
  changed: NonDeterminism | undefined;

  constructor(public task: WorkflowTask) {
    watch();
    this.absorb(task.history ?? []);
  }

  // ------------------------------------------------------------ history

  absorb(events: HistoryEvent[]): void {
    for (const e of events) {
      if (Number(e.seq) <= this.lastSeq) continue;
      this.lastSeq = Number(e.seq);
      const kind = e.event_type;
      const step = e.activity_id;
      if (step == null || LIFE_CYCLE.has(kind) || (kind.startsWith("Workflow") && kind !== "WorkflowStarted")) continue;
      const first = this.steps.get(step);
      if (first && SCHEDULED.has(first.event_type)) {
        if (!this.outcomes.has(step)) this.outcomes.set(step, e);
      } else {
        this.steps.set(step, e);
      }
    }
  }

  differs(what: string): never {
    this.changed = new NonDeterminism(what, {
      sqlstate: "RM003",
      hint: "Run the former program, or guard the change with patched(); then call romancy.resume_workflow().",
    });
    throw this.changed;
  }

  stepId(name: string): string {
    const n = (this.counts.get(name) ?? 0) + 1;
    this.counts.set(name, n);
    return `${name}:${n}`;
  }

  unused(): string | undefined {
    for (const step of this.steps.keys()) if (!this.used.has(step)) return step;
    return undefined;
  }

  /** The event that answers a call; undefined past the end of history. It must be of these kinds, this name, this input. */
  known(step: string, kinds: string[], name?: string, input?: { value: unknown }): HistoryEvent | undefined {
    if (this.used.has(step)) this.differs(`activity_id "${step}" is used twice`);
    this.used.add(step);
    const event = this.steps.get(step);
    if (!event) {
      const left = this.unused();
      if (left !== undefined) this.differs(`the program asks for "${step}"; history holds "${left}"`);
      return undefined;
    }
    if (!kinds.includes(event.event_type) && event.event_type !== "CallFailed")
      this.differs(`the program asks for another kind of step "${step}" than ${event.event_type}, which history holds`);
    const held = (event.data?.name as string | undefined) ?? step.slice(0, step.lastIndexOf(":"));
    if (name !== undefined && held !== name)
      this.differs(`the program asks for "${name}" as "${step}"; history holds "${held}"`);
    if (input && canonical(event.data?.input) !== canonical(input.value))
      this.differs(`the program asks for "${step}" with another input than history holds`);
    return event;
  }

  /** Has the server carry out what was scheduled, before the code goes on. */
  flush(): Promise<void> {
    if (this.commands.length === 0) return Promise.resolve();
    const before = this.sent;
    return this.pending([], false, () => (this.sent > before ? { value: () => undefined } : undefined));
  }

  /** how often commands were sent */
  sent = 0;

  finish(): void {
    const left = this.unused();
    if (left !== undefined) this.differs(`the program ends; history goes on with "${left}"`);
  }

  // ------------------------------------------------------------ calls

  /** Runs work here once what began so before it has ended; the turn waits for its end. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const promise = this.transacted.then(work).finally(() => this.working.delete(promise));
    this.working.add(promise);
    this.transacted = promise.catch(() => undefined);
    return promise;
  }

  record(op: string, step: string, kinds: string[], name: string | undefined, fields: Record<string, unknown>): HistoryEvent | undefined {
    const event = this.known(step, kinds, name);
    if (!event) this.records.push({ op, id: step, ...fields });
    return event;
  }

  command(op: string, step: string, kinds: string[], name: string | undefined, fields: Record<string, unknown>): void {
    const compared = op === "activity" || op === "child" ? { value: fields.input } : undefined;
    if (!this.known(step, kinds, name, compared)) this.commands.push({ op, id: step, ...fields });
  }

  outcome(step: string): HistoryEvent | undefined {
    const outcome = this.outcomes.get(step);
    if (outcome) return outcome;
    const event = this.steps.get(step);
    return event && SCHEDULED.has(event.event_type) ? undefined : event;
  }

  value(event: HistoryEvent): any {
    if (FAILED.has(event.event_type)) throw fromDocument(event.data?.error as ErrorDocument);
    return event.data?.result ?? null;
  }

  /** A promise of a step's end. */
  wait<T>(step: string, convert: (event: HistoryEvent) => T): Promise<T> {
    return this.pending([step], false, () => {
      const event = this.outcome(step);
      return event ? { value: () => convert(event) } : undefined;
    }, undefined, undefined, true);
  }

  /** A promise that resolves when look() finds something. */
  pending<T>(ids: string[], any: boolean, look: () => { value: () => T } | undefined, timeout?: string, label?: string, call?: boolean): Promise<T> {
    const promise = new Promise<T>((resolve, reject) => {
      const settle = () => {
        const found = look();
        if (!found) return false;
        try {
          resolve(found.value());
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
        return true;
      };
      if (!settle()) this.waiters.push({ ids, any, timeout, label, call, settle });
    });
    // the code may await it later, or not at all: that is no error of the program
    promise.catch(() => undefined);
    return promise;
  }

  /** Does the code wait, and for nothing of ours? */
  isStuck(): boolean {
    return this.waiters.length === 0 && this.commands.length === 0 && this.records.length === 0 && !this.ending;
  }

  /** Is there something that the turn's end resolves? */
  isWaiting(): boolean {
    return this.waiters.length > 0 || this.working.size > 1;
  }

  /** Resolves what history answers now; true when the code can go on. */
  settle(): boolean {
    const before = this.waiters.length;
    this.waiters = this.waiters.filter((w) => !w.settle());
    return this.waiters.length < before;
  }

  /** The waits of all calls that wait. null: the last command alone, as a handler's call. */
  waitFor(): Record<string, unknown> | null {
    if (this.ending) return null;
    const last = this.commands.at(-1)?.id;
    // (a call that waits for no step goes on when the server has what is sent now)
    if (this.waiters.length === 0 || this.waiters.some((x) => x.ids.length === 0)) return { all: [] };
    const [w] = this.waiters;
    if (this.waiters.length === 1) {
      if (w.call && w.ids[0] === last) return null;
      if (!w.any) return { all: w.ids };
      return { any: w.ids, id: w.label, ...(w.timeout === undefined ? {} : { timeout: w.timeout }) };
    }
    const ids = [...new Set(this.waiters.flatMap((x) => x.ids))].filter((id) => !this.outcome(id));
    const timed = this.waiters.find((x) => x.timeout !== undefined);
    return timed ? { any: ids, id: timed.label, timeout: timed.timeout } : { any: ids };
  }
}

export function requireTask(what: string) {
  const task = currentTask.getStore();
  if (!task) throw new Error(`${what} can only be called from a running activity`);
  return task;
}

export function require(what: string): Run {
  const run = current.getStore();
  if (!run) throw new Error(`${what} can only be called from a running workflow`);
  if (inside.getStore()) throw new Error(`${what} cannot be called inside transaction()`);
  return run;
}
