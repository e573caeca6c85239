#!/usr/bin/env python3
"""What announcements of gates hold back, and how they go by a mail server that is not ours; whose a link is; links that are
guessed."""
import email
import email.policy
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
from aios import Aios, Problem, until  # noqa: E402
from gates import HOOK, World, gate_of, link_in, person, start, tcp  # noqa: E402
from newsletter_outside import MODULES, Process, smtp_server  # noqa: E402

PASSWORD = "mail-pass-of-the-gates"
FLOW = """
import { flow } from "aios";
export default flow({ name: "asks", grants: ["gate.ask", "memory.get"] }, async (ctx, input) => {
  if (input.about) await ctx.memory.get(`customers/${input.about}`);
  const { answer } = await ctx.approve({ title: input.title, show: { text: "CONTENT" }, ...input.how });
  return answer;
});
"""


def config(world, mail):
    url = f"http://127.0.0.1:{world.port}"
    return f"""
name: Told
labels: {{ private: ["customers/"] }}
{mail}
notify:
  base: "http://localhost:7717"
  channels:
    hook: {{ kind: webhook, url: "{url}/hook", secret: hook }}
    safe: {{ kind: webhook, url: "{url}/safe", secret: hook, private: true }}
    post: {{ kind: mail, address: "ada@example.org" }}
    anna: {{ kind: webhook, url: "{url}/anna", secret: hook, to: key/anna }}
"""


def told(a, gate):
    def all_told():
        g = a.get(f"/v1/gates/{gate}")["announced"]
        return g if g and all(x["state"] != "sent" for x in g) else None
    return {x["channel"]: x for x in until(all_told, 40, what="the outcomes")}


def mails(log):
    lines = log.read_text().splitlines() if log.exists() else []
    return [(m["from"], m["to"], email.message_from_bytes(m["data"].encode("latin1"), policy=email.policy.default))
            for m in map(json.loads, lines)]


def by_mail(a, log):
    """Through a server with a login from the vault; the password stands nowhere."""
    gate = gate_of(a, start(a, title="Pay the printer?"))["gate"]
    by = told(a, gate)
    assert by["post"]["state"] == "told", by
    (sender, to, letter), = mails(log)
    assert (sender, to) == ("aios@example.org", ["ada@example.org"]) and letter["To"] == "ada@example.org", (sender, to)
    text = letter.get_body().get_content()
    assert letter["Subject"] == f"Gate {gate}: Pay the printer?", letter["Subject"]
    assert link_in(text) and "CONTENT" not in text, text
    for kept in (json.dumps(a.get("/v1/events?limit=1000")), json.dumps(a.get(f"/v1/gates/{gate}")), a.log()):
        assert PASSWORD not in kept and link_in(text) not in kept, "a secret or a link stands in an event or a log"


def private(a, world, log):
    """The title of a question about private data is told to nobody but the channel that may hear it."""
    world.clear()
    gate = gate_of(a, start(a, title="Anna has the flu: pay?", about="anna"))["gate"]
    assert all(x["state"] == "told" for x in told(a, gate).values())
    hook, safe = (world.at(p)[-1][1].decode() for p in ("/hook", "/safe"))
    post = mails(log)[-1][2].as_string() if log else ""
    for text in (hook, post):
        assert "flu" not in text and "Anna" not in text, text
    assert f"Gate {gate} waits for you" in hook and "Anna has the flu" in safe, (hook, safe)
    assert not log or f"Gate {gate} waits for you" in mails(log)[-1][2]["Subject"]


def whose(a, world):
    """A link speaks for its approver: not for one who is revoked, and nobody else gets the name of one who was."""
    world.clear()
    person(a, "anna")
    g = gate_of(a, start(a, title="both", how={"approvers": ["key/anna"], "need": 1}))

    def told_to_anna():
        return next((link_in(json.loads(b)["data"]["link"]) for _, b in world.at("/anna")), None)
    path = until(told_to_anna, 20, what="anna's link")
    assert tcp(a, "GET", path)[0] == 200
    a.post("/v1/keys/anna/revoke")
    gone = tcp(a, "GET", path)
    assert gone[0] == 404 and gone[2] == tcp(a, "GET", "/l/x")[2]
    try:
        person(a, "anna")
        raise AssertionError("another anna")
    except Problem as p:
        assert p.status == 409, p
    assert tcp(a, "POST", path, f"answer=approve&shown={g['shown']}")[0] == 404
    assert a.get(f"/v1/gates/{g['gate']}")["state"] == "open"


def guessed(a, world):
    """Who guesses is slowed down, and told nothing else; a link that is good goes on working."""
    world.clear()
    gate_of(a, start(a, title="still there"))
    path = link_in(json.loads(until(lambda: world.at("/hook"), 20)[0][1])["data"]["link"])
    seen = {}
    for i in range(200):
        status, head, text = tcp(a, "GET", path[:-3] + f"{i:03d}")
        seen.setdefault(status, set()).add(text)
        if status == 429:
            assert int(head["Retry-After"]) > 0, head
        else:
            assert status == 404, status
    assert 429 in seen and all(len(texts) == 1 for texts in seen.values()), {s: len(t) for s, t in seen.items()}
    assert tcp(a, "GET", path)[0] == 200


def main():
    server, world = smtp_server(), World()
    with tempfile.TemporaryDirectory() as t:
        log = pathlib.Path(t) / "smtp.jsonl" if server else None
        smtp = Process("node", server, "--modules", MODULES, "--log", log, "--auth", f"ada:{PASSWORD}") if server else None
        mail = (f'mail: {{ from: "aios@example.org", transport: smtp, smtp: {{ url: "smtp://127.0.0.1:{smtp.port}", user: ada, '
                'secret: smtp, tls: none } }' if server else
                'mail: { from: "aios@example.org", transport: maildir, maildir: files/outbox }')
        with Aios({"aios.yaml": config(world, mail), "policy.yaml": "rules: []\n", "flows/asks.js": FLOW}) as a:
            (a.dir / "files").mkdir(parents=True, exist_ok=True)
            a.start()
            a.deploy()
            a.cli("secrets", "set", "hook", "--host", "127.0.0.1", "--action", "notify.post", input=HOOK.decode() + "\n")
            if server:
                a.cli("secrets", "set", "smtp", "--host", "127.0.0.1", "--action", "mail.send", input=PASSWORD + "\n")
            a.ask("PUT", "/v1/memory/facts/customers/anna", {"value": {"ill": True}})
            if server:
                by_mail(a, log)
            private(a, world, log)
            whose(a, world)
            guessed(a, world)
        if smtp:
            smtp.__exit__()
    world.server.shutdown()
    print("gates told: " + ("" if server else "(no mail server here) ") + "private titles, mail, links: as they should be")


if __name__ == "__main__":
    main()
