/** Values as JSON. */
import { messageOf, Terminal } from "./errors.js";

/** JSON.stringify() makes null of these numbers and {} of these collections, and says nothing. */
function refuse(_key: string, value: unknown): unknown {
  if (typeof value === "number" && !Number.isFinite(value)) throw new TypeError(`${value}`);
  if (value instanceof Map || value instanceof Set || value instanceof WeakMap || value instanceof WeakSet)
    throw new TypeError(`a ${value.constructor.name}`);
  return value;
}

/** A value as JSON. */
export function text(value: unknown): string {
  try {
    return JSON.stringify(value ?? null, refuse) ?? "null";
  } catch (error) {
    throw new Terminal(`this is no value that JSON can hold: ${messageOf(error)}`, { code: "TypeError" });
  }
}

/** The detail of an error, if it has one that JSON can hold. */
export function detailOf(error: unknown): unknown {
  const detail = (error as { detail?: unknown } | null | undefined)?.detail;
  try {
    return detail === undefined ? undefined : (JSON.parse(text(detail)) as unknown);
  } catch {
    return undefined;
  }
}
