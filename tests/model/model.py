"""The contract of the core a second time: slow, obvious, written from the documents and not from the code.

Each method takes a command and the answer that the real core gave, and checks it: the status, and the events one by one.
What the core may choose (when a retry comes, which of several timers that are due fires first) is taken from the answer
after it was found to be within the rules. There are no hashes, no slabs and no heaps here: lists and dictionaries.
"""
import json

READ, IDEMPOTENT, LOOKUP, ONCE = 1, 2, 3, 4
CLASSES = {"test.read": READ, "test.idempotent": IDEMPOTENT, "test.lookup": LOOKUP, "test.once": ONCE}
ATTEMPTS = 8  # of each action test.*
SETTLE_MS = 200  # of test.lookup
WAITING, GATED, HELD, SENT, DOUBT, DONE, FAILED = 1, 2, 3, 4, 5, 6, 7
OUTCOME_DONE, OUTCOME_FAILED, OUTCOME_RETRY, OUTCOME_UNKNOWN, OUTCOME_NOT_FOUND = 1, 2, 3, 4, 5
BREAKER_FAILS, BREAKER_MS = 5, 30000
ENDED_DONE, ENDED_FAILED, ENDED_CANCELLED = 1, 2, 3
PARK_STEP = 2**32 - 1

DEPLOYMENT = {
    "flows": [{"name": name, "version": "00" * 31 + f"{i:02x}", "modules": {"entry": name}, "spec": {},
               "grants": ["test.*", "memory.*", "run.*", "gate.*", "timer.*", "signal.*"]}
              for i, name in enumerate(["f", "g"], 1)],
    "agents": [], "config": {},
    "policy": {"rules": [{"name": "free", "on": "test.*", "then": "allow"},
                         {"name": "ask", "on": "test.*", "when": "args.value == 'gate'", "then": "gate"},
                         {"name": "timed", "on": "test.*", "when": "args.value == 'timed'", "then": "gate", "expires": "1h"},
                         {"name": "no", "on": "test.*", "when": "args.value == 'deny'", "then": "deny"}]}}
HOUR_MS = 3600000


class Wrong(Exception):
    """The core and the model disagree."""


def need(condition, *what):
    if not condition:
        raise Wrong(" ".join(str(w) for w in what))


class Step:
    def __init__(self, action, args, status):
        self.action, self.args, self.status = action, args, status
        self.klass = CLASSES.get(action, 0)
        self.due = 0
        self.gate = 0
        self.child = 0
        self.signal = None
        self.attempt = self.failures = self.mode = 0
        self.attempts = ATTEMPTS
        self.uncertain = self.cleared = False
        self.approval = 0
        self.key = None
        self.limit, self.passed = 0, False  # its time limit; it is over, and what follows is recorded
        self.taken = self.dropped = False  # over from another run; with its run, not by itself

    @property
    def open(self):
        return self.status < DONE


class Run:
    def __init__(self, number, flow, by, origin, parent=None, key=None):
        self.id, self.flow, self.by, self.origin, self.parent, self.key = number, flow, by, origin, parent, key
        self.steps, self.signals = [], []
        self.state = "active"
        self.outcome = 0
        self.park_gate = 0
        self.limit, self.stopped = 0, False  # nothing is sent for it any more

    @property
    def gone(self):
        """Ended, and nothing of it is under way any more: the core has forgotten it."""
        return self.state == "ended" and not any(s.open for s in self.steps)


class Gate:
    def __init__(self, number, run, step, kind, expires=0, on_expiry="deny", edit=False, allows=None):
        self.id, self.run, self.step, self.kind = number, run, step, kind
        self.expires, self.on_expiry, self.edit, self.allows = expires, on_expiry, edit, allows
        self.decided = False
        self.left = 0


class Model:
    def __init__(self):
        self.now = 0
        self.epoch = 1
        self.runs, self.gates, self.facts = {}, {}, {}
        self.start_keys, self.effect_keys, self.signal_keys = {}, {}, {}
        self.next_run = self.next_gate = 1
        self.frozen = False
        self.fails, self.open_until = 0, 0  # of the connector `test`
        self.calls = 0

    # --- small words

    def run(self, number):
        r = self.runs.get(number)
        return None if r is None or r.gone else r

    def open_effects(self):
        return sorted(((r, i, s) for r in self.runs.values() for i, s in enumerate(r.steps) if s.open and s.key is not None),
                      key=lambda x: x[2].born)

    @staticmethod
    def take(events, event, /, **fields):
        """The next event, which must be of this type and have these fields."""
        need(events, "an event", event, fields, "is missing")
        e = events.pop(0)
        need(e["type"] == event, "expected", event, fields, "but there is", e)
        for name, value in fields.items():
            need(e[name] == value, event, name, "should be", value, "in", e)
        return e

    def finish(self, r, step, status):
        s = r.steps[step]
        s.status, s.due, s.limit = status, 0, 0
        if s.gate in self.gates and not self.gates[s.gate].decided:
            del self.gates[s.gate]
        self.drop_gates(r)

    def drop_gates(self, r):
        """A gate stands as long as its step is open; an approval for calls to come as long as its run."""
        for g in [g for g in self.gates.values() if g.run == r.id]:
            own = g.step < len(r.steps) and r.steps[g.step].open
            if r.gone or (r.state == "ended" and not own):
                del self.gates[g.id]

    def settle_key(self, s, ok):
        if not ok and s.key in self.effect_keys:
            del self.effect_keys[s.key]

    # --- commands of clients

    def run_start(self, cmd, status, events):
        if cmd["name"] not in ("f", "g"):
            return need(status == 404, "an unknown flow", status)
        key = (cmd["by"], cmd["name"], cmd["key"]) if cmd.get("key") else None
        if key in self.start_keys:
            known = self.start_keys[key]
            return need(status == (200 if known == cmd["body"] else 409), "a known key", status)
        need(status == 201, "a start", status)
        limit = json.loads(cmd["params"])["timeout_ms"] if cmd.get("params") else 0
        r = self.started(events, cmd["name"], cmd["by"], cmd["by"], None, deadline_ms=self.now + limit if limit else 0)
        r.limit = self.now + limit if limit else 0
        if key:
            self.start_keys[key] = cmd["body"]

    def started(self, events, flow, by, origin, parent, **more):
        self.take(events, "run.started", run=self.next_run, flow=flow, parent=parent[0] if parent else 0, **more)
        r = self.runs[self.next_run] = Run(self.next_run, flow, by, origin, parent)
        self.next_run += 1
        return r

    def signal(self, cmd, status, events):
        r = self.run(cmd["run"])
        if not r or r.state == "ended":
            return need(status in (404, 409), "a signal to nobody", status)
        key = (cmd["by"], cmd["run"], cmd["key"]) if cmd.get("key") else None
        if key in self.signal_keys:
            same = self.signal_keys[key] == (cmd["name"], cmd["body"])
            return need(status == (200 if same else 409) or status == 202, "a known signal", status)
        need(status < 300, "a signal", status)
        if key:
            self.signal_keys[key] = (cmd["name"], cmd["body"])
        self.take(events, "signal.sent", run=r.id, name=cmd["name"])
        r.signals.append(cmd["name"])
        for i, s in enumerate(r.steps):
            if s.status == WAITING and s.signal == cmd["name"]:
                self.take(events, "step.done", run=r.id, step=i)
                r.signals.remove(cmd["name"])
                self.finish(r, i, DONE)
                break

    def freeze(self, cmd, status, events):
        if not self.frozen:
            self.take(events, "frozen")
        self.frozen = True

    def thaw(self, cmd, status, events):
        if self.frozen:
            self.take(events, "thawed")
        self.frozen = False

    def run_cancel(self, cmd, status, events):
        r = self.run(cmd["run"])
        if not r or r.state == "ended":
            return need(status == (409 if 0 < cmd["run"] < self.next_run else 404), "a cancel of what has ended", status)
        need(status == 200, "a cancel", status)
        self.cancel(r, events)

    def cancel(self, r, events):
        self.end_tree(r, ENDED_CANCELLED, events)

    def run_pause(self, cmd, status, events):
        r = self.run(cmd["run"])
        if not r or r.state != "active":
            return need(status in (404, 409), "a pause of what does not run", status)
        need(status == 200, "a pause", status)
        self.take(events, "run.paused", run=r.id)
        r.state = "paused"

    def run_fork(self, cmd, status, events):
        r, count = self.run(cmd["run"]), cmd["step"]
        if not r:
            return need(status in (404, 409), "a fork of what is not known", status)
        if count > len(r.steps):
            return need(status == 422, "a fork from behind the end", status)
        if any(s.open or s.dropped for s in r.steps[:count]):
            return need(status == 409, "a fork that takes over what did not end", status)
        restart = json.loads(cmd["params"])["restart"]
        parent = self.run(r.parent[0]) if r.parent else None
        if restart and r.state != "ended":
            if parent and parent.state != "ended":
                return need(status == 409, "a restart of a run that another waits for", status)
            self.cancel(r, events)
        need(status == 201, "a fork", status)
        f = self.started(events, r.flow, cmd["by"], cmd["by"], None, forked_from=r.id, forked_steps=count)
        for i, s in enumerate(r.steps[:count]):
            self.take(events, "step.taken", run=f.id, step=i, status=s.status, action=s.action)
            f.steps.append(Step(s.action, s.args, s.status))
            f.steps[-1].taken = True

    def end_children(self, r, events, outcome=ENDED_CANCELLED):
        for s in r.steps:
            child = self.run(s.child) if s.open and s.child else None
            if child and child.state != "ended":
                self.end_tree(child, outcome, events)

    def end_tree(self, r, outcome, events):
        """With those that it waits for, the leaves first; nothing is sent for them any more."""
        self.end_children(r, events, outcome)
        self.end(r, outcome, events, stop=True)

    def end(self, r, outcome, events, stop=False):
        self.take(events, "run.ended", run=r.id, outcome=outcome)
        r.state, r.outcome, r.park_gate, r.limit, r.stopped = "ended", outcome, 0, 0, stop
        for s in r.steps:
            asked = s.status == HELD and s.uncertain and s.klass == LOOKUP  # the outside will say
            if s.status == WAITING or (stop and s.status in (GATED, HELD) and not asked):
                s.status, s.due, s.limit, s.dropped = FAILED, 0, 0, True
        self.drop_gates(r)
        if r.parent:
            p = self.run(r.parent[0])
            s = p.steps[r.parent[1]] if p else None
            if s and s.open and s.child == r.id:
                if outcome == ENDED_DONE:
                    self.take(events, "step.done", run=p.id, step=r.parent[1])
                else:
                    self.take(events, "step.failed", run=p.id, step=r.parent[1])
                self.finish(p, r.parent[1], DONE if outcome == ENDED_DONE else FAILED)

    def run_resume(self, cmd, status, events):
        r = self.run(cmd["run"])
        if not r or r.state not in ("parked", "paused"):
            return need(status in (404, 409), "a resume of what does not stand still", status)
        need(status == 200, "a resume", status)
        self.take(events, "run.resumed", run=r.id)
        self.unpark(r)

    def unpark(self, r):
        self.gates.pop(r.park_gate, None)
        r.state, r.park_gate = "active", 0

    # --- what flows ask

    def flow_call(self, cmd, status, events):
        r = self.run(cmd["run"])
        if not r or r.state != "active":
            return need(status == 409, "a call of a run that does not run", status)
        if cmd["step"] < len(r.steps):
            s = r.steps[cmd["step"]]
            any_args = s.taken and s.action != "gate.ask"  # a person's answer holds for what was shown
            if s.action != cmd["name"] or (s.args != cmd["body"] and not any_args):
                self.park(r, events)
            return need(status == 200, "a call that was made before", status)
        if cmd["step"] > len(r.steps):
            return need(status == 400, "a call out of order", status)
        need(status == 200, "a call", status)
        args = json.loads(cmd["body"])
        opts = json.loads(cmd["params"]) if cmd.get("params") else {}
        self.timeout = opts.get("timeout", 0)
        getattr(self, "call_" + cmd["name"].replace(".", "_"), self.call_unknown)(r, cmd, args, opts, events)

    def park(self, r, events):
        self.take(events, "run.parked", run=r.id)
        self.open_gate(r, PARK_STEP, "parked", events)
        r.state, r.park_gate = "parked", self.next_gate - 1

    def open_gate(self, r, step, kind, events, **more):
        e = self.take(events, "gate.opened", gate=self.next_gate, run=r.id, step=step, kind=kind)
        g = self.gates[self.next_gate] = Gate(self.next_gate, r.id, step, kind, **more)
        need(e["expires_ms"] == g.expires, "a gate expires at", g.expires, "not", e)
        if step < len(r.steps):
            r.steps[step].gate = g.id
        self.next_gate += 1
        return g

    def called(self, r, cmd, status, events, due=None):
        e = self.take(events, "step.called", run=r.id, step=len(r.steps), action=cmd["name"], status=status)
        if due is not None:
            need(e["due_ms"] == due, "a step is due at", due, "not", e)
        s = Step(cmd["name"], cmd["body"], status)
        s.due = e["due_ms"] if s.open else 0
        s.limit = self.now + self.timeout if s.open and self.timeout else 0
        need(e["deadline_ms"] == s.limit, "its time limit is at", s.limit, "not", e)
        self.calls += 1
        s.born = self.calls
        r.steps.append(s)
        return s

    def call_unknown(self, r, cmd, args, opts, events):
        self.called(r, cmd, FAILED, events)

    def call_memory_put(self, r, cmd, args, opts, events):
        version, _ = self.facts.get(args["key"], (0, None))
        if args.get("base", -1) >= 0 and args["base"] != version:
            self.called(r, cmd, FAILED, events)
            return
        self.take(events, "fact.put", key=args["key"], version=version + 1, removed=0, run=r.id)
        self.facts[args["key"]] = (version + 1, args["value"])
        self.called(r, cmd, DONE, events)

    def call_memory_get(self, r, cmd, args, opts, events):
        _, value = self.facts.get(args["key"], (0, None))
        e = events[0] if events else {}
        self.called(r, cmd, DONE, events)
        got = e["result"] if not isinstance(e["result"], str) else json.loads(e["result"])
        need((got is None and value is None) or (got and got["value"] == value), "a fact is", value, "not", got)

    def call_memory_forget(self, r, cmd, args, opts, events):
        version, value = self.facts.get(args["key"], (0, None))
        if value is not None:
            self.take(events, "fact.put", key=args["key"], version=version + 1, removed=1)
            self.facts[args["key"]] = (version + 1, None)
        self.called(r, cmd, DONE, events)

    def call_timer_sleep(self, r, cmd, args, opts, events):
        if args["ms"] <= 0:
            self.called(r, cmd, DONE, events)
        else:
            self.called(r, cmd, WAITING, events, due=self.now + args["ms"])

    def call_signal_wait(self, r, cmd, args, opts, events):
        if args["name"] in r.signals:
            self.called(r, cmd, DONE, events)
            r.signals.remove(args["name"])
        elif args.get("timeout_ms", -1) == 0:
            self.called(r, cmd, DONE, events)
        else:
            timeout = args.get("timeout_ms", -1)
            s = self.called(r, cmd, WAITING, events, due=self.now + timeout if timeout > 0 else 0)
            s.signal = args["name"]

    def call_gate_ask(self, r, cmd, args, opts, events):
        self.called(r, cmd, WAITING, events)
        expires = self.now + args["expires_ms"] if args.get("expires_ms") else 0
        self.open_gate(r, len(r.steps) - 1, "approve", events, expires=expires, on_expiry=args.get("on_expiry", "deny"),
                       edit=args.get("edit", False), allows=args.get("allows"))

    def call_run_call(self, r, cmd, args, opts, events):
        depth, at = 1, r
        while at.parent and (at := self.runs.get(at.parent[0])):
            depth += 1
        if args["flow"] not in ("f", "g") or depth >= 32:
            self.called(r, cmd, FAILED, events)
            return
        s = self.called(r, cmd, WAITING, events)
        s.child = self.started(events, args["flow"], "flow/" + r.flow, r.origin, (r.id, len(r.steps) - 1)).id

    def call_run_start(self, r, cmd, args, opts, events):
        key = ("flow/" + r.flow, args["flow"], args["key"]) if args.get("key") else None
        body = json.dumps(args["input"], separators=(",", ":"), sort_keys=True)
        if args["flow"] not in ("f", "g"):
            self.called(r, cmd, FAILED, events)
        elif key in self.start_keys:
            self.called(r, cmd, DONE if self.start_keys[key] == body else FAILED, events)
        else:
            self.called(r, cmd, DONE, events)
            self.started(events, args["flow"], "flow/" + r.flow, r.origin, None)
            if key:
                self.start_keys[key] = body

    # --- effects

    def effect(self, r, cmd, args, opts, events):
        verdict = {"gate": "gate", "timed": "gate", "deny": "deny"}.get(args["value"], "allow")
        own = f"{cmd['name']}:{opts['key']}" if opts.get("key") else None
        if own in self.effect_keys:
            self.called(r, cmd, FAILED, events)
            return
        if verdict == "deny":
            self.called(r, cmd, FAILED, events)
            return
        approval = 0
        if verdict == "gate" and opts.get("approval"):
            approval = opts["approval"]
            g = self.gates.get(approval)
            if not g or g.run != r.id or not g.decided or g.left == 0 or g.allows["action"] != cmd["name"]:
                self.called(r, cmd, FAILED, events)
                return
            g.left -= 1
        if verdict == "gate" and not approval:
            s = self.called(r, cmd, GATED, events)
            expires = self.now + HOUR_MS if args["value"] == "timed" else 0
            self.open_gate(r, len(r.steps) - 1, "policy", events, expires=expires)
        elif self.frozen or self.open_until > self.now:
            s = self.called(r, cmd, HELD, events, due=max(self.now, self.open_until))
        else:
            s = self.called(r, cmd, SENT, events)
            s.attempt = 1
        s.approval = approval
        s.key = own or (r.id, len(r.steps) - 1)
        if opts.get("retry"):
            s.attempts = opts["retry"]
        if own:
            self.effect_keys[own] = True

    call_test_read = call_test_idempotent = call_test_lookup = call_test_once = effect

    def release(self, r, i, s, events):
        """It was held and its time has come: everything is looked at again before it leaves."""
        if s.mode == 0 and (self.late(s) or (r.stopped and s.uncertain)):
            self.overdue(r, i, s, events)
        elif self.frozen:
            e = self.take(events, "step.retry", run=r.id, step=i, attempt=0)
            need(e["at_ms"] == self.now, "frozen: due again at once", e)
            s.due = e["at_ms"]
        elif self.open_until > self.now:
            e = self.take(events, "step.retry", run=r.id, step=i, attempt=0, at_ms=self.open_until)
            s.due = e["at_ms"]
        else:
            self.take(events, "step.sent", run=r.id, step=i, attempt=s.attempt + 1, mode=s.mode)
            s.status, s.due = SENT, 0
            s.attempt += 1

    def late(self, s):
        return s.passed or 0 < s.limit <= self.now

    def over(self, r, s):
        """It is not sent (again): its run was stopped, or its time limit is over."""
        return r.stopped or self.late(s)

    def overdue(self, r, i, s, events):
        """Its time limit is over, or it was held for a run that was stopped meanwhile."""
        if s.status != SENT and s.uncertain and s.klass == LOOKUP:
            # It is not sent; whether it happened before is asked when it was to be sent.
            at = max(s.due, self.now)
            self.take(events, "step.retry", run=r.id, step=i, attempt=0, mode=1, at_ms=at)
            if s.gate in self.gates and not self.gates[s.gate].decided:
                del self.gates[s.gate]
            s.mode, s.due, s.status, s.passed = 1, at, HELD, self.late(s)
        else:
            self.settle_over(r, i, s, events, s.status == SENT, False)

    def limit_of_step(self, r, i, s, events):
        child = self.run(s.child) if s.child else None
        if s.status != WAITING:
            self.overdue(r, i, s, events)
        elif child and child.state != "ended":
            self.end_tree(child, ENDED_FAILED, events)
        else:
            self.fail(r, i, s, events)

    def count(self, failed):
        self.fails = self.fails + 1 if failed else 0
        if self.fails >= BREAKER_FAILS:
            self.open_until = self.now + BREAKER_MS
        elif not failed:
            self.open_until = 0

    def again(self, r, i, s, events, mode, unknown, blame, wait=None):
        """A known failure, or one that is asked about: held until at_ms, then sent or looked up."""
        e = self.take(events, "step.retry", run=r.id, step=i, attempt=s.attempt, mode=mode)
        low, high = wait or self.backoff(s)
        need(self.now + low <= e["at_ms"] <= self.now + high, "a retry after", low, "to", high, "ms, not", e["at_ms"] - self.now)
        if blame:
            s.failures += 1
            self.count(True)
        s.uncertain = s.uncertain or unknown
        s.status, s.due, s.mode, s.passed = HELD, e["at_ms"], mode, self.late(s)

    @staticmethod
    def backoff(s):
        base = min(200 * 2 ** s.failures, 300000)
        return base // 2, base

    def doubt(self, r, i, s, events):
        self.take(events, "step.doubt", run=r.id, step=i, attempt=s.attempt, gate=self.next_gate)
        self.open_gate(r, i, "doubt", events)
        s.status, s.passed = DOUBT, self.late(s)

    def fail(self, r, i, s, events):
        self.take(events, "step.failed", run=r.id, step=i)
        if s.status == SENT and not self.late(s):
            self.count(False)
        self.settle_key(s, False)
        self.finish(r, i, FAILED)

    def retry_or_park(self, r, i, s, events, unknown):
        if s.failures + 1 < s.attempts:
            self.again(r, i, s, events, 0, unknown, True)
        elif s.attempts != ATTEMPTS and not (unknown and s.klass != READ):
            self.fail(r, i, s, events)
        else:
            self.again(r, i, s, events, 0, unknown, True, wait=(0, 0))
            self.open_gate(r, i, "retry", events)
            s.status, s.due = GATED, 0

    def settle_over(self, r, i, s, events, maybe, blame):
        """Behind its time limit a call that may be repeated fails; for a run that was stopped a person is asked."""
        if not (maybe or s.uncertain) or s.klass == READ or (s.klass == IDEMPOTENT and not r.stopped):
            self.fail(r, i, s, events)
        elif s.klass == LOOKUP:
            self.again(r, i, s, events, 1, maybe, blame, wait=(SETTLE_MS, SETTLE_MS))
        else:
            self.doubt(r, i, s, events)

    def no_answer(self, r, i, s, events):
        if self.over(r, s):
            self.settle_over(r, i, s, events, True, True)
        elif s.klass == ONCE:
            self.doubt(r, i, s, events)
        elif s.klass == LOOKUP:
            self.again(r, i, s, events, 1, True, True, wait=(SETTLE_MS, SETTLE_MS))
        else:
            self.retry_or_park(r, i, s, events, True)

    def effect_result(self, cmd, status, events):
        r = self.run(cmd["run"])
        s = r.steps[cmd["step"]] if r and cmd["step"] < len(r.steps) else None
        if not s or s.status != SENT or s.attempt != cmd["attempt"]:
            return need(status == 409, "a late result", status)
        i, outcome = cmd["step"], cmd["outcome"]
        over = self.over(r, s)
        if outcome == OUTCOME_DONE:
            self.take(events, "step.done", run=r.id, step=i)
            self.count(False)
            self.finish(r, i, DONE)
        elif outcome == OUTCOME_RETRY and s.mode == 1:
            self.again(r, i, s, events, 1, False, True)
        elif outcome == OUTCOME_RETRY and over:
            self.settle_over(r, i, s, events, False, True)
        elif outcome == OUTCOME_RETRY:
            self.retry_or_park(r, i, s, events, False)
        elif outcome == OUTCOME_UNKNOWN or (outcome == OUTCOME_NOT_FOUND and s.mode == 0):
            self.no_answer(r, i, s, events)
        elif outcome == OUTCOME_NOT_FOUND and over:
            self.fail(r, i, s, events)
        elif outcome == OUTCOME_NOT_FOUND and s.failures + 1 < s.attempts:
            self.again(r, i, s, events, 0, False, True, wait=(0, 0))
        elif outcome == OUTCOME_NOT_FOUND:
            self.retry_or_park(r, i, s, events, False)
        else:
            self.fail(r, i, s, events)
        self.drop_gates(r)

    def flow_done(self, cmd, status, events):
        r = self.run(cmd["run"])
        if not r or r.state != "active":
            return need(status == 409, "the end of a run that does not run", status)
        if cmd["step"] < len(r.steps):
            return self.park(r, events)
        self.end_children(r, events)
        self.end(r, ENDED_DONE, events)

    def flow_failed(self, cmd, status, events):
        r = self.run(cmd["run"])
        if not r or r.state != "active":
            return need(status == 409, "the end of a run that does not run", status)
        self.end_children(r, events)
        self.end(r, ENDED_FAILED, events)

    # --- gates

    ANSWERS = {"approve": ("approve", "edit", "deny"), "policy": ("approve", "deny"), "retry": ("approve", "deny"),
               "doubt": ("happened", "send", "give_up", "deny"), "parked": ("approve", "resume", "deny", "cancel", "give_up")}

    def gate_decide(self, cmd, status, events):
        g = self.gates.get(cmd["id"])
        if not g or g.decided:
            return need(status == (409 if 0 < cmd["id"] < self.next_gate else 404), "an answer too late", status)
        if cmd["name"] not in self.ANSWERS[g.kind]:
            return need(status == 422, "an answer that does not fit", status)
        if cmd.get("wrong"):
            return need(status == 409, "an answer to what was not shown", status)
        r = self.runs[g.run]
        if cmd["by"] != "operator":  # nobody else is named
            return need(status == 403, "the operator alone answers", status)
        if g.kind == "approve" and cmd["name"] == "edit" and not (g.edit and cmd.get("body")):
            return need(status == 422, "an edit", status)
        need(status == 200, "an answer", status)
        self.decide(g, r, cmd["name"], cmd["by"], events)

    def decide(self, g, r, answer, by, events):
        self.take(events, "gate.decided", gate=g.id, answer=answer)
        g.decided = True
        s = r.steps[g.step] if g.step < len(r.steps) else None
        yes = answer in ("approve", "edit", "send", "happened", "resume")
        if g.kind == "approve":
            self.take(events, "step.done", run=r.id, step=g.step)
            if yes and by != "time" and g.allows:
                g.left = g.allows["count"]
            if not g.left:
                del self.gates[g.id]
            self.finish(r, g.step, DONE)
            return
        del self.gates[g.id]
        if g.kind == "parked":
            if yes:
                self.take(events, "run.resumed", run=r.id)
                self.unpark(r)
            else:
                self.cancel(r, events)
        elif g.kind == "doubt" and answer == "happened":
            self.take(events, "step.done", run=r.id, step=g.step)
            self.finish(r, g.step, DONE)
        elif not yes:
            self.fail(r, g.step, s, events)
        else:
            s.status, s.due, s.gate = HELD, self.now, 0
            if g.kind == "policy":
                s.cleared = True
            if g.kind == "retry":
                s.failures = 0
            if g.kind in ("retry", "doubt") and self.late(s):
                s.limit, s.passed = 0, False  # a person let it go all the same
            if g.kind == "doubt":
                s.mode, s.uncertain = 0, False
        self.drop_gates(r)

    # --- time, and the end of aiosd

    def due(self):
        """Everything that waits for a time: (when, run, step) or (when, gate)."""
        out = [(s.due, "step", r.id, i) for r in self.runs.values() for i, s in enumerate(r.steps)
               if s.due and (s.status == WAITING or (s.status == HELD and not self.frozen))]
        out += [(s.limit, "limit", r.id, i) for r in self.runs.values() for i, s in enumerate(r.steps)
                if s.limit and s.open and not s.passed and s.status != DOUBT]
        out += [(r.limit, "run", r.id, 0) for r in self.runs.values() if r.limit and r.state != "ended"]
        return out + [(g.expires, "gate", g.id, 0) for g in self.gates.values() if g.expires and not g.decided]

    def tick(self, cmd, status, events):
        due = self.due()
        first = min((d[0] for d in due), default=None)
        if first is None or first > self.now:
            return
        need(events, "something was due and nothing happened:", min(due))
        e = events[0]
        if e["type"] == "gate.decided":
            g = self.gates[e["gate"]]
            need(g.expires == first, "a gate expired before its turn", e)
            answer = "approve" if g.on_expiry == "approve" else "expired"
            self.decide(g, self.runs[g.run], answer, "time", events)
            return
        if e["type"] == "run.ended":
            return self.limit_ends(first, e, events)
        r = self.runs[e["run"]]
        s = r.steps[e["step"]]
        need(first in (s.due, s.limit), "a timer fired before its turn", e, "first is", first)
        if s.limit == first and not s.passed and (s.due != first or e["type"] not in ("step.done", "step.sent")):
            self.limit_of_step(r, e["step"], s, events)
        elif s.status == HELD:
            self.release(r, e["step"], s, events)
        else:
            self.take(events, "step.done", run=r.id, step=e["step"])
            self.finish(r, e["step"], DONE)

    def first_to_end(self, r):
        for s in r.steps:
            child = self.run(s.child) if s.open and s.child else None
            if child and child.state != "ended":
                return self.first_to_end(child)
        return r.id

    def limit_ends(self, first, e, events):
        """The time limit of a run, or of a step that waits for one; of several the one that ends what was ended."""
        ended = {x["run"] for x in events if x["type"] == "run.ended"}
        for when, kind, number, i in self.due():
            r = self.runs[number] if kind in ("run", "limit") else None
            top = r if kind == "run" else self.run(r.steps[i].child) if r and r.steps[i].child else None
            if when != first or not top or top.state == "ended" or self.first_to_end(top) != e["run"]:
                continue
            if top.id == max(ended, key=lambda x: self.depth_under(x, ended)):
                return self.end_tree(top, ENDED_FAILED, events)
        raise Wrong(f"no time limit ends {e}")

    def depth_under(self, number, ended):
        """How many of `ended` are below this run: the root of the tree that ended has the most."""
        r, above = self.runs[number], 0
        while r.parent and r.parent[0] in ended:
            r, above = self.runs[r.parent[0]], above + 1
        return -above

    def start(self, cmd, status, events):
        self.epoch += 1
        self.take(events, "engine.started", epoch=self.epoch)
        for r, i, s in self.open_effects():
            if s.status != SENT:
                continue
            if self.over(r, s):
                self.settle_over(r, i, s, events, True, False)
            elif s.klass == ONCE:
                self.doubt(r, i, s, events)
            else:
                lookup = s.klass == LOOKUP
                wait = (SETTLE_MS, SETTLE_MS) if lookup else (0, 0)
                self.again(r, i, s, events, 1 if lookup else 0, True, False, wait=wait)
            self.drop_gates(r)

    # --- one command

    def check(self, cmd, answer):
        self.now = answer["now"]
        # What a decision proposes is counsel: it changes nothing that the model knows (core/gates has its tests).
        gates = {e["gate"] for e in answer["events"] if e["type"] == "gate.decided"}
        advice = [e for e in answer["events"] if e["type"] == "rule.proposed"]
        need(all(e["gate"] in gates for e in advice), "a rule is proposed for a gate that was not decided:", advice)
        events = [e for e in answer["events"] if e["type"] != "rule.proposed"]
        getattr(self, cmd["cmd"])(cmd, answer["status"], events)
        need(not events, "the core did more than it should:", events)
        first = min((d[0] for d in self.due()), default=-1)
        need(answer["due"] == first, "the next time is", first, "and the core says", answer["due"])
