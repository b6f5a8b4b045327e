/** Workflows that are killed, stopped and cut off while they run: crowd.mjs LIBRARY, for ROMANCY_TEST_CONNINFO. */
const { App, gather, sleep, spawn, transaction } = await import(process.argv[2]);
const app = new App({ connectionString: process.env.ROMANCY_TEST_CONNINFO, queue: "crowd" });

const outside = app.activity(
  "outside",
  async (n) => {
    await app.row("insert into crowd_step values ($1::int, 'outside')", [n]);
    return n;
  },
  { retry: { max_attempts: 0, initial_interval: "50 ms" } },
);

const mark = (n, step) => (client) => client.query("insert into crowd_step values ($1::int, $2::text)", [n, step]).then(() => null);

app.workflow("crowd", async (n) => {
  await transaction("first", mark(n, "first"));
  const [a, b] = await gather([spawn(outside, n), spawn("inside", n)]);
  await sleep(20);
  await transaction("second", mark(n, "second"));
  return a + b;
});

await app.run({ concurrency: 8, lease: 2 });
await app.end();
