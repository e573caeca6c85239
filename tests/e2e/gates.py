#!/usr/bin/env python3
"""Gates as their people meet them: announcements by mail, ntfy, Telegram and webhook (signature checked), one-time links on a
phone, several approvers, delegation, batches, races: everything through the real aiosd and real HTTP."""
import base64
import hashlib
import hmac
import html
import http.client
import http.server
import json
import pathlib
import re
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import Aios, Problem, until  # noqa: E402

HOOK = b"a secret of the receiver, long enough"
TOKEN = "tk_the_phone"
BOT = "123456:AAbot-token_x"

FLOW = """
import { flow } from "aios";
export default flow({ name: "asks", grants: ["gate.ask", "file.write", "file.read"] }, async (ctx, input) => {
  if (input.write) {
    await ctx.call("file.write", { path: input.write, text: input.text ?? "hello" });
    return "written";
  }
  const { answer, by, value } = await ctx.approve({ title: input.title ?? "May it?", show: input.show ?? { text: "CONTENT" },
    ...input.how });
  return { answer, by, value };
});
"""
POLICY = 'rules: [{ name: files need a person, on: "file.*", then: gate }]\n'


class World:
    """Stands in for ntfy, a Telegram bot and a receiver of webhooks."""

    def __init__(self):
        self.got, self.fail, self.lock = [], {}, threading.Lock()
        world = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with world.lock:
                    world.got.append((self.path, dict(self.headers), body))
                    left = world.fail.get(self.path, [])
                    status = left.pop(0) if left else 200
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def at(self, path):
        with self.lock:
            return [(h, b) for p, h, b in self.got if p == path]

    def clear(self):
        with self.lock:
            self.got.clear()


def config(world, more=""):
    url = f"http://127.0.0.1:{world.port}"
    return f"""
name: Gates
mail: {{ from: "a@example.org", transport: maildir, maildir: files/outbox }}
notify:
  base: "http://localhost:7717"
  channels:
    phone: {{ kind: ntfy, url: "{url}/", topic: aios, secret: ntfy }}
    bot: {{ kind: telegram, url: "{url}", chat: "42", secret: bot }}
    hook: {{ kind: webhook, url: "{url}/hook", secret: hook }}
    post: {{ kind: mail, address: "ada@example.org", show: nothing }}
    anna: {{ kind: webhook, url: "{url}/anna", secret: hook, to: key/anna }}
{more}
"""


def secrets(a):
    for name, value in (("ntfy", TOKEN), ("bot", BOT), ("hook", HOOK.decode())):
        a.cli("secrets", "set", name, "--host", "127.0.0.1", "--action", "notify.post", input=value + "\n")


def start(a, **inputs):
    return a.post("/v1/flows/asks/runs", {"input": inputs})["run"]


def gate_of(a, run):
    return until(lambda: next((g for g in a.get("/v1/gates")["items"] if g["run"] == run), None), 20, what="the gate")


def link_of(world, gate):
    """The link that the phone was told for this gate; what is told late of others is not it."""
    def told():
        return next((m for m in (json.loads(b) for _, b in world.at("/")) if m["title"].startswith(f"Gate {gate}:")), None)
    return link_in(until(told, 20, what="the phone hears of the gate")["click"])


def ended(a, run):
    a.get(f"/v1/runs/{run}?wait=20")
    return a.get(f"/v1/runs/{run}/value")


def tcp(a, method, path, form=None, headers=None):
    """As a browser: (status, headers, text)."""
    c = http.client.HTTPConnection("127.0.0.1", a.port, timeout=30)
    try:
        head = {"Content-Type": "application/x-www-form-urlencoded"} if form is not None else {}
        c.request(method, path, form, {**head, **(headers or {})})
        r = c.getresponse()
        return r.status, dict(r.getheaders()), r.read().decode()
    finally:
        c.close()


def link_in(text):
    return re.search(r"http://localhost:7717(/l/[A-Za-z0-9_-]+)", text)[1]


def mails(a):
    return [p.read_text() for p in (a.dir / "files/outbox/new").glob("*")] if (a.dir / "files/outbox/new").exists() else []


def announced(a, world):
    """Every channel hears of the gate, once, with what it may hear and no more; its outcome stands on the gate."""
    run = start(a, title="Pay the printer?\r\nX-Evil: 1", show={"text": "CONTENT of the gate"})
    gate = gate_of(a, run)["gate"]
    until(lambda: {x["channel"]: x["state"] for x in a.get(f"/v1/gates/{gate}")["announced"]} ==
          {"phone": "told", "bot": "told", "hook": "told", "post": "told"}, 30, what="all channels")
    (head, body), = world.at("/")
    phone = json.loads(body)
    assert head["Authorization"] == f"Bearer {TOKEN}" and phone["topic"] == "aios", (head, phone)
    assert phone["title"] == f"Gate {gate}: Pay the printer?  X-Evil: 1" and phone["click"].startswith("http://localhost:7717/l/")
    (_, body), = world.at(f"/bot{BOT}/sendMessage")
    bot = json.loads(body)
    assert bot["chat_id"] == "42" and bot["link_preview_options"] == {"is_disabled": True} and "Pay the printer" in bot["text"]
    (head, body), = world.at("/hook")
    stamp, mid = head["webhook-timestamp"], head["webhook-id"]
    want = base64.b64encode(hmac.new(HOOK, f"{mid}.{stamp}.".encode() + body, hashlib.sha256).digest()).decode()
    assert head["webhook-signature"] == f"v1,{want}", head
    assert abs(int(stamp) - time.time()) < 300 and mid == f"gate_{gate}_{json.loads(body)['data'].get('nth', mid.split('_')[2])}"
    mail, = mails(a)
    assert "Pay the printer" not in mail and "http://localhost:7717/l/" in mail.replace("=\n", ""), mail
    assert not world.at("/anna"), "anna may not decide it and hears nothing"
    for text in (json.dumps([phone, bot]), body.decode(), mail):
        assert "CONTENT" not in text, "an announcement holds nothing of what is shown"
    for text in (json.dumps(a.get("/v1/events?limit=1000")), a.log()):
        assert TOKEN not in text and BOT not in text and HOOK.decode() not in text, "a secret stands in an event or a log"
    return gate, link_in(phone["click"])


def links(a, gate, path):
    """A link shows, and decides once: not by GET or HEAD, not with another hash, not another gate."""
    for method in ("GET", "HEAD", "GET"):
        status, head, text = tcp(a, method, path)
        assert status == 200 and head["Cache-Control"] == "no-store", (status, head)
    assert "CONTENT of the gate" in text and "<script" not in text and f'action="{path}"' in text
    assert "/runs/" not in text and 'href="/gates' not in text, "it leads nowhere else"
    assert a.get(f"/v1/gates/{gate}")["state"] == "open", "looking decides nothing"
    shown = re.search(r'name="shown" value="([0-9a-f]{64})"', text)[1]
    other = gate_of(a, start(a, title="another"))
    bad = ["/l/x", "/l/" + "A" * 200, path[:-2] + ("AA" if not path.endswith("AA") else "BB"), path + "A", path[:40]]
    want = tcp(a, "GET", bad[0])
    for one in bad:
        got = tcp(a, "GET", one)
        assert (got[0], got[2]) == (want[0], want[2]) and got[0] == 404, (one, got[0], got[2][:200])
        assert tcp(a, "POST", one, f"answer=approve&shown={shown}")[0] == 404
    assert tcp(a, "POST", path, f"answer=approve&shown={other['shown']}")[0] == 409, "bound to what was shown"
    assert tcp(a, "POST", path, "answer=approve")[0] == 400
    assert tcp(a, "POST", path, f"answer=approve&shown={shown}", {"Origin": "https://evil.example"})[0] == 403
    assert tcp(a, "POST", path, f"answer=approve&shown={shown}", {"Sec-Fetch-Site": "cross-site"})[0] == 403
    # The token opens nothing else.
    token = path.split("/l/")[1]
    for where in ("/", "/v1/gates", f"/v1/gates/{other['gate']}"):
        assert tcp(a, "GET", where, headers={"Authorization": f"Bearer {token}"})[0] == 401
        assert tcp(a, "GET", where, headers={"Cookie": f"aios_session={token}"})[0] == 401
    status, _, text = tcp(a, "POST", path, f"answer=approve&shown={shown}&reason=from+the+phone&gate={other['gate']}",
                          {"Origin": f"http://127.0.0.1:{a.port}", "Sec-Fetch-Site": "same-origin"})
    assert status == 200 and "recorded" in text, (status, text)
    assert a.get(f"/v1/gates/{other['gate']}")["state"] == "open"
    end = until(lambda: [g for g in a.get("/v1/gates?state=decided")["items"] if g["gate"] == gate], 20)[0]
    assert end["by"] == "operator" and end["reason"] == "from the phone", end
    for method, form in (("GET", None), ("POST", f"answer=deny&shown={shown}")):
        got = tcp(a, method, path, form)
        assert got[0] == 404 and got[2] == want[2], "used: the same answer as one that never was"


def rotated(a, world):
    """After a rotation no link of before counts; the key's file is the operator's alone."""
    world.clear()
    run = start(a, title="rotate")
    path = link_of(world, gate_of(a, run)["gate"])
    assert tcp(a, "GET", path)[0] == 200
    assert (a.dir / ".aios/link.key").stat().st_mode & 0o777 == 0o600
    a.cli("links", "rotate")
    assert tcp(a, "GET", path)[0] == 404
    assert (a.dir / ".aios/link.key").stat().st_mode & 0o777 == 0o600


def failing(a, world):
    """A channel that fails for good says so on the gate; one that fails for a moment is asked again."""
    world.clear()
    world.fail = {"/": [503, 200], "/hook": [404]}
    run = start(a, title="failing")
    gate = gate_of(a, run)["gate"]
    seen = until(lambda: (lambda g: g if all(x["state"] != "sent" for x in g) and len(g) == 4 else None)(
        a.get(f"/v1/gates/{gate}")["announced"]), 60, what="the outcomes")
    by = {x["channel"]: x for x in seen}
    assert by["phone"]["state"] == "told" and len(world.at("/")) == 2, by
    assert by["hook"]["state"] == "failed" and "404" in by["hook"]["problem"], by
    ids = {h["webhook-id"] for h, _ in world.at("/hook")}
    assert len(ids) == 1
    left = a.get("/v1/status")["announcements_failed"]
    assert left[0]["gate"] == gate and left[0]["channel"] == "hook", left
    assert f"gate {gate} was not announced" in a.cli("status").stdout


def killed(a, world):
    """What was announced and not reported is told again after a crash, with the same id; nothing is told of what is decided."""
    world.clear()
    world.fail = {"/hook": [503] * 3}
    run = start(a, title="killed")
    gate = gate_of(a, run)["gate"]
    until(lambda: world.at("/hook"), 20)
    a.kill()
    a.start()
    until(lambda: {x["channel"]: x["state"] for x in a.get(f"/v1/gates/{gate}")["announced"]}.get("hook") == "told", 60)
    assert len({h["webhook-id"] for h, _ in world.at("/hook")}) == 1
    g = a.get(f"/v1/gates/{gate}")
    a.post(f"/v1/gates/{gate}/deny", {"shown": g["shown"]})


def signed(a, world):
    """A question that needs a signature: not by a link, not by a key; in the operator's shell."""
    world.clear()
    run = start(a, title="sign", how={"sign": True})
    g = gate_of(a, run)
    path = link_of(world, g["gate"])
    assert "signature" in tcp(a, "GET", path)[2].lower()
    assert tcp(a, "POST", path, f"answer=approve&shown={g['shown']}")[0] == 403
    shown = a.get(f"/v1/gates/{g['gate']}")
    assert len(shown["challenge"]) == 43 and shown["rp_id"] == "localhost", shown
    for bad in ({}, {"id": "AAAA", "client_data": "e30", "authenticator_data": "AA", "signature": "AA"}):
        try:
            a.post(f"/v1/gates/{g['gate']}/approve", {"shown": g["shown"], "assertion": bad})
            raise AssertionError("a signature of nobody was taken")
        except Problem as p:
            assert p.status == 403 and p.body["code"] == "signature", p
    assert a.get(f"/v1/gates/{g['gate']}")["state"] == "open"
    a.cli("approve", str(g["gate"]))
    assert ended(a, run)["state"] == "done"


def person(a, name, grants=("api.gates", "api.gate", "api.gate_approve", "api.gate_deny", "api.gate_delegate", "api.gates_decide")):
    return {"Authorization": "Bearer " + a.post("/v1/keys", {"name": name, "grants": list(grants)})["key"]}


def as_key(a, key, method, path, body=None):
    c = http.client.HTTPConnection("127.0.0.1", a.port, timeout=30)
    try:
        c.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json", **key})
        r = c.getresponse()
        text = r.read().decode()
        return r.status, json.loads(text) if text else None
    finally:
        c.close()


def several(a, world, anna, bob):
    """Two of three; who asked has no vote; a link votes once; what a key may not is refused."""
    world.clear()
    run = start(a, title="both", how={"approvers": ["key/anna", "key/bob"], "need": 2})
    g = gate_of(a, run)
    (_, body), = until(lambda: world.at("/anna"), 20, what="anna's announcement")
    path = link_in(json.loads(body)["data"]["link"])
    shown = {"shown": g["shown"]}
    status, text = tcp(a, "GET", path)[::2]
    assert status == 200 and "Must agree" in text
    assert tcp(a, "POST", path, f"answer=approve&shown={g['shown']}")[0] == 200
    assert tcp(a, "GET", path)[0] == 404, "a link votes once"
    assert as_key(a, anna, "POST", f"/v1/gates/{g['gate']}/approve", shown)[0] == 409
    now = a.get(f"/v1/gates/{g['gate']}")
    assert now["votes"][0]["by"] == "key/anna" and now["need"] == 2 and now["state"] == "open", now
    status, answer = as_key(a, bob, "POST", f"/v1/gates/{g['gate']}/approve", shown)
    assert status == 200, answer
    assert ended(a, run)["value"]["by"] == "key/bob"
    history = until(lambda: a.get(f"/v1/runs/{run}")["gates"][0]["history"], 10)
    assert {"announced", "told", "voted"} <= {h["what"] for h in history}, history
    assert "voted key/anna approve" in a.cli("show", str(run)).stdout
    run = start(a, title="mine", how={"approvers": "key/anna"})
    g = gate_of(a, run)
    mine = as_key(a, anna, "GET", "/v1/gates?mine=1")[1]["items"]
    assert [x["gate"] for x in mine] == [g["gate"]], mine
    assert as_key(a, bob, "POST", f"/v1/gates/{g['gate']}/approve", {"shown": g["shown"]})[0] == 403
    assert as_key(a, anna, "POST", f"/v1/gates/{g['gate']}/delegate", {"to": "key/bob"})[0] == 200
    assert as_key(a, anna, "POST", f"/v1/gates/{g['gate']}/approve", {"shown": g["shown"]})[0] == 403
    assert as_key(a, bob, "POST", f"/v1/gates/{g['gate']}/approve", {"shown": g["shown"]})[0] == 200
    assert ended(a, run)["value"]["by"] == "key/bob"


def batch(a, bob):
    """Each on its own: one that is wrong does not stop the others."""
    gates = [gate_of(a, start(a, title=f"b{i}", show=i, how={"approvers": "key/bob"})) for i in range(3)]
    items = [{"gate": g["gate"], "shown": g["shown"], "answer": "approve"} for g in gates]
    items[1]["shown"] = items[0]["shown"]
    items.append({"gate": 9999, "shown": items[0]["shown"], "answer": "deny"})
    status, got = as_key(a, bob, "POST", "/v1/gates/decide", {"items": items})
    assert status == 200 and [x["status"] for x in got["items"]] == [200, 409, 200, 404], got
    assert a.get(f"/v1/gates/{gates[1]['gate']}")["state"] == "open"
    assert as_key(a, bob, "POST", "/v1/gates/decide", {"items": [{}] * 201})[0] == 400
    weak = person(a, "weak", ["api.gates_decide"])
    status, got = as_key(a, weak, "POST", "/v1/gates/decide", {"items": [{"gate": gates[1]["gate"], "shown": gates[1]["shown"],
                                                                         "answer": "approve"}]})
    assert got["items"][0]["status"] == 403, got


def by_shell(a):
    """aios approve 3 4 5; --all shows first and acts only with --yes; delegate; --mine."""
    ids = [str(gate_of(a, start(a, title=f"cli{i}", show=f"c{i}"))["gate"]) for i in range(3)]
    out = a.cli("approve", *ids[:2], "--reason", "both").stdout
    assert all(f"gate {i}: approve" in out for i in ids[:2]), out
    again = a.cli("approve", *ids[:2], check=False)
    assert again.returncode != 0 and "decided" in again.stdout + again.stderr, again
    out = a.cli("deny", "--all", "--flow", "asks").stdout
    assert "nothing was decided" in out and a.get(f"/v1/gates/{ids[2]}")["state"] == "open", out
    assert "nothing waits" in a.cli("approve", "--all", "--flow", "nowhere", "--yes").stdout
    out = a.cli("delegate", ids[2], "key/anna", "--reason", "you know it").stdout
    assert "key/anna" in out and "key/anna" in a.cli("gates", ids[2]).stdout
    assert ids[2] in a.cli("gates", "--mine").stdout
    a.cli("deny", "--all", "--yes")
    assert a.get("/v1/gates?mine=1")["items"] == []
    assert a.cli("approve", check=False).returncode != 0


def fault_42_approval_race(a, world, bob):
    """100 answers at once, by session, key and link, approvals and denials: one wins, one effect."""
    for round_ in range(3):
        world.clear()
        run = start(a, write=f"race{round_}.txt")
        g = gate_of(a, run)
        path = link_of(world, g["gate"])
        shown, results, go = g["shown"], [], threading.Barrier(100)

        def one(i):
            go.wait()
            if i % 3 == 0:
                results.append(tcp(a, "POST", path, f"answer={'deny' if i % 2 else 'approve'}&shown={shown}")[0])
                return
            try:
                a.post(f"/v1/gates/{g['gate']}/{'deny' if i % 2 else 'approve'}", {"shown": shown}, timeout=60)
                results.append(200)
            except Problem as p:
                results.append(p.status)

        threads = [threading.Thread(target=one, args=(i,)) for i in range(100)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert results.count(200) == 1 and set(results) <= {200, 404, 409, 429}, sorted(results)
        end = ended(a, run)
        events = [e for e in a.get("/v1/events?limit=5000")["items"] if e.get("gate") == g["gate"] and e["type"] == "gate.decided"]
        assert len(events) == 1, events
        assert (a.dir / f"files/race{round_}.txt").exists() == (end["state"] == "done"), end


def locked(a, world):
    """The vault's own gate is told by the channels that need no secret; those that need one hear of it when the vault opens,
    and nothing is given up."""
    passphrase = "correct horse battery staple"
    a.cli("vault", "key", "passphrase", input=passphrase + "\n")
    a.cli("vault", "lock")
    world.clear()
    run = start(a, title="while it is locked")
    gate = gate_of(a, run)["gate"]

    def told():
        return {x["channel"]: x["state"] for x in a.get(f"/v1/gates/{gate}")["announced"]}
    until(lambda: told().get("post") == "told", 20, what="the mail, which needs no secret")
    time.sleep(1)
    assert {told()[x] for x in ("phone", "bot", "hook")} == {"sent"} and not world.got, (told(), world.got)
    a.cli("vault", "unlock", input=passphrase + "\n")
    until(lambda: set(told().values()) == {"told"}, 30, what="the others, when it is open")
    assert len(world.at("/")) == 1 and len(world.at("/hook")) == 1, world.got
    a.post(f"/v1/gates/{gate}/deny", {"shown": a.get(f"/v1/gates/{gate}")["shown"]})
    a.cli("vault", "key", "file")


def alarm(a, world):
    """A canary freezes everything that goes out, but not its own alarm; after a thaw the next one is told anew."""
    fake = a.cli("secrets", "canary", "bait").stdout.strip()
    seen = set()
    for way in ("a file", "an announcement"):
        world.clear()
        if way == "a file":
            run = a.post("/v1/flows/asks/runs", {"input": {"write": "bait.txt", "text": "here: " + fake}})["run"]
            g = gate_of(a, run)
            a.post(f"/v1/gates/{g['gate']}/approve", {"shown": g["shown"]})
        else:
            run = start(a, title="look: " + fake)
        until(lambda: any(b"ALARM" in body for _, body in world.at("/")), 30, what="the alarm of " + way)
        assert a.get("/v1/status")["frozen"]
        assert not any(fake.encode() in body for _, _, body in world.got), way
        alarms = {g["gate"] for g in a.get("/v1/gates")["items"] if g["kind"] == "canary"}
        assert alarms - seen, "each that freezes anew is told anew"
        seen = alarms
        a.post("/v1/thaw", {"reason": "test"})
    for g in seen:
        a.post(f"/v1/gates/{g}/approve", {"shown": a.get(f"/v1/gates/{g}")["shown"]})
    a.post(f"/v1/runs/{run}/cancel", {})
    a.cli("secrets", "remove", "bait")


def proposals(a):
    """After a decision a rule is proposed; nothing applies it; pasted into policy.yaml it answers the same again, and no more."""
    run = start(a, write="once.txt", text="the same")
    g = gate_of(a, run)
    a.post(f"/v1/gates/{g['gate']}/approve", {"shown": g["shown"]})
    assert ended(a, run)["state"] == "done"
    again = gate_of(a, start(a, write="once.txt", text="the same"))
    a.post(f"/v1/gates/{again['gate']}/deny", {"shown": again["shown"]})
    ids = [p["proposal"] for p in json.loads(a.cli("proposals", "--json").stdout)["items"]]
    assert g["gate"] in ids and str(g["gate"]) in a.cli("proposals").stdout, ids
    text = a.cli("proposals", "show", str(g["gate"])).stdout
    (a.dir / "policy.yaml").write_text("rules:\n" + text)
    a.deploy()
    run = start(a, write="once.txt", text="the same")
    assert ended(a, run)["state"] == "done", "the proposed rule answers it"
    other = gate_of(a, start(a, write="another.txt", text="the same"))
    a.post(f"/v1/gates/{other['gate']}/deny", {"shown": other["shown"]})
    a.cli("proposals", "taken", str(g["gate"]))
    assert a.cli("proposals", "drop", str(g["gate"]), check=False).returncode != 0
    (a.dir / "policy.yaml").write_text(POLICY)
    a.deploy()


def main():
    world = World()
    with Aios({"aios.yaml": config(world), "policy.yaml": POLICY, "flows/asks.js": FLOW}) as a:
        (a.dir / "files").mkdir(parents=True, exist_ok=True)
        a.start()
        a.deploy()
        secrets(a)
        gate, path = announced(a, world)
        links(a, gate, path)
        rotated(a, world)
        failing(a, world)
        killed(a, world)
        signed(a, world)
        locked(a, world)
        anna, bob = person(a, "anna"), person(a, "bob")
        several(a, world, anna, bob)
        batch(a, bob)
        by_shell(a)
        proposals(a)
        fault_42_approval_race(a, world, bob)
        alarm(a, world)
    world.server.shutdown()
    print("gates: announcements, links, votes, batches and races: as they should be")


if __name__ == "__main__":
    main()
