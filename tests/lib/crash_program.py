"""Random programs for tools/crash: the flows that carry them out, how they are drawn, and what each must leave outside.

A program is the input of a run: {"id", "steps": [...], "parallel", "lane"?}. What it does outside is named by its id and
the number of the step: `p7:3`, of its child `p7.4:0`; the undo of a step is `undo p7:3`, what an event starts `heard p7:5`.
"""
HEAD = 'import { flow } from "aios";\nimport { program } from "../lib/program.js";\n'
GRANTS = '["test.*", "feed.read", "memory.*", "run.*", "event.*"]'
FILES = {
    "lib/program.js": """
const again = async (work) => {
  for (;;) {
    try { return await work(); } catch (problem) { if (problem.code !== "timeout" && problem.code !== "lost") throw problem; }
  }
};
const must = (right, text) => { if (!right) throw new Error(text); };

async function effect(ctx, input, step, i, late) {
  const args = { value: `${input.id}:${i}`, delay_ms: step.delay, ledger: step.gated ? "gated" : "free" };
  const options = {};
  if (step.undo) options.undo = { action: `test.${step.undo}`, args: { ...args, value: { undo: { $result: "/value" } } } };
  if (step.timeout) options.timeout = step.timeout;
  try { await ctx.call(`test.${step.kind}`, args, options); } catch (problem) {
    if (!step.timeout || problem.code !== "timeout") throw problem;
    late.push(args.value);
  }
}

const kinds = {
  feed: (ctx) => again(() => ctx.call("feed.read", { file: "feed.xml" })),
  fact: (ctx, input, step, i) => ctx.memory.put(`${input.id}/${i}`, step),
  search: (ctx) => ctx.memory.search("anything"),
  checkpoint: (ctx, input, step, i) => ctx.checkpoint(`c${i}`),
  rollback: async (ctx, input, step) => {
    const undone = await ctx.rollback(step.to);
    must(undone.every((u) => u.outcome === "undone"), `rolled back: ${JSON.stringify(undone)}`);
  },
  told: async (ctx, input, step, i) => {
    const topic = `told.${input.id}.${i}`, told = ctx.event(topic);
    await ctx.publish(topic, i, { key: topic });
    must((await told).payload === i, `${topic} came as ${JSON.stringify(await told)}`);
  },
  publish: (ctx, input, step, i) => ctx.publish("crash.heard", { value: `${input.id}:${i}` }),
  signal: async (ctx, input, step, i) => {
    const got = await ctx.signal(`s${i}`);
    must(got.payload === `${input.id}:${i}`, `the signal s${i} of ${input.id} came as ${JSON.stringify(got)}`);
  },
  child: async (ctx, input, step, i, late) => late.push(...await ctx.run("program", step.input)),
  start: async (ctx, input, step, i, late, started) => {
    started.push(await ctx.start("program", step.input, { key: `${input.id}:${i}` }));
  },
};

export async function program(ctx, input) {
  const late = [...input.late ?? []], started = [];
  const all = async () => {
    for (const run of started) {
      const end = await ctx.wait(run);
      must(end.state === "done", `run ${run.run} ended as ${JSON.stringify(end)}`);
      late.push(...end.value);
    }
  };
  const at = input.at ?? 0;
  const work = input.steps.slice(at).map((step, n) => async () => {
    if (step.kind === "again") {
      await all();
      await ctx.again({ ...input, at: at + n + 1, late });
    }
    return (kinds[step.kind] ?? effect)(ctx, input, step, at + n, late, started);
  });
  if (input.parallel) await Promise.all(work.map((w) => w()));
  else for (const w of work) await w();
  await all();
  return late;
}
""",
    "flows/program.js": HEAD + f'export default flow({{ name: "program", grants: {GRANTS} }}, program);\n',
    "flows/narrow.js": HEAD + f"""export default flow({{ name: "narrow", grants: {GRANTS},
  concurrency: {{ key: "input.lane", limit: 1 }} }}, program);
""",
    "flows/heard.js": """import { flow } from "aios";
export default flow({ name: "heard", grants: ["test.*"], on: [{ event: "crash.heard" }] }, (ctx, input) =>
  ctx.call("test.once", { value: `heard ${input.event.payload.value}` }));
""",
    "flows/note.js": """import { flow } from "aios";
export default flow({ name: "note", grants: ["test.*"] }, (ctx, input) => ctx.call("test.once", { value: `note ${input.n}` }));
""",
    "policy.yaml": """rules:
  - { name: look, on: "feed.*", then: allow }
  - { name: free, on: "test.*", then: allow }
  - { name: ask first, on: "test.*", when: has(args.ledger) && args.ledger == "gated", then: gate }
""",
    "files/feed.xml": """<?xml version="1.0"?><rss version="2.0"><channel><title>t</title><link>http://example.org/</link>
<description>d</description><item><title>one</title><guid>1</guid></item></channel></rss>""",
}
EFFECTS = ("idempotent", "lookup", "once")
SIMPLE = [*EFFECTS * 6, *["read", "feed", "fact", "search", "told", "publish"] * 2]
DELAYS = [0, 30, 120, 300, 600]


def effect(rng, kind, lane):
    step = {"kind": kind, "delay": rng.choice(DELAYS)}
    if rng.random() < 0.07:
        step["gated"] = True
    if kind in EFFECTS:
        if rng.random() < 0.4:
            step["undo"] = rng.choice(EFFECTS)
        elif rng.random() < 0.08 and not lane:
            step["timeout"] = rng.choice([100, 400, 1500])
    return step


def program(rng, name, depth=0, lane=None):
    p = {"id": name, "steps": [], "parallel": rng.random() < 0.1}
    if lane:
        p["lane"] = lane
    kinds = list(SIMPLE)
    if depth < 2:
        kinds += ["child"] * 3
    if depth < 1:
        kinds += ["start"]
    if not p["parallel"]:
        kinds += ["checkpoint"] * 2 + ["rollback"]
        kinds += ["signal"] * 2 if depth == 0 and rng.random() < 0.5 else ["again"]
    checkpoints = []
    for i in range(rng.randint(3, 20) if depth == 0 else rng.randint(1, 5)):
        kind = rng.choice(kinds)
        step = {"kind": kind}
        if kind in ("child", "start"):
            step["input"] = program(rng, f"{name}.{i}", depth + 1)
        elif kind == "checkpoint":
            checkpoints.append(f"c{i}")
        elif kind == "again":
            checkpoints.clear()
        elif kind == "rollback":
            if checkpoints and rng.random() < 0.7:
                step["to"] = rng.choice(checkpoints)
                del checkpoints[checkpoints.index(step["to"]) + 1:]  # those behind it are gone with it
            else:
                checkpoints.clear()
        elif kind in (*EFFECTS, "read"):
            step = effect(rng, kind, lane)
        p["steps"].append(step)
    return p


class Outside:
    """What a program leaves outside if it ends as done."""

    def __init__(self, p):
        self.once, self.read, self.late, self.signals = set(), set(), set(), set()
        self.kind, self.delay = {}, {}
        self.undone, self.undoable = [], set()  # in this order by the program itself; all that has an undo beside it
        self.reached = set()  # of these, what an undo of the whole program would come to
        self.ordered, self.line = True, {}  # one after the other; but a run that is started goes on beside its starter
        self.walk(p, p["id"])
        if any(step["kind"] == "again" for step in p["steps"]):
            self.reached.clear()  # what earlier generations did is not undone with the last

    def walk(self, p, line, reach=True):
        """What a rollback of whoever runs `p` would undo, in the order of its beginning."""
        left, marks, passed = [], {}, []
        self.ordered = self.ordered and not p["parallel"]
        for i, step in enumerate(p["steps"]):
            value, kind = f"{p['id']}:{i}", step["kind"]
            if kind in EFFECTS:
                self.kind[value], self.delay[value] = kind, step["delay"]
                (self.late if "timeout" in step else self.once).add(value)
                if "undo" in step:
                    left.append(value)
                    self.delay[f"undo {value}"] = step["delay"]
                    self.undoable.add(value)
                    self.line[value] = line
                    if reach:
                        self.reached.add(value)
            elif kind == "read":
                self.read.add(value)
                self.delay[value] = step["delay"]
            elif kind == "publish":
                self.once.add(f"heard {value}")
            elif kind == "signal":
                self.signals.add((i, value))
            elif kind == "child":
                left += self.walk(step["input"], line, reach)
            elif kind == "start":
                self.walk(step["input"], step["input"]["id"], False)
            elif kind == "checkpoint":
                marks[f"c{i}"] = len(left)
            elif kind == "rollback":
                to = marks[step["to"]] if "to" in step else 0
                self.undone += reversed(left[to:])
                del left[to:]
            elif kind == "again":
                passed, left, marks = passed + left, [], {}
        return passed + left

    def in_lines(self, undone):
        """{line: what was undone of it, in order}"""
        out = {}
        for value in undone:
            out.setdefault(self.line.get(value), []).append(value)
        return out

    def faults(self, count, late):
        """Against how often each thing happened (popped from `count`), of a program that is done."""
        out = []
        want = {v: 1 for v in self.once} | {f"undo {v}": self.undone.count(v) for v in self.undoable}
        for value, n in want.items():
            got = count.pop(value, 0)
            if got != n:
                out.append(f"{value} happened {got} times, not {n}")
        for value in self.read:  # what only reads may be asked again
            if count.pop(value, 0) < 1:
                out.append(f"{value} was never read")
        for value in self.late:
            got, said = count.pop(value, 0), value in late
            # Of an idempotent one nobody asks whether it happened; of the others it is known.
            if got > 1 or (not said and got != 1) or (said and got and self.kind[value] != "idempotent"):
                out.append(f"{self.kind[value]} {value} happened {got} times, and the flow heard {'late' if said else 'done'}")
        return out

    def faults_of_cancelled(self, count, undone):
        """Of one that was cancelled in the middle: nothing twice; if it was undone, all of what it did."""
        out = []
        for value in [*self.once, *self.late]:
            did, undid = count.pop(value, 0), count.pop(f"undo {value}", 0)
            if did > 1 or undid > did:
                out.append(f"{value} happened {did} times and was undone {undid} times, in a program that was cancelled")
            if undone and value in self.reached and did != undid:
                out.append(f"{value} happened and was not undone, in a program that was cancelled and undone")
        for value in self.read:
            count.pop(value, 0)
        return out
