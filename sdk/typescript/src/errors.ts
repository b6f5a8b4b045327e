/** Errors that programs see. Each carries the SQLSTATE of the server. */

export interface ErrorDocument {
  sqlstate?: string;
  code?: string;
  message?: string;
  detail?: unknown;
  hint?: string;
}

/** An error with its SQLSTATE, a code of the program's own, detail and hint. */
export class RomancyError extends Error {
  readonly sqlstate?: string;
  readonly code?: string;
  readonly detail?: unknown;
  readonly hint?: string;

  constructor(message: string, document: ErrorDocument = {}) {
    super(message);
    this.name = new.target.name;
    this.sqlstate = document.sqlstate;
    this.code = document.code;
    this.detail = document.detail;
    this.hint = document.hint;
  }
}

/** An activity or a child has failed for good; `code` is the name of the error that it threw. */
export class ActivityError extends RomancyError {}
/** RM006: what was waited for did not come in time. */
export class TimeoutError extends RomancyError {}
/** RM008: the instance was cancelled. */
export class Cancelled extends RomancyError {}
/** RM003: the program does other steps than those that history holds. The instance is paused. */
export class NonDeterminism extends RomancyError {}
/** Thrown by an activity: it failed, and is not to be tried again. */
export class Terminal extends RomancyError {}
/** RM009: another worker has the task now, or its instance is over. */
export class LeaseLost extends RomancyError {}
/** The database has no extension romancy, or one that is too old or too new, or the role may not use it. */
export class MissingExtension extends RomancyError {}

/** the version that this library speaks; romancy.protocol() says what the server does */
const PROTOCOL = 1;
const UPDATE = "Install a newer romancy on the server and run ALTER EXTENSION romancy UPDATE in the database.";

type ErrorClass = new (message: string, document: ErrorDocument) => RomancyError;

const BY_SQLSTATE: Record<string, ErrorClass> = {
  RM003: NonDeterminism,
  RM006: TimeoutError,
  RM008: Cancelled,
  RM009: LeaseLost,
};

/** An error as history or a view holds it. */
export function fromDocument(document: ErrorDocument | null | undefined): RomancyError {
  const d = document ?? {};
  const kind = BY_SQLSTATE[d.sqlstate ?? ""] ?? ActivityError;
  return new kind(d.message ?? "unknown error", d);
}

/**
 * An error of pg as one of ours; errors of the connection stay as they are. own: it may be an instance's, and then says nothing of the
 * extension.
 */
export function fromDatabase(error: unknown, own = false): unknown {
  const e = error as { code?: string; severity?: string; message?: string; detail?: string; hint?: string; constraint?: string };
  const state = e?.code;
  // (EPIPE has five letters, too: an error of the server has a severity)
  if (typeof state !== "string" || e.severity === undefined || /^(08|57P)/.test(state)) return error;
  const document: ErrorDocument = { sqlstate: state, message: e.message, detail: e.detail, hint: e.hint };
  // (a table of the user's that is not there, say, is none of ours)
  const ours = !own && /\bromancy\b/.test(e.message ?? "");
  if (ours && state === "3F000")
    return new MissingExtension(`this database lacks extension romancy: ${e.message}`, {
      ...document,
      hint: "Run CREATE EXTENSION romancy in it.",
    });
  if (ours && (state === "42883" || state === "42P01"))
    return new MissingExtension(`extension romancy of this database is too old for this library: ${e.message}`, { ...document, hint: UPDATE });
  if (ours && state === "42501" && (!e.hint || e.hint.includes("grant_usage('role')")))
    return new MissingExtension(`the role may not use romancy: ${e.message}`, {
      ...document,
      hint: "Run SELECT romancy.grant_usage('role') as the extension's owner.",
    });
  if (state === "RM007") document.code = e.constraint;
  return fromDocument(document);
}

/** Throws where the server does not speak this library's protocol. */
export function checkProtocol({ oldest, newest }: { oldest: number; newest: number }): void {
  const which = "extension romancy of this database is too";
  if (PROTOCOL > newest)
    throw new MissingExtension(`${which} old for this library: it speaks protocol ${newest}, the library ${PROTOCOL}`, {
      sqlstate: "RM010",
      hint: UPDATE,
    });
  if (PROTOCOL < oldest)
    throw new MissingExtension(`${which} new for this library: it speaks no protocol before ${oldest}, the library ${PROTOCOL}`, {
      sqlstate: "RM010",
      hint: "Install a newer version of this library.",
    });
}

/** Is this no fault of what was asked for: the connection is broken, the server busy, the lease lost? */
export function isPassing(error: unknown): boolean {
  return !(error instanceof RomancyError) || error.sqlstate === "RM009" || /^(40|53|55|57|58)/.test(error.sqlstate ?? "");
}

/** The error_code that the server is told: a SQLSTATE, or the error's name. */
export function codeOf(error: unknown): string {
  const e = error as { sqlstate?: unknown; code?: unknown; name?: unknown } | null | undefined;
  // (exceptions of others have numbers there)
  const [state, code, name] = [e?.sqlstate, e?.code, e?.name].map((x) => (typeof x === "string" && x !== "" ? x : undefined));
  // (RM007 is what the server makes of a name)
  return ((state === "RM007" ? code : state) ?? code ?? name ?? "Error").replaceAll("\0", "").slice(0, 200) || "Error";
}

/** An error's message as a call of romancy takes it. */
export function messageOf(error: unknown): string {
  let text = "Error";
  try {
    text = error instanceof Error ? error.message || error.name : String(error);
  } catch {
    // an object without a text
  }
  return text.replaceAll("\0", "").slice(0, 10000) || "Error";
}
