/** Durable workflows in PostgreSQL. */
export * from "./app.js";
export * from "./canvas.js";
export * from "./errors.js";
export * from "./flow.js";
export { session, Session } from "./testing.js";
export { Worker, type WorkerOptions } from "./worker.js";
