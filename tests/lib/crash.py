"""Violence against a real aiosd: what tools/crash does. The judge is always outside of aios."""
import collections
import csv
import email
import email.policy
import hashlib
import json
import os
import random
import signal
import threading
import time

from aios import Problem

PROCESSES = ["aiosd", "aios-flow", "aios-connect", "aios-views", "aios-door", "aios-vault", "aios-parse"]
FLOW = """import { flow } from "aios";
const again = async (work) => {
  for (;;) {
    try { return await work(); } catch (problem) { if (problem.code !== "timeout" && problem.code !== "lost") throw problem; }
  }
};
export default flow({ name: "program", grants: ["test.*", "feed.read", "memory.*"] }, async (ctx, input) => {
  const work = input.steps.map((step, i) => async () => {
    if (step.kind === "feed") return again(() => ctx.call("feed.read", { file: "feed.xml" }));
    if (step.kind === "fact") return ctx.memory.put(`${input.id}/${i}`, step);
    if (step.kind === "search") return ctx.memory.search("anything");
    return ctx.call(`test.${step.kind}`, { value: `${input.id}:${i}`, delay_ms: step.delay, ledger: step.gated ? "gated" : "free" });
  });
  if (input.parallel) await Promise.all(work.map((w) => w()));
  else for (const w of work) await w();
  return work.length;
});
"""
POLICY = """rules:
  - { name: look, on: "feed.*", then: allow }
  - { name: free, on: "test.*", then: allow }
  - { name: ask first, on: "test.*", when: args.ledger == "gated", then: gate }
"""
FEED = """<?xml version="1.0"?><rss version="2.0"><channel><title>t</title><link>http://example.org/</link>
<description>d</description><item><title>one</title><guid>1</guid></item></channel></rss>"""
EFFECTS = ("idempotent", "lookup", "once")
STATES = {2: "planned", 3: "approved", 5: "in doubt"}  # enum core_step_status
MOVES = {"step.sent": 4, "step.done": 6, "step.failed": 7, "step.retry": 3, "step.doubt": 5}


def program(rng, name):
    steps = []
    for _ in range(rng.randint(3, 20)):
        kind = rng.choice(["idempotent", "lookup", "once"] * 3 + ["read", "feed", "fact", "search"])
        steps.append({"kind": kind, "delay": rng.choice([0, 30, 120, 300, 600]), "gated": rng.random() < 0.1})
    return {"id": name, "steps": steps, "parallel": rng.random() < 0.1}


class Crash:
    """Kills processes, answers gates as a truthful operator would, and says in which states the kills fell."""

    def __init__(self, aios, args):
        self.aios, self.args = aios, args
        self.rng = random.Random(args.seed)
        self.kills, self.pauses = [], 0
        self.doubts, self.wrong_doubts = 0, []
        self.acknowledged, self.unanswered = {}, {}  # facts of the clerk: {number: version}
        self.over = False
        self.stopped = threading.Event()

    # --- the operator

    def answer_gates(self):
        while True:
            try:
                self.answer_once()
            except Exception:
                pass
            if self.stopped.wait(0.05):
                return

    def answer_once(self):
        for g in self.aios.get("/v1/gates")["items"]:
            if self.rng.random() < 0.7 and not self.over:
                continue  # a person takes their time
            if g["kind"] == "doubt" and time.time() * 1000 - g["opened_ms"] < 1500:
                continue  # what is on its way must arrive before the outside is looked at
            full = self.aios.get(f"/v1/gates/{g['gate']}")
            if g["kind"] == "doubt":
                self.settle(full)
            else:
                self.aios.post(f"/v1/gates/{g['gate']}/approve", {"shown": full["shown"], "reason": "crash test"})

    def settle(self, gate):
        """An effect in doubt: looks outside, then says what is true there."""
        self.check_doubt(gate)
        proof = self.proof(gate)
        answer = {"answer": "happened", "value": proof} if proof else {"answer": "send"}
        self.aios.post(f"/v1/gates/{gate['gate']}/settle", {"shown": gate["shown"], **answer})
        self.doubts += 1

    # --- a clerk, whose every word that was acknowledged must stand

    def write_facts(self):
        n = 0
        while not self.over:
            n += 1
            try:
                got = self.aios.ask("PUT", f"/v1/memory/facts/clerk/{n}", {"value": n}, timeout=5)
                self.acknowledged[n] = got["version"]
            except Exception:  # nobody said yes: it may stand or not
                self.unanswered[n] = True
            self.stopped.wait(self.rng.uniform(0.01, 0.1))

    def lost_facts(self):
        faults, after, found = [], "", {}
        while True:
            page = self.aios.get(f"/v1/memory/facts?prefix=clerk/&limit=1000&after={after}")
            found.update({int(f["key"].split("/")[1]): f for f in page["items"]})
            after = page.get("next", "")
            if not after:
                break
        for n, version in self.acknowledged.items():
            if n not in found or found[n]["value"] != n or found[n]["version"] != version:
                faults.append(f"fact {n} was acknowledged as version {version}, and is {found.get(n)}")
        return faults + [f"fact {n} was never written" for n in found if n not in self.acknowledged and n not in self.unanswered]

    # --- violence

    def pause_one(self):
        """Stopped for a while and let go on: what it says then is late, and counts only if nobody took over."""
        name, pid = self.rng.choice([("aiosd", self.aios.daemon.pid), *self.aios.pids().items()])
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self.rng.uniform(0.05, 1.0))
        os.kill(pid, signal.SIGCONT)
        self.pauses += 1

    def kill_one(self, name):
        """At once, or stopped first for so long that what is in flight is answered while nobody listens."""
        if name == "aiosd":
            pid = self.aios.daemon.pid
        else:
            victims = [p for n, p in self.aios.pids().items() if n.split(" ")[0] == name]
            if not victims:
                return False
            pid = self.rng.choice(victims)
        try:
            if self.rng.random() < 0.5:
                os.kill(pid, signal.SIGSTOP)
                time.sleep(self.rng.uniform(0.01, 0.35))
            self.kills.append((name, time.time() * 1000))
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        if name == "aiosd":
            self.aios.daemon.wait()
            self.aios.start()
        return True

    def rampage(self):
        todo = [p for p in PROCESSES for _ in range(self.args.kills)]
        self.rng.shuffle(todo)
        done = collections.Counter()
        misses = 0
        while todo and misses < 2000:
            name = todo.pop()
            time.sleep(self.rng.uniform(0.03, 0.4) * self.args.pace)
            try:
                if self.rng.random() < 0.1:
                    self.pause_one()
                hit = self.kill_one(name)
            except (OSError, Problem, TimeoutError, ValueError) as e:
                hit = False
                if self.aios.daemon.poll() is not None:
                    raise RuntimeError(f"aiosd ended by itself: {e}") from e
            if hit:
                done[name] += 1
            else:
                misses += 1
                todo.insert(0, name)
        return done

    # --- judgement

    def histogram(self, events):
        """For each kill: in which state the effects in flight stood."""
        steps = {}
        for e in events:
            key = (e.get("run"), e.get("step"))
            if e["type"] == "step.called" and self.is_effect(e["action"]):
                steps[key] = {"key": e["key"], "moves": [(e["at"], e["status"])]}
            elif e["type"] in MOVES and key in steps:
                steps[key]["moves"].append((e["at"], MOVES[e["type"]]))
        replied = self.replies()
        table = collections.defaultdict(collections.Counter)
        # A sweep: both in order of time, so that a kill looks only at what was under way.
        waiting = sorted(steps.values(), key=lambda s: s["moves"][0][0], reverse=True)
        under_way = []
        for name, when in sorted(self.kills, key=lambda k: k[1]):
            while waiting and waiting[-1]["moves"][0][0] <= when:
                under_way.append(waiting.pop())
            under_way = [s for s in under_way if s["moves"][-1][0] > when or s["moves"][-1][1] < 6]
            for s in under_way:
                status = [to for t, to in s["moves"] if t <= when][-1]
                if status == 4:
                    late = replied.get(s["key"], when + 1) <= when
                    table[name]["reply before its commit" if late else "sent before the reply"] += 1
                elif status in STATES:
                    table[name][STATES[status]] += 1
        return table


class Programs(Crash):
    """Random programs over all classes of effects of the `test` connector; its ledger is the judge."""

    def __init__(self, aios, args, ledger):
        super().__init__(aios, args)
        self.ledger, self.programs, self.runs = ledger, {}, {}

    def is_effect(self, action):
        return action.startswith("test.")

    def check_doubt(self, gate):
        if gate["show"]["action"] != "test.once":
            self.wrong_doubts.append(gate["show"])

    def proof(self, gate):
        return next((e for e in self.ledger.entries() if e["key"] == gate["show"]["key"]), None)

    def replies(self):
        out = {}
        for e in self.ledger.entries():
            name, step = e["value"].split(":")
            out[e["key"]] = e["at_ms"] + self.programs[name]["steps"][int(step)]["delay"]
        return out

    def work(self):
        """Keeps runs going, whatever dies."""
        n = 0
        while not self.over:
            open_runs = [p for p in self.programs if p not in self.runs]
            if len(open_runs) < self.args.runs:
                n += 1
                self.programs[f"p{n}"] = program(self.rng, f"p{n}")
            for name in [p for p in self.programs if p not in self.runs]:
                try:
                    r = self.aios.post("/v1/flows/program/runs?wait=0", {"input": self.programs[name]}, timeout=10,
                                       headers={"Idempotency-Key": name})
                except (OSError, Problem, ValueError) as e:
                    if isinstance(e, Problem) and e.status < 500 and e.status not in (408, 429):
                        raise
                    time.sleep(0.02)
                    continue
                except Exception:  # http.client: a door that died in the middle of its answer
                    time.sleep(0.02)
                    continue
                time.sleep(0.01)
                if r.get("state") in ("done", "failed", "cancelled"):
                    self.runs[name] = r

    def finish(self):
        for name in [p for p in self.programs if p not in self.runs]:
            self.runs[name] = self.aios.post("/v1/flows/program/runs?wait=60", {"input": self.programs[name]}, timeout=90,
                                             headers={"Idempotency-Key": name})

    def judge(self):
        faults = []
        count = collections.Counter(e["value"] for e in self.ledger.entries())
        wanted = 0
        for name, p in self.programs.items():
            r = self.runs.get(name)
            if not r or r["state"] != "done":
                faults.append(f"{name} ended as {r}")
            for i, step in enumerate(p["steps"]):
                if step["kind"] not in (*EFFECTS, "read"):
                    continue
                wanted += 1
                n = count.pop(f"{name}:{i}", 0)
                if n < 1 or (n > 1 and step["kind"] != "read"):  # what only reads may be asked again
                    faults.append(f"{step['kind']} {name}:{i} happened {n} times")
        for value, n in count.items():
            faults.append(f"{value} happened {n} times and nobody asked for it")
        for g in self.wrong_doubts:
            faults.append(f"in doubt, but not of class once: {g}")
        return wanted, faults


class Newsletter(Crash):
    """The demo, issue after issue; the Maildir or the log of a mail server that is not ours is the judge."""

    def __init__(self, aios, args, smtp_log=None):
        super().__init__(aios, args)
        self.smtp_log, self.ended, self.current = smtp_log, {}, 0
        with open(aios.dir / "files/readers.csv", newline="") as f:
            self.readers = [row["id"] for row in csv.DictReader(f)]

    def is_effect(self, action):
        return action == "mail.send"

    def check_doubt(self, gate):
        if not self.smtp_log:
            self.wrong_doubts.append(gate["show"])

    @staticmethod
    def message_id(key):
        return hashlib.blake2b(b"aios mail " + key.encode(), digest_size=32).hexdigest()[:32]

    def mails(self):
        """{message id: [when each arrived, ms]}"""
        out = collections.defaultdict(list)
        if self.smtp_log:
            lines = self.smtp_log.read_text().splitlines() if self.smtp_log.exists() else []
            found = [(m["data"].encode("latin-1"), m["at_ms"]) for m in map(json.loads, lines)]
        else:
            folder = self.aios.dir / "files/outbox/new"
            found = [(p.read_bytes(), p.stat().st_mtime * 1000) for p in folder.glob("*")] if folder.exists() else []
        for data, at in found:
            message = email.message_from_bytes(data, policy=email.policy.default)
            out[str(message["Message-ID"]).strip("<>").split("@")[0]].append(at)
        return out

    def proof(self, gate):
        at = self.mails().get(self.message_id(gate["show"]["key"]))
        return {"seen_ms": int(at[0])} if at else None

    def replies(self):
        mails = self.mails()
        keys = [f"mail.send:issue/{n}/{r}" for n in range(1, self.current + 1) for r in self.readers]
        return {k: min(mails[self.message_id(k)]) for k in keys if self.message_id(k) in mails}

    def ask(self, n, wait):
        return self.aios.post(f"/v1/flows/newsletter/runs?wait={wait}", {"input": {"issue": str(n), "wait": "1s"}},
                              timeout=wait + 10, headers={"Idempotency-Key": f"issue-{n}"})

    def work(self):
        while not self.over:
            self.current += 1
            while self.current not in self.ended and not self.over:
                try:
                    r = self.ask(self.current, 0)
                    if r["state"] not in ("active", "parked"):
                        self.ended[self.current] = r
                except Exception:  # whatever died in the middle: the key makes it safe to ask again
                    pass
                time.sleep(0.1)

    def finish(self):
        for n in range(1, self.current + 1):
            if n not in self.ended:
                self.ended[n] = self.ask(n, 120)

    def judge(self):
        faults, mails = [], self.mails()
        for n in range(1, self.current + 1):
            if self.ended[n]["state"] != "done":
                faults.append(f"issue {n} ended as {str(self.ended[n])[:300]}")
            for r in self.readers:
                times = len(mails.pop(self.message_id(f"mail.send:issue/{n}/{r}"), []))
                if times != 1:
                    faults.append(f"issue {n} reached {r} {times} times")
        faults += [f"a mail that nobody asked for: {m}" for m in mails]
        faults += [f"in doubt, but not of class once: {g}" for g in self.wrong_doubts]
        return self.current * len(self.readers), faults


def show(table, done):
    """Prints the histogram of where the kills fell."""
    states = ["planned", "approved", "sent before the reply", "reply before its commit", "in doubt"]
    print(f"{'killed':<14}{'times':>6}  " + "".join(f"{s:>25}" for s in states))
    for name in PROCESSES:
        print(f"{name:<14}{done[name]:>6}  " + "".join(f"{table[name][s]:>25}" for s in states))


