// The interpreter of programs.sql in TypeScript's library. A worker, for ROMANCY_TEST_CONNINFO; argv[2]: the library.
const romancy = await import(process.argv[2]);
const app = new romancy.App({ connectionString: process.env.ROMANCY_TEST_CONNINFO, queue: process.env.ROMANCY_TEST_QUEUE ?? "random" });

const kid = app.workflow("kid", async (i) => romancy.activity("sq", i));
const upTo = (n) => Array.from({ length: n }, (_, g) => g + 1);

async function perform(body, start) {
  let a = start;
  const statements = {
    activity: async ({ n }) => (a += await romancy.activity("sq", n)),
    named: async ({ n }) => (a += await romancy.activity("sq", a % 100, { activityId: `own_${n}` })),
    parallel: async ({ n }) => (a += (await romancy.gather(upTo(n).map((g) => romancy.spawn("sq", g)))).at(-1)),
    map_children: async ({ n }) => (a += (await romancy.gather(upTo(n).map((g) => romancy.spawnChild(kid, g))))[0]),
    child: async ({ n }) => (a += await romancy.child(kid, n)),
    canvas: async ({ n }) => (a += await romancy.canvas(romancy.chain(romancy.task("sq", n), romancy.task("sq")))),
    publish: () => romancy.publish("news", a),
    set: ({ n }) => romancy.setValue(`k${n}`, a),
    labels: ({ n }) => romancy.setLabels({ l: n }),
    values: () => [romancy.now(), romancy.random(), romancy.uuid()],
    patched: ({ n }) => (a += romancy.patched(`p${n}`) ? 1 : 0),
    sleep: () => romancy.sleep(1),
    timer: () => romancy.any([romancy.spawnTimer(1)]),
    receive: async ({ n }) => {
      try {
        await romancy.receive(`c${n}`, { timeout: 1 });
      } catch (error) {
        if (!(error instanceof romancy.TimeoutError)) throw error;
        a += 1;
      }
    },
    book: ({ n }) => romancy.activity("book", n),
    register: ({ n }) => romancy.compensate("undo", n),
    compensate: async () => (a += await romancy.compensate()),
    boom: ({ n }) => romancy.activity("boom", n),
    raise: ({ n }) => {
      throw new romancy.RomancyError(`raised ${n}`, { sqlstate: "XX123" });
    },
    if: async (s) => (a = await perform(a % 2 === 0 ? s.then : s.else, a)),
    loop: async ({ n, body }) => {
      for (let g = 0; g < n; g++) a = await perform(body, a);
    },
    try: async (s) => {
      try {
        a = await perform(s.body, a);
      } catch {
        a += 7;
      }
    },
  };
  for (const s of body) {
    await statements[s.do](s);
  }
  return a;
}

app.workflow("random_program", (program) => perform(program, 0));
app.workflow("random_async", (program) => perform(program, 0));

await app.run({ concurrency: 4 });
await app.end();
