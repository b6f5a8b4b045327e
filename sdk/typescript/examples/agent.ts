/**
 * An agent: a model is asked, its tools are called, however long they take, until it has an answer. A worker that dies in
 * the middle loses no answer of the model: each is a step.
 */
import { setTimeout as work } from "node:timers/promises";
import { App, activity, setValue } from "romancy";

interface Message {
  role: "user" | "tool";
  content: string;
}

type Reply = { answer: string; tool?: undefined } | { answer?: undefined; tool: string; input: string };

const app = new App({ queue: "agent" });

const askModel = app.activity(
  "ask_model",
  (messages: Message[]): Reply => {
    const last = messages[messages.length - 1]; // here the model is called
    return last.role === "tool" ? { answer: `it has ${last.content} words` } : { tool: "count", input: last.content };
  },
  { retry: { max_attempts: 0 } },
);

const callTool = app.activity(
  "call_tool",
  async ({ input }: { name: string; input: string }) => {
    await work(2000); // longer than the lease: the worker renews it beside the work
    return String(input.split(" ").length);
  },
  { heartbeat: 3000 },
);

app.workflow("agent", async (question: string) => {
  const messages: Message[] = [{ role: "user", content: question }];
  for (;;) {
    const reply = await activity(askModel, messages);
    if (reply.tool === undefined) return reply.answer;
    setValue("tool", reply.tool);
    messages.push({ role: "tool", content: await activity(callTool, { name: reply.tool, input: reply.input }) });
  }
});

await app.run({ lease: 1 });
await app.end();
