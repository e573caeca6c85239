#!/usr/bin/env python3
"""An operator's day, through the command line and the plain page alone: every command with its exit code, its --help and its
--json; a workspace from `aios init` to `aios down`."""
import base64
import html
import http.client
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import BIN, until  # noqa: E402

LETTER = """import { flow } from "aios";
export default flow({ name: "letter", input: { type: "object", properties: { to: { type: "string" }, n: { type: "integer" } } },
  grants: ["memory.*", "gate.ask", "mail.send", "model.generate"] }, async (ctx, input) => {
  const { text } = await ctx.model({ tier: "draft", prompt: "Tides are long waves. The moon pulls the sea.", max_tokens: 60 });
  const { value, approval, answer } = await ctx.approve({ title: `Letter ${input.n ?? 0}`, show: { body: `VERSION ${text}` },
    edit: true, allows: { action: "mail.send", count: 1, fixed: { text: "/body" } } });
  await ctx.call("mail.send", { to: input.to, subject: "A letter", text: value.body }, { approval, customer: input.to });
  await ctx.outcome("sent", 1, { customer: input.to });
  return { answer, body: value.body, version: "VERSION" };
});
"""
WAITER = """import { flow } from "aios";
export default flow({ name: "waiter" }, async (ctx) => (await ctx.signal("go")).payload);
"""
SECRET = "s3cret-Value-that-must-not-leak"


class Operator:
    def __init__(self, folder):
        self.dir = folder
        self.used = set()

    def aios(self, *args, code=0, stdin=None, where=None, env=None):
        """stdout of a command that must end with `code`; stderr for another code than 0."""
        p = subprocess.run([BIN / "aios", *map(str, args)], cwd=where or self.dir, text=True, capture_output=True, input=stdin,
                           timeout=60, env={**os.environ, "DISPLAY": "", "WAYLAND_DISPLAY": "", **(env or {})})
        assert p.returncode == code, f"aios {' '.join(map(str, args))}: {p.returncode}, not {code}: {p.stderr}{p.stdout}"
        self.used.add(args[0])
        return p.stderr if code else p.stdout

    def json(self, *args, **kw):
        out = self.aios(*args, "--json", **kw)
        return json.loads(out)

    def gate(self, run):
        return until(lambda: next((g for g in self.json("gates")["items"] if g["run"] == run), None), 20, what="a gate")["gate"]

    def start(self, *args):
        return self.json("run", *args, "--detach")["run"]


def mails(op):
    return sorted((op.dir / "files/outbox/new").glob("*"))


def begin(op):
    op.dir.parent.mkdir(exist_ok=True)
    op.aios("init", op.dir, "--name", "Daybook", where=op.dir.parent)
    assert "Daybook" in (op.dir / "aios.yaml").read_text() and (op.dir / "flows/hello.js").exists()
    (op.dir / "flows/letter.js").write_text(LETTER.replace("VERSION", "one"))
    (op.dir / "flows/waiter.js").write_text(WAITER)
    assert "aios up" in op.aios("runs", code=3), "it must say what to do when aiosd does not run"
    up = op.json("up", "--port", "0")
    assert up["started"] and up["port"] > 0 and {c["name"] for c in up["changed"]} >= {"hello", "letter", "waiter"}, up
    assert "runs already" in op.aios("up")
    assert op.json("flows")["items"] == [], "up must not deploy"
    done = op.json("deploy")
    assert {c["name"] for c in done["changed"] if c["what"] == "flow"} == {"hello", "letter", "waiter"}, done
    assert op.json("deploy")["changed"] == []
    assert "letter" in op.aios("flows") and "mail.send" in op.aios("flows", "letter")
    assert (op.dir / "aios.d.ts").exists()


def versions(op):
    """A changed source is a new version; a run that is open keeps its own."""
    old = op.start("letter", "--to", "ada@example.org", "--n", "1")
    gate = op.gate(old)
    before = op.json("flows", "letter")["version"]
    (op.dir / "flows/letter.js").write_text(LETTER.replace("VERSION", "two"))
    up = op.json("up")
    assert [c["name"] for c in up["changed"]] == ["letter"] and op.json("flows", "letter")["version"] == before, up
    assert "letter" in op.aios("deploy", "--check") and op.json("flows", "letter")["version"] == before
    op.aios("deploy")
    assert op.json("flows", "letter")["version"] != before
    new = op.start("letter", "--to", "bea@example.org", "--n", "2")
    shown = op.json("gates", gate)
    assert shown["show"]["body"].startswith("one ") and shown["edit"] and shown["allows"]["action"] == "mail.send", shown
    op.aios("approve", gate, "--reason", "reads well")
    end = op.json("show", old, "--wait", "20")
    assert end["state"] == "done" and end["value"]["version"] == "one" and end["version"] == before, end
    return old, new


def decide(op, old, new):
    # Edit and approve: what is approved is what is sent.
    gate = op.gate(new)
    (op.dir / "edit.json").write_text(json.dumps({"body": "two, but better"}))
    assert "Letter 2" in op.aios("approve", gate, "--edit", "edit.json", "--reason", "clearer")
    end = op.json("show", new, "--wait", "20")
    assert end["value"] == {"answer": "edit", "body": "two, but better", "version": "two"}, end
    assert b"two, but better" in mails(op)[-1].read_bytes() or any(b"two, but better" in m.read_bytes() for m in mails(op))
    assert len(mails(op)) == 2, mails(op)
    text = op.aios("show", new)
    for word in ("mail.send", "operator", "clearer", "model.generate", "bea@example.org"):
        assert word in text, f"{word} is not in the timeline:\n{text}"
    assert "decided" in op.aios("deny", gate, code=1)
    # Deny.
    run = op.start("letter", "--to", "cyd@example.org", "--n", "3")
    op.aios("deny", op.gate(run), "--reason", "not today")
    end = op.json("show", run, "--wait", "20", code=0)
    assert end["state"] == "failed" and "not today" in json.dumps(end) and len(mails(op)) == 2, end
    past = op.json("gates", "--state", "decided")["items"]
    assert {g["answer"] for g in past} >= {"approve", "edit", "deny"} and all(g["by"] == "operator" for g in past), past
    runs = op.json("runs", "--flow", "letter")["items"]
    assert [r["run"] for r in runs] == [run, new, old] and "letter" in op.aios("runs", "--state", "failed"), runs
    # Dry: nothing leaves.
    dry = op.json("run", "letter", "--to", "dry@example.org", "--dry", "--detach")["run"]
    end = op.json("show", dry, "--wait", "20")
    step = next(s for s in end["steps"] if s["action"] == "mail.send")
    assert end["state"] == "done" and step["result"]["would_send"]["args"]["to"] == "dry@example.org", end
    assert len(mails(op)) == 2
    # The same key starts one run.
    a, b = (op.json("run", "waiter", "--key", "k1", "--detach")["run"] for _ in range(2))
    assert a == b
    op.aios("signal", a, "go", '{"n": 1}')
    assert op.json("show", a, "--wait", "20")["value"] == {"n": 1}
    c = op.start("waiter")
    op.aios("cancel", c, "--reason", "over")
    assert op.json("show", c, "--wait", "20")["state"] == "cancelled"
    assert "there is no" in op.aios("show", "999", code=1)
    op.aios("resume", c, code=1)
    op.aios("settle", gate, "--send", code=1)


def freeze(op):
    run = op.start("letter", "--to", "eve@example.org")
    gate = op.gate(run)
    op.aios("freeze", "--reason", "lunch")
    assert op.json("status")["frozen"] and "frozen" in op.aios("status")
    op.aios("approve", gate)
    time.sleep(0.5)
    assert len(mails(op)) == 2 and op.json("show", run)["state"] == "active", "something left while frozen"
    op.aios("thaw")
    assert op.json("show", run, "--wait", "20")["state"] == "done" and len(mails(op)) == 3


def memory(op):
    assert op.json("memory", "put", "readers/ada", '{"name": "Ada", "likes": "tides"}', "--source", "by hand")["version"] == 1
    (op.dir / "fact.json").write_text('{"name": "Ada L", "likes": "tides"}')
    assert op.json("memory", "put", "readers/ada", "@fact.json", "--base", "1")["version"] == 2
    assert "version 2" in op.aios("memory", "put", "readers/ada", "1", "--base", "1", code=1)
    assert op.json("memory", "get", "readers/ada")["value"]["name"] == "Ada L"
    op.aios("memory", "put", "readers/bea", "7")
    assert [f["key"] for f in op.json("memory", "list", "readers/")["items"]] == ["readers/ada", "readers/bea"]
    assert len(op.json("memory", "list", "readers/", "--limit", "1")["items"]) == 1
    assert [h["id"] for h in op.json("memory", "search", "tides")["hits"]] == ["readers/ada"]
    history = op.json("memory", "history", "readers/ada")["items"]
    assert [h["version"] for h in history] == [2, 1] and history[1]["source"] == "by hand", history
    for text in (op.aios("memory", "get", "readers/ada"), op.aios("memory", "list"), op.aios("memory", "history", "readers/ada")):
        assert "Ada L" in text, text
    op.aios("memory", "get", "readers/none", code=1)
    op.aios("memory", "put", "a", "{", code=1)


def money(op):
    assert op.json("outcome", "opened", "--value", "2.5", "--customer", "ada@example.org", "--key", "o1")["counted"] is True
    assert op.json("outcome", "opened", "--value", "2.5", "--customer", "ada@example.org", "--key", "o1")["counted"] is False
    for by in ("flow", "model", "customer", "outcome", "run", "day"):
        items = op.json("costs", "--by", by)["items"]
        assert items and op.aios("costs", "--by", by).strip(), by
    by = {i["key"]: i for i in op.json("costs", "--by", "outcome")["items"]}
    assert by["opened"]["count"] == 1 and by["opened"]["value"] == 2500 and by["sent"]["count"] >= 3, by
    assert "local/extract" in op.aios("costs", "--by", "model")
    op.aios("costs", "--by", "nonsense", code=1)


def log(op):
    tail = op.aios("log", "tail", "--limit", "5").strip().splitlines()
    assert len(tail) == 5, tail
    events = [json.loads(line) for line in op.aios("log", "tail", "--after", "0", "--limit", "1000", "--json").splitlines()]
    events = events[0]["items"] if len(events) == 1 and "items" in events[0] else events
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1)), [e["seq"] for e in events]
    p = subprocess.Popen([BIN / "aios", "log", "tail", "-f", "--limit", "1", "--json"], cwd=op.dir, stdout=subprocess.PIPE,
                         text=True)
    time.sleep(0.5)
    op.aios("memory", "put", "followed", "1")
    for line in p.stdout:
        if '"followed"' in line:
            break
    p.kill()
    p.wait()
    v = op.json("log", "verify")
    assert v["ok"] and not v["replayed"], v
    v = op.json("log", "verify", "--replay")
    assert v["ok"] and v["replayed"] and v["live"] == v["folded"], v
    assert op.aios("log", "verify", "--replay").strip()
    live = op.json("views", "dump")
    built = op.json("views", "rebuild")
    assert built["hash"] == live["hash"] and built["rows"] == live["rows"], (built, live)
    op.aios("views", "rebuild")


def request(op, method, path, body=None, headers=None):
    c = http.client.HTTPConnection("127.0.0.1", op.json("status")["port"], timeout=20)
    c.request(method, path, body, headers or {})
    r = c.getresponse()
    text = r.read().decode()
    c.close()
    return r.status, r.headers, text


def keys(op):
    key = op.aios("keys", "add", "ci", "--grant", "api.run_start,api.runs", "--expires", "1h").strip()
    assert re.fullmatch(r"aios_[\w-]{60}", key), key

    def ask(method, path, token=key, body=None):
        return request(op, method, path, body, {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})[0]
    assert ask("GET", "/v1/runs") == 200 and ask("POST", "/v1/flows/waiter/runs", body="{}") == 201
    assert ask("GET", "/v1/flows") == 403 and ask("POST", "/v1/freeze", body="{}") == 403
    found = op.json("keys", "list")["items"]
    assert [k.get("id", k.get("name")) for k in found] == ["key/ci"] and key not in json.dumps(found), found
    assert "choose another name" in op.aios("keys", "add", "ci", "--grant", "api.runs", code=1)
    # The log holds its public half only.
    raw = base64.urlsafe_b64decode(key[5:] + "=")
    everything = b"".join(p.read_bytes() for p in op.dir.rglob(".aios/**/*") if p.is_file())
    assert raw not in everything and key.encode() not in everything, "the key's seed is on the disk"
    op.aios("keys", "revoke", "ci", "--reason", "leaked")
    assert ask("GET", "/v1/runs") == 401
    op.aios("keys", "revoke", "ci", code=1)
    op.aios("keys", "revoke", "none", code=1)
    op.aios("keys", "add", "x", code=2)


def secrets(op):
    op.aios("secrets", "set", "anthropic", "--host", "api.anthropic.com", stdin=SECRET + "\n")
    items = op.json("secrets", "list")["items"]
    assert [(s["name"], s["host"]) for s in items] == [("anthropic", "api.anthropic.com")] and SECRET not in json.dumps(items)
    wanted = [SECRET.encode(), base64.b64encode(SECRET.encode())[:-4], SECRET.encode().hex().encode()]
    for p in [*op.dir.rglob("*"), *op.dir.rglob(".aios/**/*")]:
        if p.is_file():
            data = p.read_bytes()
            assert not any(w in data for w in wanted), f"the secret stands in {p}"
    key = [p for p in (op.dir / ".aios/vault").iterdir() if p.stat().st_size <= 64]
    assert key and all(p.stat().st_mode & 0o077 == 0 for p in (op.dir / ".aios/vault").iterdir()), key
    op.aios("secrets", "remove", "anthropic")
    assert op.json("secrets", "list")["items"] == []
    op.aios("secrets", "remove", "anthropic", code=1)
    op.aios("secrets", "set", "x", stdin="v", code=2)
    op.aios("secrets", "set", "x", "--host", "h.example", "--action", "mail.*", stdin="", code=1)


def page(op):
    run = op.start("letter", "--to", "fay@example.org", "--n", "9")
    gate = op.gate(run)
    url = op.json("open", "--print")["url"]
    path = url[url.index("/", 8):]
    assert request(op, "GET", "/")[0] == 401
    assert request(op, "GET", path)[0] == 200, "a link only shows what it is for"
    where, _, token = path.partition("?")
    sender = {"Origin": f"http://127.0.0.1:{op.json('status')['port']}", "Content-Type": "application/x-www-form-urlencoded"}
    status, head, _ = request(op, "POST", where, token, sender)
    assert status == 303 and head["Location"] == "/", (status, head)
    cookie = head["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie, cookie
    assert request(op, "POST", where, token, sender)[0] == 403, "a link must work once"
    me = {"Cookie": cookie.split(";")[0]}
    status, head, text = request(op, "GET", "/", headers=me)
    assert status == 200 and "Letter 9" in text and "<script" not in text and "default-src" in head["Content-Security-Policy"], text
    status, _, text = request(op, "GET", f"/gates/{gate}", headers=me)
    fields = {k: html.unescape(v) for k, v in re.findall(r'name="(csrf|shown)" value="([^"]*)"', text)}
    assert status == 200 and set(fields) == {"csrf", "shown"} and "moon" in text, text
    assert request(op, "GET", f"/runs/{run}", headers=me)[0] == 200
    port = op.json("status")["port"]
    here = {**me, "Origin": f"http://127.0.0.1:{port}", "Content-Type": "application/x-www-form-urlencoded"}

    def post(headers, **form):
        return request(op, "POST", f"/gates/{gate}", urllib.parse.urlencode(form), headers)
    good = {**fields, "answer": "approve", "reason": "from the page"}
    assert post(here, **{**good, "csrf": "0" * 64})[0] == 403, "a wrong token must be refused"
    assert post(here, **{k: v for k, v in good.items() if k != "csrf"})[0] == 403
    assert post({**here, "Origin": "http://evil.example"}, **good)[0] == 403
    assert post({k: v for k, v in here.items() if k != "Origin"}, **good)[0] == 403
    assert post({**here, "Cookie": "aios_session=" + "A" * 43}, **good)[0] == 401
    assert op.json("gates", gate)["state"] == "open"
    status, _, text = post(here, **good)
    assert status in (200, 303), (status, text)
    end = op.json("show", run, "--wait", "20")
    assert end["state"] == "done" and end["gates"][0]["reason"] == "from the page", end
    assert post(here, **good)[0] == 409


def machine(op):
    assert op.json("version")["aios"] and "aios" in op.aios("version")
    doctor = op.json("doctor")
    assert doctor and op.aios("doctor").strip()
    for shell, word in (("bash", "complete"), ("zsh", "bashcompinit"), ("fish", "complete")):
        text = op.aios("completion", shell)
        assert word in text and "memory" in text, shell
    op.aios("completion", "tcsh", code=2)
    names = re.findall(r"^  ([a-z]+(?: [a-z]+)?)(?: [A-Z\[].*?)?   ", op.aios("--help"), re.M)
    assert len(names) > 30, names
    for name in names:
        words = name.split()
        text = op.aios(*words, "--help")
        assert "usage: aios " + " ".join(words) in text.lower(), (words, text)
    op.aios("nonsense", code=2)
    op.aios("runs", "--nonsense", code=2)
    op.aios(code=2, *["approve"])
    op.aios("run", "hello", "--input", "{", "--detach", code=1)


def end(op):
    assert op.json("down")["stopped"] is True
    assert op.json("down")["stopped"] is False
    up = op.json("up", "--port", "0")
    assert up["started"] and up["changed"] == [], up
    assert op.json("log", "verify", "--replay")["ok"]
    op.aios("down")


def main():
    with tempfile.TemporaryDirectory(prefix="aios-day-") as folder:
        op = Operator(pathlib.Path(folder) / "day")
        try:
            begin(op)
            old, new = versions(op)
            decide(op, old, new)
            for part in (freeze, memory, money, log, keys, secrets, page, machine, end):
                part(op)
                print(f"{part.__name__}: ok", flush=True)
        except BaseException:
            log_file = op.dir / ".aios/run/aiosd.log"
            sys.stderr.write(log_file.read_text()[-3000:] if log_file.exists() else "")
            subprocess.run([BIN / "aios", "-C", op.dir, "down"], capture_output=True)
            raise
    print("ok")


if __name__ == "__main__":
    main()
