#!/usr/bin/env python3
"""Random programs for the core and its reference model (model.py), which must agree on every event.

usage: test_model.py DRIVER [--programs N] [--commands N] [--seed N]
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import model as reference  # noqa: E402
from model import Model, Wrong  # noqa: E402

PEOPLE = ["operator", "operator", "key/a", "key/b"]


def compact(value):
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


class Plan:
    """Draws the next command from what the model knows; now and then one that must be refused."""

    def __init__(self, rng, model):
        self.rng, self.model = rng, model
        self.weights = {kind: rng.choice([0, 1, 1, 3]) for kind in self.kinds()}
        self.weights.update(call=12, result=8, start=1.5, end=0.4 * self.weights["end"])

    def kinds(self):
        return [n[5:] for n in dir(self) if n.startswith("draw_")]

    def next(self):
        kind = self.rng.choices(list(self.weights), list(self.weights.values()))[0]
        cmd = getattr(self, "draw_" + kind)()
        cmd.setdefault("advance", self.rng.choice([0, 0, 0, 1, 50, 250, 5000]))
        cmd.setdefault("by", self.rng.choice(PEOPLE))
        return cmd

    def some_run(self):
        known = [r.id for r in self.model.runs.values() if not r.gone]
        if self.rng.random() < 0.05 or not known:
            return self.rng.randint(0, self.model.next_run + 2)
        return self.rng.choice(known)

    def draw_start(self):
        cmd = {"cmd": "run_start", "name": self.rng.choice(["f", "f", "g", "nowhere"]),
               "body": compact({"n": self.rng.randint(1, 2)}), "key": self.rng.choice(["", "", "k1", "k2"])}
        if self.rng.random() < 0.2:
            cmd["params"] = compact({"timeout_ms": self.rng.choice([100, 5000, 60000])})
        return cmd

    def draw_call(self):
        run = self.some_run()
        r = self.model.run(run)
        step = len(r.steps) if r else 0
        if r and r.steps and self.rng.random() < 0.1:
            old = self.rng.randrange(len(r.steps))
            s = r.steps[old]
            body = s.args if self.rng.random() < 0.8 else compact({"other": 1})
            return {"cmd": "flow_call", "run": run, "step": old, "name": s.action, "body": body}
        if self.rng.random() < 0.02:
            step += 1
        name, args, opts = self.pick_action(r)
        if self.rng.random() < 0.2:
            opts = {**(opts or {}), "timeout": self.rng.choice([50, 250, 5000])}
        cmd = {"cmd": "flow_call", "run": run, "step": step, "name": name, "body": compact(args)}
        if opts:
            cmd["params"] = compact(opts)
        return cmd

    def pick_action(self, r):
        rng = self.rng
        kind = rng.choice(["effect"] * 6 + ["fact", "fact", "sleep", "wait", "gate", "child", "spawn", "nonsense"])
        if kind == "effect":
            opts = {}
            if rng.random() < 0.15:
                opts["key"] = rng.choice(["x", "y", "z"])
            if rng.random() < 0.15:
                opts["retry"] = rng.choice([1, 2, 8])
            given = [g.id for g in self.model.gates.values() if g.decided and g.left]
            if rng.random() < 0.3 and given:
                opts["approval"] = rng.choice(given)
            value = rng.choice(["v", "v", "v", "gate", "timed", "deny"])
            return rng.choice(list(reference.CLASSES)), {"value": value}, opts
        if kind == "fact":
            key = rng.choice(["a", "b"])
            if rng.random() < 0.3:
                return "memory.get", {"key": key}, None
            if rng.random() < 0.2:
                return "memory.forget", {"key": key}, None
            args = {"key": key, "value": rng.randint(1, 9)}
            if rng.random() < 0.4:
                args["base"] = rng.randint(0, 4)
            return "memory.put", args, None
        if kind == "sleep":
            return "timer.sleep", {"ms": rng.choice([0, 1, 100, 5000, 86400000])}, None
        if kind == "wait":
            args = {"name": rng.choice(["s", "t"])}
            if rng.random() < 0.6:
                args["timeout_ms"] = rng.choice([0, 100, 5000])
            return "signal.wait", args, None
        if kind == "gate":
            args = {"title": "May I?", "show": {"n": 1}}
            if rng.random() < 0.5:
                args.update(expires_ms=rng.choice([100, 5000]), on_expiry=rng.choice(["deny", "approve", "value"]))
            if rng.random() < 0.5:
                args["edit"] = True
            if rng.random() < 0.4:
                args["allows"] = {"action": rng.choice(list(reference.CLASSES)), "count": rng.randint(1, 3), "fixed": []}
            return "gate.ask", args, None
        if kind == "child":
            return "run.call", {"flow": rng.choice(["f", "g", "nowhere"]), "input": {}}, None
        if kind == "spawn":
            args = {"flow": rng.choice(["f", "g"]), "input": {"n": rng.randint(1, 2)}}
            if rng.random() < 0.5:
                args["key"] = rng.choice(["k1", "k2"])
            return "run.start", args, None
        return "no.such", {"a": 1}, None

    def draw_result(self):
        sent = [(r, i, s) for r, i, s in self.model.open_effects() if s.status == reference.SENT]
        if not sent or self.rng.random() < 0.03:
            return {"cmd": "effect_result", "run": self.some_run(), "step": self.rng.randint(0, 3), "attempt": 1, "outcome": 1,
                    "body": "1"}
        r, i, s = self.rng.choice(sent)
        outcome = self.rng.choice([1, 1, 1, 2, 3, 4, 5])
        return {"cmd": "effect_result", "run": r.id, "step": i, "attempt": s.attempt - (self.rng.random() < 0.05),
                "outcome": outcome, "body": "1" if outcome == 1 else compact({"code": "failed", "message": "no"})}

    def draw_end(self):
        run = self.some_run()
        r = self.model.run(run)
        steps = len(r.steps) if r else 0
        if self.rng.random() < 0.1 and steps:
            steps -= 1
        if self.rng.random() < 0.3:
            return {"cmd": "flow_failed", "run": run, "step": steps, "body": compact({"code": "failed", "message": "no"})}
        return {"cmd": "flow_done", "run": run, "step": steps, "body": "1"}

    def draw_gate(self):
        standing = list(self.model.gates)
        number = self.rng.choice(standing) if standing and self.rng.random() < 0.95 else self.rng.randint(0, self.model.next_gate + 1)
        g = self.model.gates.get(number)
        answers = Model.ANSWERS[g.kind] if g and self.rng.random() < 0.95 else ("approve", "happened", "nonsense")
        cmd = {"cmd": "gate_decide", "id": number, "name": self.rng.choice(answers), "wrong": self.rng.random() < 0.05}
        if cmd["name"] == "edit" and self.rng.random() < 0.8:
            cmd["body"] = compact({"n": 2})
        return cmd

    def draw_signal(self):
        return {"cmd": "signal", "run": self.some_run(), "name": self.rng.choice(["s", "t"]), "body": "1",
                "key": self.rng.choice(["", "", "one"])}

    def draw_cancel(self):
        return {"cmd": "run_cancel", "run": self.some_run()}

    def draw_pause(self):
        return {"cmd": "run_pause", "run": self.some_run()}

    def draw_fork(self):
        run = self.some_run()
        r = self.model.run(run)
        return {"cmd": "run_fork", "run": run, "step": self.rng.randint(0, len(r.steps) + 1) if r else 0, "base": 0,
                "params": compact({"restart": self.rng.random() < 0.3})}

    def draw_resume(self):
        return {"cmd": "run_resume", "run": self.some_run()}

    def draw_freeze(self):
        return {"cmd": self.rng.choice(["freeze", "thaw", "thaw"])}

    def draw_tick(self):
        due = [d[0] for d in self.model.due()]
        ahead = min(due) - self.model.now if due and self.rng.random() < 0.7 else 0
        return {"cmd": "tick", "advance": max(ahead, 0)}

    def draw_crash(self):
        return {"cmd": "start", "text": "again"} if self.rng.random() < 0.3 else self.draw_tick()


def program(driver, seed, commands):
    rng = random.Random(seed)
    model = Model()
    plan = Plan(rng, model)
    proc = subprocess.Popen([driver], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    seen = {}

    def ask(cmd):
        proc.stdin.write((cmd if isinstance(cmd, str) else json.dumps(cmd)) + "\n")
        proc.stdin.flush()
        line = proc.stdout.readline()
        if not line:
            raise Wrong(f"the core ended at {cmd}")
        return json.loads(line)

    model.now = ask(compact(reference.DEPLOYMENT))["now"]
    done = []
    try:
        for n in range(commands):
            cmd = plan.next()
            done.append(cmd)
            got = ask(cmd)
            model.check(cmd, got)
            for e in got["events"]:
                seen[e["type"]] = seen.get(e["type"], 0) + 1
        ask({"cmd": "check"})
    except Wrong as e:
        for cmd in done[-6:]:
            print("  ", json.dumps(cmd))
        raise Wrong(f"seed {seed}, command {len(done)}: {e}") from None
    finally:
        proc.stdin.close()
        proc.wait()
    if proc.returncode:
        raise Wrong(f"seed {seed}: the core ended with {proc.returncode}")
    return seen


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("driver")
    ap.add_argument("--programs", type=int, default=60)
    ap.add_argument("--commands", type=int, default=250)
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    seen = {}
    for seed in range(args.seed, args.seed + args.programs):
        try:
            for kind, n in program(args.driver, seed, args.commands).items():
                seen[kind] = seen.get(kind, 0) + n
        except Wrong as e:
            print("FAILED:", e)
            return 1
    print(f"{args.programs} programs, {sum(seen.values())} events agree:", ", ".join(f"{k} {n}" for k, n in sorted(seen.items())))
    missing = {"step.doubt", "step.retry", "run.parked", "gate.decided", "run.ended", "signal.sent", "fact.put",
               "run.paused", "step.taken"} - set(seen)
    if args.programs >= 20 and missing:
        print("FAILED: never seen:", missing)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
