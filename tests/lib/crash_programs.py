"""Random programs under violence, with the ledger of the `test` connector as the judge."""
import collections
import time

from aios import Problem
from crash import Crash
from crash_program import Outside, program

ENDED = ("done", "failed", "cancelled")
LANES = 3


def named(value):
    return f"undo {value['undo']}" if isinstance(value, dict) else value


def root_of(value):
    """The program that it belongs to: p7 of `undo p7.4.1:0`."""
    return value.split(" ")[-1].split(":")[0].split(".")[0]


class Programs(Crash):
    """Keeps programs going, whatever dies; pauses and cancels some; at the end compares the ledger with what they wanted."""

    speaks = True

    def __init__(self, aios, args, ledger):
        super().__init__(aios, args)
        self.ledger, self.programs, self.outside = ledger, {}, {}
        self.body, self.asked_ms = {}, {}
        self.known, self.runs = {}, {}  # {name: run}; {name: how it ended}
        self.cancels, self.paused, self.refused = {}, {}, 0  # {name: {"undo", "done": whether it was acknowledged}}
        self.faults = []

    def is_effect(self, action):
        return action.startswith("test.")

    def check_doubt(self, gate):
        if gate["show"]["action"] != "test.once":
            self.wrong_doubts.append(gate["show"])

    def proof(self, gate):
        return next(iter(self.ledger.entries(gate["show"]["key"])), None)

    def replies(self):
        delay = {}
        for o in self.outside.values():
            delay.update(o.delay)
        return {e["key"]: e["at_ms"] + delay.get(named(e["value"]), 0) for e in self.ledger.entries()}

    # --- clients

    def draw(self, n):
        name = f"p{n}"
        lane = f"lane {self.rng.randrange(LANES)}" if self.rng.random() < 0.15 else None
        body = {"input": program(self.rng, name, lane=lane)}
        if self.rng.random() < 0.15:
            body["begin"] = f"{self.rng.randint(100, 2000)}ms"
        self.outside[name] = Outside(body["input"])
        self.body[name], self.asked_ms[name] = body, time.time() * 1000
        self.programs[name] = body["input"]

    def ask(self, name, wait=0, body=None):
        flow = "narrow" if "lane" in self.programs[name] else "program"
        return self.aios.post(f"/v1/flows/{flow}/runs?wait={wait}", body or self.body[name], timeout=wait + 10,
                              headers={"Idempotency-Key": name})

    def ask_for_something_else(self, name):
        """Under a key that is known: refused, whatever has died since."""
        try:
            got = self.ask(name, body={"input": self.programs[name] | {"id": "other"}})
            self.faults.append(f"{name} was started with another input under a key that is taken: {got}")
        except Problem as p:
            if p.status == 409:
                self.refused += 1

    def work(self):
        n, open_runs = 0, []
        while not self.over:
            open_runs = [name for name in open_runs if name not in self.runs]
            if len(open_runs) < self.args.runs:
                n += 1
                self.draw(n)
                open_runs.append(f"p{n}")
            for name in open_runs:
                try:
                    r = self.ask(name)
                    self.known[name] = r["run"]
                    if self.rng.random() < 0.01:
                        self.ask_for_something_else(name)
                    if r.get("state") in ENDED:
                        self.runs[name] = r
                except Problem as p:
                    if p.status < 500 and p.status not in (408, 429):
                        raise
                except Exception:  # a door that died in the middle of its answer
                    pass
                time.sleep(0.02)

    def unsignalled(self):
        """{value: (number of the step, run)} of all signals that programs wait for and nobody has acknowledged."""
        out = {}
        for name, run in list(self.known.items()):
            if name not in self.runs:
                out.update({v: (i, run) for i, v in self.outside[name].signals if f"signal-{v}" not in self.clerk.signals})
        return out

    # --- the operator, who holds a run for a while or ends it

    def meddle(self):
        now = time.time()
        for run, until_s in list(self.paused.items()):
            if now > until_s or self.over:
                self.try_post(run, "resume") and self.paused.pop(run)
        if self.over or self.rng.random() > 0.25:
            return
        if self.rng.random() < 0.75:
            run = self.rng.choice(self.aios.get("/v1/runs?state=active&limit=50")["items"])["run"]
            self.paused[run] = now + self.rng.uniform(0.1, 2)
            self.try_post(run, "pause")
            return
        name = self.rng.choice([n for n in list(self.known) if n not in self.runs])
        undo = self.cancels.setdefault(name, {"undo": self.rng.random() < 0.5, "done": False})
        if self.try_post(self.known[name], "cancel", {"undo": undo["undo"]}) == "done":
            undo["done"] = True

    def try_post(self, run, what, body=None):
        """Whether it is settled: done, or refused (it has ended, or stands otherwise)."""
        try:
            self.aios.post(f"/v1/runs/{run}/{what}", body, timeout=5)
            return "done"
        except Problem as p:
            return "refused" if p.status in (404, 409) else None
        except Exception:
            return None

    # --- the end

    def finish(self):
        """Everything ends; what does not says why."""
        for name in [n for n in self.programs if n not in self.runs]:
            self.known[name] = self.ask(name)["run"]
        deadline = time.time() + 90
        while (left := self.open_runs()) and time.time() < deadline:
            time.sleep(0.2)
        self.faults += [f"{r['flow']} {r['run']} has not ended: {self.aios.get('/v1/runs/%d/why' % r['run'])}" for r in left]
        for name in [n for n in self.programs if n not in self.runs]:
            self.runs[name] = self.ask(name)

    def open_runs(self):
        states = ("active", "parked", "paused", "queued", "undoing")
        return [r for s in states for r in self.aios.get(f"/v1/runs?state={s}&limit=100")["items"]]

    def judge(self):
        entries = self.ledger.entries()
        count = collections.Counter(named(e["value"]) for e in entries)
        wanted = sum(count.values())
        faults = self.faults + self.clerk.faults_outside(count)
        for name, o in self.outside.items():
            r = self.runs.get(name) or {"state": "unknown"}
            if r["state"] == "done":
                faults += o.faults(count, set(r["result"]))
            elif r["state"] == "cancelled" and name in self.cancels:
                faults += o.faults_of_cancelled(count, self.cancels[name]["undo"] and self.cancels[name]["done"])
            else:
                faults.append(f"{name} ended as {str(r)[:500]}")
        faults += [f"{value} happened {n} times and nobody asked for it" for value, n in count.items()]
        # Of a run that has been ended nothing is sent again, not even what could be.
        faults += [f"in doubt, but not of class once: {g}" for g in self.wrong_doubts
                   if "args" not in g or root_of(named(g["args"]["value"])) not in self.cancels]
        faults += [f"came to stand at a gate: {str(g)[:500]}" for g in self.stuck.values()]
        return wanted, faults + self.faults_of_order(entries)

    def faults_of_order(self, entries):
        """When it happened: undos last first, nothing before its time, one program at a time in a lane."""
        out = []
        when, undone = collections.defaultdict(list), collections.defaultdict(list)
        for e in entries:
            value = named(e["value"])
            root = root_of(value)
            if root in self.programs and not value.startswith("heard ") and e["class"] != "read":
                when[root].append(e["at_ms"])
                if value.startswith("undo "):
                    undone[root].append(value[5:])
        lanes = collections.defaultdict(list)
        for name, times in when.items():
            if self.runs[name]["state"] != "done":
                continue
            o = self.outside[name]
            if o.ordered and o.in_lines(undone[name]) != o.in_lines(o.undone):
                out.append(f"{name} undid {undone[name]}, not {o.undone}")
            begin = int(self.body[name].get("begin", "0ms")[:-2]) + self.asked_ms[name]
            if times[0] < int(begin) - 1:
                out.append(f"{name} began {begin - times[0]} ms before its time")
            if "lane" in self.programs[name] and not o.late:
                lanes[self.programs[name]["lane"]].append((times[0], times[-1], name))
        for lane, spans in lanes.items():
            spans.sort()
            out += [f"{b[2]} began in {lane} before {a[2]} had ended" for a, b in zip(spans, spans[1:]) if b[0] < a[1]]
        return out

    def told(self):
        cancelled = sum(r["state"] == "cancelled" for r in self.runs.values())
        c = self.clerk
        return (f"{len(self.programs)} programs ({cancelled} cancelled), {self.refused} other inputs refused; acknowledged: "
                f"{len(c.starts)} starts, {len(c.events)} events, {sum(1 for r in c.signals.values() if r)} signals; ")
