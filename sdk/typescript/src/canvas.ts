/** Signatures of canvases: plain documents, to be put together, stored, and run with App.runCanvas() or canvas(). */
import type { Duration, Named } from "./flow.js";

export interface SignatureOptions {
  retry?: Record<string, unknown>;
  priority?: number;
  onError?: Signature;
  immutable?: boolean;
  onSuccess?: Signature;
  delay?: Duration;
  timeout?: Duration;
  expires?: Duration;
}

export interface Signature {
  task?: string;
  input?: unknown;
  chain?: Signature[];
  group?: Signature[];
  chord?: { header: Signature | Signature[]; body: Signature };
  options?: Record<string, unknown>;
}

/** One task. */
export function task<I>(target: string | Named<I, any>, input?: I): Signature {
  const name = typeof target === "string" ? target : target.activityName;
  if (name === undefined) throw new TypeError("this is no activity");
  return input === undefined ? { task: name } : { task: name, input };
}

/** One after the other, each with the result before it. */
export function chain(...signatures: Signature[]): Signature {
  return { chain: signatures };
}

/** All in parallel; an array of results. */
export function group(...signatures: Signature[]): Signature {
  return { group: signatures };
}

/** A group, or an array of signatures, then a callback with its results. */
export function chord(header: Signature | Signature[], body: Signature): Signature {
  return { chord: { header, body } };
}

/** The signature with options, as romancy.options() takes them. */
export function options(signature: Signature, o: SignatureOptions): Signature {
  const text = (d: Duration | undefined) => (typeof d === "number" ? `${d} milliseconds` : d);
  const given = {
    retry: o.retry,
    priority: o.priority,
    on_error: o.onError,
    immutable: o.immutable,
    on_success: o.onSuccess,
    delay: text(o.delay),
    timeout: text(o.timeout),
    expires: text(o.expires),
  };
  const kept = Object.fromEntries(Object.entries(given).filter(([, v]) => v !== undefined));
  return { ...signature, options: { ...signature.options, ...kept } };
}
