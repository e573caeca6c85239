"""The newsletter under violence: its Maildir, or the log of a mail server that is not ours, is the judge."""
import collections
import csv
import email
import email.policy
import hashlib
import json
import time

from crash import Crash


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
