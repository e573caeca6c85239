#!/usr/bin/env python3
"""What an operator does between the draft and the last mail: a test send, an edit, a denial, readers who leave at the last
moment, a second run of an issue that went out, a dry run."""
import csv
import importlib.machinery
import importlib.util
import json
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tests/lib"))
from aios import Unix  # noqa: E402

loader = importlib.machinery.SourceFileLoader("run", str(ROOT / "tools/run"))
run = importlib.util.module_from_spec(importlib.util.spec_from_loader("run", loader))
loader.exec_module(run)

EDIT = "One sentence that the operator wrote at the gate."


def need(condition, why):
    if not condition:
        raise run.Failed(why)


def begin(ws, **given):
    return ws.aios("run", "newsletter", "--detach", "--input", json.dumps(given))["run"]


def gate_of(ws, number):
    gate = run.until(lambda: run.open_gate(ws, number), 120)
    need(gate, f"run {number} showed nothing")
    return ws.aios("gates", str(gate["gate"]))


def end_of(ws, number):
    end = run.until(lambda: run.ended(ws, number), 240)
    need(end, f"run {number} did not end")
    return end


def test_send(ws):
    number = begin(ws, issue="25", to="me@example.org")
    gate = gate_of(ws, number)
    need(gate["show"]["readers"] == 1, "a test is for one reader")
    ws.aios("approve", str(gate["gate"]), "--reason", "to me")
    need(end_of(ws, number)["state"] == "done", "the test run failed")
    need([run.address(m) for m in ws.mails()] == ["me@example.org"], "a test goes to the address that was given, and nowhere else")


def denied(ws):
    number = begin(ws, issue="25")
    ws.aios("deny", str(gate_of(ws, number)["gate"]), "--reason", "too dull")
    end = end_of(ws, number)
    need(end["state"] == "failed" and "too dull" in json.dumps(end["value"]), "a denial must end the run with its reason")
    need(len(ws.mails()) == 1, "a denied draft was sent")


def edited_and_left(ws, readers):
    number = begin(ws, issue="25", wait="8s")
    gate = gate_of(ws, number)
    value = gate["show"]
    value["markdown"] = value["markdown"].replace("## In the news", EDIT + "\n\n## In the news")
    ws.aios("approve", str(gate["gate"]), "--value", json.dumps(value), "--reason", "one sentence more")
    need(run.until(lambda: run.sample_sent(ws, number), 120), "no sample")
    got = {run.address(m) for m in ws.mails()}
    leaving = [r for r in readers if r["email"] not in got][-3:]
    for r in leaving:
        fact = ws.aios("memory", "get", f"readers/{r['id']}")["value"]
        ws.aios("memory", "put", f"readers/{r['id']}", json.dumps({**fact, "unsubscribed": True}))
    end = end_of(ws, number)
    need(end["state"] == "done", f"the run failed: {end['value']}")
    mails = [m for m in ws.mails() if run.address(m) != "me@example.org"]
    need(end["value"]["sent"] == 197 and end["value"]["skipped"] == 3 and end["value"]["edited"], f"result: {end['value']}")
    need(sorted(run.address(m) for m in mails) == sorted(r["email"] for r in readers if r not in leaving),
         "who left a moment ago got a mail, or somebody else got none")
    need(all(EDIT in m.get_body(preferencelist=("plain",)).get_content() for m in mails), "the edit is not in every mail")


def again(ws):
    number = begin(ws, issue="25")
    end = end_of(ws, number)
    need(end["state"] == "failed" and "went out in run " in json.dumps(end["value"]), "an issue went out twice")
    fact = ws.aios("memory", "get", "issues/25")["value"]
    need(fact["sent"] == 197 and f"run {fact['run']};" in json.dumps(end["value"]), f"the issue's fact: {fact}")


def at_once(ws):
    """Two runs of one issue: the second waits for its turn, and finds that the issue went out."""
    before = len(ws.mails())
    first, second = begin(ws, issue="27", wait="1s"), begin(ws, issue="27", wait="1s")
    gate = gate_of(ws, first)
    need(operator_reads(ws, f"/v1/runs/{second}")["state"] == "queued", "two runs of one issue at a time")
    ws.aios("approve", str(gate["gate"]), "--reason", "the first")
    ends = [end_of(ws, number) for number in (first, second)]
    need([e["state"] for e in ends] == ["done", "failed"], f"one run must win: {[e['state'] for e in ends]}")
    need(f"went out in run {first}" in json.dumps(ends[1]["value"]), f"the second: {ends[1]['value']}")
    need(len(ws.mails()) == before + 197, f"{len(ws.mails()) - before} mails of one issue")


def would_send(ws, number):
    """What the mails of a dry run would have been, from its steps."""
    steps, after = [], -1
    while after is not None:
        page = operator_reads(ws, f"/v1/runs/{number}?after={after}")
        steps += page["steps"]
        after = page.get("next")
    need(len({s["step"] for s in steps}) == len(steps), "a page repeats steps of another")
    return [s["result"] for s in steps if s["action"] == "mail.send"]


def operator_reads(ws, path):
    door = Unix(str(ws.path / ".aios/run/door.sock"), 60)
    try:
        door.request("GET", path)
        answer = door.getresponse()
        text = answer.read()
        need(answer.status == 200, f"GET {path}: {answer.status} {text[:300]}")
        return json.loads(text)
    finally:
        door.close()


def dry(ws, readers):
    """Twice dry, then for real: what is only tried takes nothing from what comes."""
    before = len(ws.mails())
    for _ in range(2):
        number = ws.aios("run", "newsletter", "--dry", "--detach", "--input", json.dumps({"issue": "26"}))["run"]
        end = end_of(ws, number)
        need(end["state"] == "done", f"the dry run failed: {end['value']}")
        need(len(ws.mails()) == before, "a dry run sent mail")
        need(end["value"]["sent"] == len(readers) - 3, f"a dry run must show what would be sent: {end['value']}")
        need(not [f for f in run.listed(ws.aios("memory", "list", "issues/")) if f["key"] == "issues/26"],
             "a dry run took the issue")
    mails = would_send(ws, number)
    left = {r["email"] for r in readers if ws.aios("memory", "get", f"readers/{r['id']}")["value"]["unsubscribed"]}
    need(len(left) == 3 and all(m["dry"] is True for m in mails), "a dry run's mails must be answered as dry")
    need(sorted(m["would_send"]["args"]["to"] for m in mails) == sorted(r["email"] for r in readers if r["email"] not in left),
         f"the dry run's steps must show each mail: {len(mails)} {mails[:1]}")
    number = begin(ws, issue="26", wait="1s")
    ws.aios("approve", str(gate_of(ws, number)["gate"]), "--reason", "as rehearsed")
    end = end_of(ws, number)
    need(end["state"] == "done" and len(ws.mails()) == before + 197, f"after a dry run the issue did not go out: {end['value']}")


def main():
    with tempfile.TemporaryDirectory(prefix="aios-e2e-") as folder:
        ws = run.Workspace(pathlib.Path(folder) / "ws")
        try:
            run.prepare(ws, headless=True)
            with open(ws.path / "files/readers.csv", newline="") as f:
                readers = list(csv.DictReader(f))
            for part, *rest in [(test_send,), (denied,), (edited_and_left, readers), (again,), (dry, readers), (at_once,)]:
                part(ws, *rest)
                print(f"{part.__name__}: ok", flush=True)
            verified = ws.aios("log", "verify", "--replay")
            need(verified["ok"], f"log: {verified}")
        except run.Failed as e:
            log = ws.path / ".aios/run/aiosd.log"
            print(f"FAIL: {e}\n{log.read_text(errors='replace')[-2000:] if log.exists() else ''}")
            return 1
        finally:
            if (ws.path / "aios.yaml").exists():
                ws.aios("down", check=False)
    print("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
