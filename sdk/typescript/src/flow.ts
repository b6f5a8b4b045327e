/** The calls of a workflow. Everything that waits gives a promise; await nothing else in a workflow. */
import { randomUUID } from "node:crypto";
import { Cancelled, codeOf, fromDocument, LeaseLost, messageOf, type ErrorDocument } from "./errors.js";
import { detailOf, text } from "./json.js";
import type { Signature } from "./canvas.js";
import { BrokenOff, canonical, currentTask, inside, require, requireTask, type HistoryEvent, type Queryable, type Run } from "./run.js";

const ACTIVITY = ["ActivityScheduled", "ActivityCompleted", "ActivityFailed"];
const CHILD = ["ChildWorkflowScheduled", "ChildWorkflowCompleted", "ChildWorkflowFailed"];
const TIMER = ["TimerScheduled", "TimerExpired"];
const RECEIVE = ["ReceiveScheduled", "ChannelMessageReceived", "MessageTimeout"];

/** Milliseconds, or an interval as PostgreSQL reads it ("3 days"). */
export type Duration = number | string;

export interface StepOptions {
  /** the step's id, in place of name:n */
  activityId?: string;
}

export interface WaitOptions extends StepOptions {
  timeout?: Duration;
}

export interface ActivityOptions extends StepOptions {
  retry?: Record<string, unknown>;
}

export interface ChildOptions {
  activityId?: string;
  onParentClose?: "cancel" | "abandon";
  version?: number;
  priority?: number;
  labels?: Record<string, unknown>;
  executionTimeout?: Duration;
}

export interface Message<T = any> {
  id: number;
  channel: string;
  /** a Buffer, where bytes were sent */
  data: T;
  metadata?: unknown;
  /** the instance that sent it */
  sender?: string;
  /** the role that published it */
  publisher?: string;
  published_at?: string;
}

/** Something with a name that the server knows: a function of this program, or just the name. */
export interface Named<I, O> {
  readonly workflowName?: string;
  readonly activityName?: string;
  /** types only */
  readonly __input?: I;
  readonly __output?: O;
}

/** A step that runs in parallel: give it to gather() or any(). */
export class Handle<T = any> {
  constructor(
    readonly step: string,
    readonly convert: (value: any) => T = (v) => v as T,
  ) {}
}

export function interval(value: Duration): string {
  return typeof value === "number" ? `${value} milliseconds` : value;
}

function nameOf(target: string | Named<any, any>, what: "activityName" | "workflowName"): string {
  const name = typeof target === "string" ? target : target[what];
  if (name === undefined) throw new TypeError(`this is no ${what === "activityName" ? "activity" : "workflow"}`);
  return name;
}

/** Runs an activity and gives its result. */
export function activity<I, O>(target: string | Named<I, O>, input?: I, options: ActivityOptions = {}): Promise<O> {
  const run = require("activity()");
  const name = nameOf(target, "activityName");
  const step = options.activityId ?? run.stepId(name);
  run.command("activity", step, ACTIVITY, name, { name, input: input ?? null, retry: options.retry });
  return run.wait(step, (event) => run.value(event) as O);
}

/** Schedules an activity in parallel. */
export function spawn<I, O>(target: string | Named<I, O>, input?: I, options: ActivityOptions = {}): Handle<O> {
  const run = require("spawn()");
  const name = nameOf(target, "activityName");
  const step = options.activityId ?? run.stepId(name);
  run.command("activity", step, ACTIVITY, name, { name, input: input ?? null, retry: options.retry });
  return new Handle<O>(step);
}

/**
 * Runs an activity for each input, at most maxParallel at a time; their results, in order. When some fail the others run on; then the first
 * error in order is thrown.
 */
export async function map<I, O>(target: string | Named<I, O>, inputs: Iterable<I>, options: { maxParallel?: number } = {}): Promise<O[]> {
  const run = require("map()");
  const most = options.maxParallel ?? Infinity;
  if (most < 1) throw new RangeError("maxParallel must be greater than zero");
  const handles: Handle<O>[] = [];
  const pending = () => handles.filter((h) => !run.outcome(h.step)).map((h) => h.step);
  for (const input of inputs) {
    // (replay schedules what was scheduled)
    while (run.unused() === undefined && pending().length >= most) {
      const before = pending().length;
      await run.pending(pending(), true, () => (pending().length < before ? { value: () => undefined } : undefined));
    }
    handles.push(spawn(target, input));
  }
  return gather(handles);
}

/** Starts another workflow beside this one. */
export function spawnChild<I, O>(target: string | Named<I, O>, input?: I, options: ChildOptions = {}): Handle<O> {
  const run = require("spawnChild()");
  const name = nameOf(target, "workflowName");
  const step = options.activityId ?? run.stepId(name);
  run.command("child", step, CHILD, name, {
    name,
    input: input ?? null,
    on_parent_close: options.onParentClose,
    version: options.version,
    priority: options.priority,
    labels: options.labels,
    execution_timeout: options.executionTimeout === undefined ? undefined : interval(options.executionTimeout),
  });
  return new Handle<O>(step);
}

/** Runs another workflow and gives its result. */
export function child<I, O>(target: string | Named<I, O>, input?: I, options: ChildOptions = {}): Promise<O> {
  const handle = spawnChild(target, input, options);
  const run = require("child()");
  return run.wait(handle.step, (event) => run.value(event) as O);
}

/** Runs a signature of task(), chain(), group(), chord() and gives its result. */
export function canvas<T = any>(signature: Signature, input?: unknown, options: { activityId?: string } = {}): Promise<T> {
  const handle = spawnCanvas<T>(signature, input, options);
  const run = require("canvas()");
  return run.wait(handle.step, (event) => run.value(event) as T);
}

/** Starts a signature in parallel. */
export function spawnCanvas<T = any>(signature: Signature, input?: unknown, options: { activityId?: string } = {}): Handle<T> {
  const run = require("spawnCanvas()");
  const step = options.activityId ?? run.stepId("canvas");
  run.command("canvas", step, CHILD, "canvas", { signature, input });
  return new Handle<T>(step);
}

/**
 * Runs code in a transaction of the worker's connection, with its record: exactly once. The calls that the workflow has
 * scheduled before it are carried out first, and so are its transactions that began before. The code makes no call of romancy.
 */
export async function transaction<T>(name: string, code: (client: Queryable) => Promise<T>, input: unknown = null): Promise<T> {
  const run = require("transaction()");
  const step = run.stepId(name);
  const event = run.known(step, ACTIVITY, name, { value: input });
  if (event) return run.value(event) as T;
  await run.flush();
  const record = { op: "activity", id: step, name, input };
  const done = await run.inTurn(async () => {
    if (run.broken) return undefined;
    let taken: Record<string, unknown>[] = [];
    try {
      return await run.transact!(async (client) => {
        const ended = new Promise<T>((resolve, reject) => {
          inside.run({ run, fail: reject }, async () => code(client)).then(resolve, reject);
        });
        const result: unknown = JSON.parse(text((await ended) ?? null));
        // (calls beside this one may add others meanwhile)
        taken = run.records;
        run.records = [];
        await client.query("select romancy.record($1::text, $2::jsonb)", [run.task.token, text([...taken, { ...record, result }])]);
        return { result: result as T };
      });
    } catch (error) {
      run.records = [...taken, ...run.records];
      if (error instanceof BrokenOff) run.broken = error.cause;
      // the failure is part of history, so that the code sees in every run what it saw in the first
      else run.records.push({ ...record, error: { message: messageOf(error), code: codeOf(error), detail: detailOf(error) } });
      return undefined;
    }
  });
  if (done) return done.result;
  return run.pending([], false, () => {
    const failed = run.steps.get(step);
    return failed && { value: () => run.value(failed) as T };
  });
}

export interface HttpOptions extends ActivityOptions {
  /** sent as JSON; none where it is not given */
  body?: unknown;
  /** with secrets as {{secret:name}} */
  headers?: Record<string, string>;
  /** of each attempt */
  timeout?: Duration;
}

export interface HttpResponse<T = any> {
  status: number;
  headers: Record<string, string>;
  body: T;
}

/** Has the server send an HTTP request, at least once with one Idempotency-Key. A status that is not 2xx is an ActivityError. */
export function http<T = any>(method: string, url: string, options: HttpOptions = {}): Promise<HttpResponse<T>> {
  const { step } = spawnHttp<T>(method, url, options);
  const run = require("http()");
  return run.wait(step, (event) => run.value(event) as HttpResponse<T>);
}

/** The same in parallel. */
export function spawnHttp<T = any>(method: string, url: string, options: HttpOptions = {}): Handle<HttpResponse<T>> {
  const run = require("http()");
  const step = options.activityId ?? run.stepId("http");
  const { body, headers, retry } = options;
  const timeout = options.timeout === undefined ? undefined : interval(options.timeout);
  run.command("http", step, ACTIVITY, undefined, { method, url, body, headers, timeout, retry });
  const held = run.steps.get(step)?.data?.input as Record<string, any> | undefined;
  // (the server keeps a URL's host in its own spelling)
  const path = url.slice(url.indexOf("://") + 3).replace(/^[^/]*\/?/, "");
  const same = (a: unknown, b: unknown) => canonical(a) === canonical(b);
  if (held && !(held.method === method.toUpperCase() && same(held.body, body) && same(held.headers, headers) && held.url.endsWith(path)))
    run.differs(`the program asks for "${step}" as ${method} ${url}; history holds ${held.method} ${held.url}, or with another body or headers`);
  return new Handle<HttpResponse<T>>(step);
}

/** A timer as a handle. */
export function spawnTimer(duration: Duration): Handle<null> {
  const run = require("spawnTimer()");
  const step = run.stepId("spawn_timer");
  run.command("timer", step, TIMER, undefined, { duration: interval(duration) });
  return new Handle<null>(step, () => null);
}

/** The next message of a channel as a handle. */
export function spawnReceive<T = any>(channel: string): Handle<Message<T>> {
  const run = require("spawnReceive()");
  const step = run.stepId(`receive_${channel}`);
  run.command("receive", step, RECEIVE, undefined, { channel });
  return new Handle<Message<T>>(step, message);
}

/** The keys of a command for what a message or an event carries: JSON, or bytes. */
function payload(data: unknown): { data?: unknown; data_binary?: string } {
  return data instanceof Uint8Array ? { data_binary: Buffer.from(data).toString("base64") } : { data: data ?? null };
}

function message<T>(held: any): Message<T> {
  const { data_binary: binary, ...rest } = held;
  return binary == null ? held : { ...rest, data: Buffer.from(binary, "base64") };
}

/** Durable: no process waits. */
export function sleep(duration: Duration, options: StepOptions = {}): Promise<void> {
  const run = require("sleep()");
  const step = options.activityId ?? run.stepId("sleep");
  run.command("timer", step, TIMER, undefined, { duration: interval(duration) });
  return run.wait(step, () => undefined);
}

export function sleepUntil(until: Date, options: StepOptions = {}): Promise<void> {
  const run = require("sleepUntil()");
  const step = options.activityId ?? run.stepId("sleep_until");
  run.command("timer", step, TIMER, undefined, { until: until.toISOString() });
  return run.wait(step, () => undefined);
}

/** The oldest message of a channel that was sent to this instance (or published, once subscribed). */
export function receive<T = any>(channel: string, options: WaitOptions = {}): Promise<Message<T>> {
  const run = require("receive()");
  const step = options.activityId ?? run.stepId(`receive_${channel}`);
  const timeout = options.timeout === undefined ? undefined : interval(options.timeout);
  run.command("receive", step, RECEIVE, undefined, { channel, timeout });
  return run.wait(step, (event) => message<T>(run.value(event)));
}

/** A CloudEvent of a type. */
export function waitEvent<T = any>(type: string, options: WaitOptions = {}): Promise<T> {
  const run = require("waitEvent()");
  const step = options.activityId ?? run.stepId(`receive_${type}`);
  const timeout = options.timeout === undefined ? undefined : interval(options.timeout);
  run.command("event", step, ["EventReceived", "ChannelMessageReceived", "MessageTimeout"], undefined, { type, timeout });
  return run.wait(step, (event) => run.value(event) as T);
}

type Results<H extends readonly Handle<any>[]> = { -readonly [K in keyof H]: H[K] extends Handle<infer T> ? T : never };

/** The results of all, in their order; throws the first error in that order. */
export function gather<const H extends readonly Handle<any>[]>(handles: H): Promise<Results<H>> {
  const run = require("gather()");
  const ids = handles.map((h) => h.step);
  return run.pending(ids, false, () =>
    handles.every((h) => run.outcome(h.step))
      ? { value: () => handles.map((h) => h.convert(run.value(run.outcome(h.step)!))) as Results<H> }
      : undefined,
  );
}

/** The first that ends, with its result; TimeoutError past the timeout. The others go on. */
export function any<T>(handles: readonly Handle<T>[], options: { timeout?: Duration } = {}): Promise<{ handle: Handle<T>; result: T }> {
  const run = require("any()");
  if (handles.length === 0) return Promise.reject(new RangeError("any() needs at least one handle"));
  const label = run.stepId("await_any");
  run.used.add(label);
  const look = () => {
    const late = run.steps.get(label);
    if (late)
      return {
        value: () => {
          throw fromDocument(late.data?.error as ErrorDocument);
        },
      };
    let first: { seq: number; handle: Handle<T>; event: HistoryEvent } | undefined;
    for (const handle of handles) {
      const event = run.outcome(handle.step);
      if (event && (!first || Number(event.seq) < first.seq)) first = { seq: Number(event.seq), handle, event };
    }
    if (!first) return undefined;
    const { handle, event } = first;
    return { value: () => ({ handle, result: handle.convert(run.value(event)) }) };
  };
  return run.pending(
    handles.map((h) => h.step),
    true,
    look,
    options.timeout === undefined ? undefined : interval(options.timeout),
    label,
  );
}

// ---------------------------------------------------------------- done here

/** The time, recorded: the same in every replay. */
export function now(): Date {
  const run = require("now()");
  const value = new Date();
  const event = run.record("now", run.stepId("workflow_now"), ["ValueRecorded"], undefined, { value: value.toISOString() });
  return event ? new Date(run.value(event) as string) : value;
}

export function random(): number {
  const run = require("random()");
  const value = Math.random();
  const event = run.record("random", run.stepId("workflow_random"), ["ValueRecorded"], undefined, { value });
  return event ? (run.value(event) as number) : value;
}

export function uuid(): string {
  const run = require("uuid()");
  const value = randomUUID();
  const event = run.record("uuid", run.stepId("workflow_uuid"), ["ValueRecorded"], undefined, { value });
  return event ? (run.value(event) as string) : value;
}

/** True for instances that reach this point first under the new code. */
export function patched(change: string): boolean {
  const run = require("patched()");
  const step = run.stepId(`patched_${change}`);
  if (run.steps.has(step)) {
    run.used.add(step);
    return true;
  }
  if (run.unused() !== undefined) return false;
  run.used.add(step);
  run.records.push({ op: "patched", id: step, change });
  return true;
}

/** Others read it with get_value(). */
export function setValue(key: string, value: unknown): void {
  const run = require("setValue()");
  run.record("set_value", run.stepId("set_value"), ["ValueSet"], key, { key, value: value ?? null });
}

export function setLabels(labels: Record<string, unknown>): void {
  const run = require("setLabels()");
  run.record("set_labels", run.stepId("set_labels"), ["LabelsSet"], undefined, { labels });
}

/** How far the workflow is; others see it with get_progress(). In an activity, too, where the promise says that the server has it. */
export function progress(done: number, total?: number, note?: string): Promise<void> | undefined {
  const activity = currentTask.getStore();
  if (activity) {
    const sql = "select romancy.report_progress($1::text, $2::bigint, $3::bigint, $4::text)";
    return activity.ask(sql, [activity.task.token, done, total ?? null, note ?? null]).then(() => undefined);
  }
  const run = require("progress()");
  if (run.unused() === undefined) run.records.push({ op: "progress", done, total, note });
  return undefined;
}

/** With an activity: registers it to undo what was done. Without: runs now what is registered. */
export function compensate(): Promise<number>;
export function compensate<I>(target: string | Named<I, any>, input: I): void;
export function compensate(target?: string | Named<any, any>, input?: unknown): Promise<number> | void {
  const run: Run = require("compensate()");
  if (target !== undefined) {
    const name = nameOf(target, "activityName");
    run.record("register_compensation", run.stepId("register_compensation"), ["CompensationRegistered"], name, {
      activity: name,
      input: input ?? null,
    });
    return;
  }
  const step = run.stepId("compensate");
  run.command("compensate", step, ["Compensated"], undefined, {});
  return run.wait(step, (event) => run.value(event) as number);
}

// ---------------------------------------------------------------- carried out by the server, at once

/** Sends a message to a channel's subscribers. The handle's result is the message's id, for a workflow that wants to know it. */
export function publish(channel: string, data?: unknown, metadata?: unknown): Handle<number> {
  const run = require("publish()");
  const step = run.stepId(`publish_${channel}`);
  run.command("publish", step, ["MessagePublished"], undefined, { channel, ...payload(data), metadata });
  return new Handle<number>(step);
}

/** Sends a message to one instance; a handle as publish() gives it. */
export function sendTo(instanceId: string, channel: string, data?: unknown, metadata?: unknown): Handle<number> {
  const run = require("sendTo()");
  const step = run.stepId(`send_to_${instanceId}_${channel}`);
  run.command("send_to", step, ["MessageSent"], undefined, { instance_id: instanceId, channel, ...payload(data), metadata });
  return new Handle<number>(step);
}

export function subscribe(channel: string, mode: "broadcast" | "competing" | "direct" = "broadcast"): void {
  const run = require("subscribe()");
  run.command("subscribe", run.stepId(`subscribe_${channel}`), ["ChannelSubscribed"], undefined, { channel, mode });
}

export function unsubscribe(channel: string): void {
  const run = require("unsubscribe()");
  run.command("unsubscribe", run.stepId(`unsubscribe_${channel}`), ["ChannelUnsubscribed"], undefined, { channel });
}

export function joinGroup(name: string): void {
  const run = require("joinGroup()");
  run.command("join_group", run.stepId(`join_group_${name}`), ["GroupJoined"], undefined, { name });
}

export function leaveGroup(name: string): void {
  const run = require("leaveGroup()");
  run.command("leave_group", run.stepId(`leave_group_${name}`), ["GroupLeft"], undefined, { name });
}

export interface EventOptions {
  id?: string;
  subject?: string;
  datacontenttype?: string;
  extensions?: Record<string, unknown>;
  instanceId?: string;
  time?: Date;
}

/** A CloudEvent comes in: wakes waitEvent(), starts workflows with that onEvent. The handle's result is the event's id. */
export function raiseEvent(type: string, source: string, data?: unknown, options: EventOptions = {}): Handle<string> {
  const run = require("raiseEvent()");
  const step = run.stepId(`raise_event_${type}`);
  run.command("raise_event", step, ["EventRaised"], undefined, {
    type,
    source,
    ...payload(data),
    event_time: options.time?.toISOString(),
    event_id: options.id,
    subject: options.subject,
    datacontenttype: options.datacontenttype,
    extensions: options.extensions,
    instance_id: options.instanceId,
  });
  return new Handle<string>(step);
}

export interface SendOptions extends Omit<EventOptions, "instanceId" | "time"> {
  destination?: string;
  /** the next event of this key is sent after the one before */
  orderingKey?: string;
}

/** A CloudEvent goes out, by the outbox, to a destination or to all that ask for its type. The handle's result is the event's id. */
export function sendEvent(type: string, source: string, data?: unknown, options: SendOptions = {}): Handle<string> {
  const run = require("sendEvent()");
  const step = run.stepId(`send_event_${type}`);
  run.command("send_event", step, ["EventSent"], undefined, {
    type,
    source,
    ...payload(data),
    event_id: options.id,
    subject: options.subject,
    datacontenttype: options.datacontenttype,
    extensions: options.extensions,
    destination: options.destination,
    ordering_key: options.orderingKey,
  });
  return new Handle<string>(step);
}

/** Starts an instance of a workflow for each input, all in one round trip. Gives their ids, in order. */
export function startMany<I>(target: string | Named<I, any>, inputs: Iterable<I>): Promise<string[]> {
  const run = require("startMany()");
  const name = nameOf(target, "workflowName");
  const handles = Array.from(inputs, (input) => {
    const step = run.stepId("start_workflow");
    run.command("start", step, ["WorkflowStarted"], undefined, { name, input: input ?? null });
    return new Handle<string>(step);
  });
  return gather(handles);
}

/** Starts another workflow, which is no child: it goes on by itself. Gives its id. */
export function start<I>(
  target: string | Named<I, any>,
  input?: I,
  options: {
    key?: string;
    id?: string;
    at?: Date;
    priority?: number;
    labels?: Record<string, unknown>;
    version?: number;
    executionTimeout?: Duration;
  } = {},
): Promise<string> {
  const run = require("start()");
  const name = nameOf(target, "workflowName");
  const step = run.stepId("start_workflow");
  run.command("start", step, ["WorkflowStarted"], undefined, {
    name,
    input: input ?? null,
    idempotency_key: options.key,
    instance_id: options.id,
    start_at: options.at?.toISOString(),
    execution_timeout: options.executionTimeout === undefined ? undefined : interval(options.executionTimeout),
    priority: options.priority,
    labels: options.labels,
    version: options.version,
  });
  return run.wait(step, (event) => run.value(event) as string);
}

/** Cancels another instance; true if it was live. */
export function cancel(instanceId: string, reason?: string): Promise<boolean> {
  const run = require("cancel()");
  const step = run.stepId("cancel_workflow");
  run.command("cancel", step, ["CancelRequested"], undefined, { instance_id: instanceId, reason });
  return run.wait(step, (event) => run.value(event) as boolean);
}

/** Ends this instance and goes on in a new one with another input. The promise never resolves. */
export function recur(input?: unknown): Promise<never> {
  const run = require("recur()");
  run.command("recur", run.stepId("recur"), ["WorkflowRecurred"], undefined, { input: input ?? null });
  run.ending = true;
  return new Promise<never>(() => undefined);
}

export function instanceId(): string {
  return (currentTask.getStore() ?? require("instanceId()")).task.instance_id;
}

/** In an activity: what identifies the step to others, the same on every attempt. */
export function stepKey(): string {
  return requireTask("stepKey()").task.step_key;
}

/**
 * In an activity: renews the lease and keeps the details for the next attempt. Throws Cancelled when the
 * result is not wanted any more, LeaseLost when another worker has the task.
 */
export async function heartbeat(details?: unknown): Promise<void> {
  const state = await requireTask("heartbeat()").beat(details === undefined ? null : text(details));
  if (state === "cancel_requested") throw new Cancelled("the instance of this activity is over", { sqlstate: "RM008" });
  if (state === "lost") throw new LeaseLost("another worker has this activity now", { sqlstate: "RM009" });
}

/** In an activity: what an attempt before this one gave to heartbeat() last. */
export function lastDetails<T = any>(): T | undefined {
  return (requireTask("lastDetails()").task.last_details ?? undefined) as T | undefined;
}

/** The time that a schedule's run is for; null in other instances. In an activity, too. */
export async function scheduledAt(): Promise<Date | null> {
  const activity = currentTask.getStore();
  const value: unknown = activity
    ? (await activity.ask("select romancy.scheduled_at($1::text) as at", [activity.task.token])).at
    : require("scheduledAt()").task.scheduled_at;
  return value == null ? null : new Date(value as string);
}

export function workflowName(): string {
  return require("workflowName()").task.workflow;
}

/** In an activity, the number of this attempt. In a workflow: how often a worker has taken it without giving it back, and this time. */
export function attempt(): number {
  return (currentTask.getStore() ?? require("attempt()")).task.attempt ?? 1;
}

export function isReplaying(): boolean {
  return require("isReplaying()").unused() !== undefined;
}
