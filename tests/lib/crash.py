"""Violence against a real aiosd: what tools/crash does. The judge is always outside of aios."""
import collections
import os
import random
import signal
import threading
import time

from aios import Problem
from crash_clerk import Clerk

PROCESSES = ["aiosd", "aios-flow", "aios-connect", "aios-views", "aios-door", "aios-vault", "aios-parse"]
STATES = {2: "planned", 3: "approved", 5: "in doubt"}  # enum core_step_status
MOVES = {"step.sent": 4, "step.done": 6, "step.failed": 7, "step.retry": 3, "step.doubt": 5}


class Crash:
    """Kills processes, answers gates as a truthful operator would, and says in which states the kills fell."""

    speaks = False  # the clerk also starts runs and publishes events

    def __init__(self, aios, args):
        self.aios, self.args = aios, args
        self.rng = random.Random(args.seed)
        self.kills, self.pauses, self.early = [], 0, 0
        self.doubts, self.worn_out, self.wrong_doubts, self.stuck = 0, 0, [], {}
        self.over = False
        self.stopped = threading.Event()
        self.clerk = Clerk(self, args.seed)

    # --- the operator

    def operate(self):
        while True:
            for duty in (self.answer_once, self.meddle):
                try:
                    duty()
                except Exception:
                    pass
            if self.stopped.wait(0.05):
                return

    def meddle(self):
        pass

    def unsignalled(self):
        return {}

    def told(self):
        return ""

    def answer_once(self):
        for g in self.aios.get("/v1/gates")["items"]:
            if self.rng.random() < 0.7 and not self.over:
                continue  # a person takes their time
            if g["kind"] == "doubt" and time.time() * 1000 - g["opened_ms"] < 1500:
                continue  # what is on its way must arrive before the outside is looked at
            full = self.aios.get(f"/v1/gates/{g['gate']}")
            if g["kind"] == "doubt":
                self.settle(full)
                continue
            if g["kind"] == "retry" and full["show"]["last_word"]["code"] == "lost":
                self.worn_out += 1  # its connector was killed each time that it was tried: a person may let it go on
            elif g["kind"] not in ("policy", "approve"):
                self.stuck[g["gate"]] = full  # nothing here should come to stand like this
            self.aios.post(f"/v1/gates/{g['gate']}/approve", {"shown": full["shown"], "reason": "crash test"})

    def settle(self, gate):
        """An effect in doubt: looks outside, then says what is true there."""
        self.check_doubt(gate)
        proof = self.proof(gate)
        answer = {"answer": "happened", "value": proof} if proof else {"answer": "send"}
        self.aios.post(f"/v1/gates/{gate['gate']}/settle", {"shown": gate["shown"], **answer})
        self.doubts += 1

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
            self.start()
        return True

    def start(self):
        """Each life of aiosd takes snapshots and lets runs rest after another while; some end before they have begun."""
        options = ("--fold-after", str(self.rng.choice([100, 1000, 10000])),
                   "--evict-after", str(self.rng.choice([20, 300, 30000])))
        while self.kills and self.rng.random() < 0.2:
            self.aios.spawn(None, *options)
            time.sleep(self.rng.uniform(0, 0.1))
            self.aios.kill()
            self.early += 1
        self.aios.start(None, *options)

    def kill_fold(self):
        """It is there only now and then."""
        pid = self.aios.pids().get("aios-fold")
        if pid:
            os.kill(pid, signal.SIGKILL)
        return bool(pid)

    def rampage(self):
        todo = [p for p in PROCESSES for _ in range(self.args.kills)]
        self.rng.shuffle(todo)
        done = collections.Counter(dict.fromkeys([*PROCESSES, "aios-fold"], 0))
        end = time.monotonic() + 60 * self.args.minutes
        while todo and time.monotonic() < end:
            name = todo.pop()
            time.sleep(self.rng.uniform(0.03, 0.4) * self.args.pace)
            try:
                if self.rng.random() < 0.1:
                    self.pause_one()
                if self.rng.random() < 0.2:
                    done["aios-fold"] += self.kill_fold()
                hit = self.kill_one(name)
            except (OSError, Problem, TimeoutError, ValueError) as e:
                hit = False
                if self.aios.daemon.poll() is not None:
                    raise RuntimeError(f"aiosd ended by itself: {e}") from e
            if hit:
                done[name] += 1
            else:  # it was dead already; aiosd lets it wait
                todo.insert(self.rng.randrange(len(todo) + 1), name)
        return done

    # --- judgement

    def histogram(self, events):
        """For each kill: in which state the effects in flight stood."""
        steps, by_run = {}, collections.defaultdict(list)
        for e in events:
            key = (e.get("run"), e.get("step"))
            if e["type"] == "step.called" and self.is_effect(e["action"]):
                steps[key] = {"key": e["key"], "moves": [(e["at"], e["status"])]}
                by_run[e["run"]].append(steps[key])
            elif e["type"] == "run.ended":  # what was not sent is dropped without a word
                for s in by_run.pop(e["run"], []):
                    if s["moves"][-1][1] < 4:
                        s["moves"].append((e["at"], 7))
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


def show(table, done):
    """Prints the histogram of where the kills fell."""
    states = ["planned", "approved", "sent before the reply", "reply before its commit", "in doubt"]
    print(f"{'killed':<14}{'times':>6}  " + "".join(f"{s:>25}" for s in states))
    for name in done:
        print(f"{name:<14}{done[name]:>6}  " + "".join(f"{table[name][s]:>25}" for s in states))


