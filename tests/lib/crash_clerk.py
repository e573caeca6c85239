"""A clerk at the API while everything is being killed: what was acknowledged to it must stand at the end, once."""
import collections
import random

from aios import Problem


class Clerk:
    """Writes facts; starts runs and publishes events with keys; sends the signals that programs wait for."""

    def __init__(self, test, seed):
        self.test, self.aios, self.rng = test, test.aios, random.Random(seed)
        self.facts, self.unanswered = {}, set()  # {number: version}; nobody said yes: it may stand or not
        self.starts, self.events, self.signals = {}, {}, {}  # {key: what was answered}
        self.asked = collections.Counter()  # kinds of what was asked at all

    def work(self):
        n = 0
        while not self.test.over:
            n += 1
            for ask in (self.write, self.start, self.publish) if self.test.speaks else (self.write,):
                if ask == self.write or self.rng.random() < 0.15:
                    self.ask(ask, n)
            for value, (i, run) in list(self.test.unsignalled().items()):
                self.ask(self.signal, value, i, run)
            self.test.stopped.wait(self.rng.uniform(0.01, 0.1))
        while not self.test.stopped.wait(0.05):
            for value, (i, run) in list(self.test.unsignalled().items()):
                self.ask(self.signal, value, i, run)

    def ask(self, what, *args):
        """Whatever died in the middle: no answer."""
        self.asked[what.__name__] += 1
        try:
            what(*args)
        except Exception:
            pass

    def write(self, n):
        self.unanswered.add(n)
        got = self.aios.ask("PUT", f"/v1/memory/facts/clerk/{n}", {"value": n}, timeout=5)
        self.facts[n] = got["version"]
        self.unanswered.discard(n)

    def start(self, n):
        key = f"note-{n}"
        got = self.aios.post("/v1/flows/note/runs", {"input": {"n": n}}, timeout=5, headers={"Idempotency-Key": key})
        self.starts[key] = got["run"]

    def publish(self, n):
        key = f"clerk-{n}"
        got = self.aios.post("/v1/events/crash.heard", {"value": f"clerk {n}"}, timeout=5, headers={"Idempotency-Key": key})
        self.events[key] = got["id"]

    def signal(self, value, i, run):
        try:
            self.aios.post(f"/v1/runs/{run}/signals/s{i}", f'"{value}"', timeout=5, headers={
                "Idempotency-Key": f"signal-{value}", "Content-Type": "application/json"})
            self.signals[f"signal-{value}"] = run
        except Problem as p:
            if p.status in (404, 409):  # the run has ended: somebody cancelled it
                self.signals[f"signal-{value}"] = None
            raise

    # --- judgement

    def faults(self, events):
        return self.faults_of_facts() + self.faults_of_keys(events)

    def faults_of_facts(self):
        after, found = "", {}
        while True:
            page = self.aios.get(f"/v1/memory/facts?prefix=clerk/&limit=1000&after={after}")
            found.update({int(f["key"].split("/")[1]): f for f in page["items"]})
            after = page.get("next", "")
            if not after:
                break
        out = [f"fact {n} was acknowledged as version {v}, and is {found.get(n)}" for n, v in self.facts.items()
               if n not in found or found[n]["value"] != n or found[n]["version"] != v]
        return out + [f"fact {n} was never written" for n in found if n not in self.facts and n not in self.unanswered]

    def faults_of_keys(self, events):
        """Each that was acknowledged is in the log once; others at most once."""
        found = collections.defaultdict(list)
        for e in events:
            if e["type"] in ("run.started", "signal.sent", "event.published") and e.get("key") and not e.get("generation"):
                found[e["key"]].append(e["seq"] if e["type"] == "event.published" else e["run"])
        out = [f"{key} stands {len(where)} times in the log" for key, where in found.items() if len(where) > 1]
        by_name = {key.split(" ")[-1]: where for key, where in found.items() if " " in key}
        for key, where in (self.starts | self.events | self.signals).items():
            if where is not None and by_name.get(key) != [where]:
                out.append(f"{key} was acknowledged as {where}, and the log has {by_name.get(key)}")
        return out

    def faults_outside(self, count):
        """What its starts and events did outside (popped from `count`): once if they were acknowledged, else at most once."""
        out = []
        want = [*(f"note {key.split('-')[1]}" for key in self.starts), *(f"heard clerk {key.split('-')[1]}" for key in self.events)]
        for value in want:
            n = count.pop(value, 0)
            if n != 1:
                out.append(f"{value} happened {n} times")
        for value in [v for v in count if v.startswith(("note ", "heard clerk "))]:
            n = count.pop(value)
            if n > 1:
                out.append(f"{value} happened {n} times")
        return out
