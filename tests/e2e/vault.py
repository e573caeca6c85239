#!/usr/bin/env python3
"""Secrets: a locked vault holds what needs one at a gate and lets the rest go on; the value of a secret comes back in no form;
rotation with an overlap; canaries; keys that change while everything is killed; nothing of it in logs, events, views, exports,
environments, cores or the memory that others may read."""
import base64
import http.server
import json
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import ROOT, Aios, Problem, until  # noqa: E402

PASSPHRASE = "correct horse battery staple"
KEY = "sk-test-" + "".join(random.Random(7).choice("abcdefghijklmnopqrstuvwxyz0123456789+/=\"&") for _ in range(40))
NEXT = "sk-next-" + "".join(random.Random(8).choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(40))


class Echo(http.server.BaseHTTPRequestHandler):
    """A model that takes some keys and gives back what it was sent: in the text, the headers, errors, streams, in every form,
    and cut into pieces."""
    keys, seen, mode = {KEY}, [], "text"
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def forms(self, key):
        raw = key.encode()
        yield key
        yield json.dumps(key)[1:-1]
        yield urllib.parse.quote(key, safe="")
        yield raw.hex()
        yield raw.hex().upper()
        for before in (b"", b"a", b"ab", b"user:"):
            yield base64.b64encode(before + raw + b"tail").decode()
            yield base64.urlsafe_b64encode(before + raw + b"tail").decode()

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        Echo.seen.append(key)
        told = "hello" if Echo.mode == "quiet" else " | ".join(self.forms(key))
        if key not in Echo.keys:
            return self.answer(401, {"error": {"message": "no such key: " + told}})
        if Echo.mode == "refuse":
            return self.answer(400, {"error": {"message": ("x" * 250) + key + " | " + told}})
        if Echo.mode == "stream":
            return self.stream(told)
        if Echo.mode == "quiet":
            key = "m"
        return self.answer(200, {"id": key, "model": key, "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": told}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1}}, {"X-Echo": base64.b64encode(key.encode()).decode()})

    def answer(self, status, value, head=None):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, text in (head or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def stream(self, told):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for i in range(0, len(told), 3):
            piece = {"model": "m", "choices": [{"index": 0, "delta": {"content": told[i:i + 3]}}]}
            self.wfile.write(f"data: {json.dumps(piece)}\n\n".encode())
        self.wfile.write(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,'
                         b'"completion_tokens":1}}\n\ndata: [DONE]\n\n')
        self.close_connection = True


FLOWS = {
    "flows/ask.js": """import { flow } from "aios";
export default flow({ name: "ask", grants: ["model.generate"] }, async (ctx, input) => {
  const r = await ctx.model({ tier: input.tier ?? "draft", prompt: "Say hello", max_tokens: 50 });
  return { text: r.text };
});
""",
    "flows/plain.js": """import { flow } from "aios";
export default flow({ name: "plain", grants: ["memory.*"] }, async (ctx, input) => {
  await ctx.memory.put("seen", input.n);
  return "ran";
});
""",
    "flows/fetch.js": """import { flow } from "aios";
export default flow({ name: "fetch", grants: ["http.get", "file.*"] }, async (ctx, input) => {
  if (input.read) return await ctx.call("file.read", { path: input.read });
  return await ctx.call("http.get", { url: input.url, headers: input.headers ?? {} });
});
""",
}


def files(port, more=""):
    return {"aios.yaml": f"""name: vault
door: {{ port: 0 }}
http: {{ allow_private: true }}
models:
  providers:
    stand: {{ api: openai, url: "http://127.0.0.1:{port}/v1", secret: stand }}
    flow: {{ api: openai, url: "http://127.0.0.1:{port}/v1", secret: stand, stream: true }}
  tiers: {{ draft: [stand/echo], live: [flow/echo] }}
  prices: {{ stand/echo: {{ input: 1 USD, output: 2 USD }}, flow/echo: {{ input: 1 USD, output: 2 USD }} }}
{more}""", "policy.yaml": 'rules:\n  - { name: all, on: "*", then: allow }\n', **FLOWS}


def state(a):
    return json.loads(a.cli("vault", "status", "--json").stdout)


def gates(a):
    return [g for g in a.get("/v1/gates")["items"] if g["kind"] == "secret"]


def run_of(a, run, *states):
    return until(lambda: (r := a.get(f"/v1/runs/{run}"))["state"] in states and r, 30, what=f"run {run} {states}")


def fault_65_secret_comes_back_in_no_form(a):
    """Whatever a server reflects, and however it cuts it: not in a result, a problem, an event or a view."""
    for mode, tier in (("text", "draft"), ("refuse", "draft"), ("stream", "live")):
        Echo.mode = mode
        r = a.run("ask", {"tier": tier})
        text = json.dumps(r)
        assert "[secret stand]" in text, (mode, r)
        leaks(text, KEY, mode)
    Echo.mode = "text"


def leaks(text, key, where):
    raw = key.encode()
    for form in (key, json.dumps(key)[1:-1], urllib.parse.quote(key, safe=""), raw.hex(), raw.hex().upper()):
        assert form not in text, (where, form)
        assert form[:len(form) // 2 + 1] not in text, (where, "half of", form)
    for before in range(3):
        whole = base64.b64encode(b"x" * before + raw).decode().rstrip("=")
        inner = whole[4:-4]
        assert inner not in text and inner.replace("+", "-").replace("/", "_") not in text, (where, "base64", before)


def rotation(a):
    """The new value beside the old: what does not take the new one yet gets the old one, until the overlap ends."""
    old, Echo.keys = Echo.keys, {KEY}
    a.cli("secrets", "rotate", "stand", "--overlap", "1h", input=NEXT + "\n")
    Echo.seen.clear()
    assert a.run("ask")["state"] == "done"
    assert Echo.seen == [NEXT, KEY], Echo.seen
    Echo.keys = {NEXT}
    Echo.seen.clear()
    assert a.run("ask")["state"] == "done" and Echo.seen == [NEXT], Echo.seen
    listed = json.loads(a.cli("secrets", "list", "--json").stdout)["items"]
    assert listed[0]["old_until_ms"] > time.time() * 1000 and listed[0]["actions"] == "model.*", listed
    a.cli("secrets", "rotate", "stand", "--overlap", "0s", input=KEY + "\n")
    Echo.keys, _ = {NEXT}, Echo.seen.clear()
    r = a.run("ask")
    assert r["state"] == "failed" and Echo.seen == [KEY], (r, Echo.seen)
    leaks(json.dumps(r), KEY, "401")
    Echo.keys = old
    assert a.run("ask")["state"] == "done"


def uses(a):
    """Another host, another action: nothing is released, and the refusal says why."""
    a.cli("secrets", "set", "stand", "--host", "other.example", input=KEY + "\n")
    r = a.run("ask")
    assert r["state"] == "failed" and "not for 127.0.0.1" in json.dumps(r), r
    a.cli("secrets", "set", "stand", "--host", "127.0.0.1", "--action", "mail.*", input=KEY + "\n")
    r = a.run("ask")
    assert r["state"] == "failed" and "not by model.generate" in json.dumps(r), r
    p = a.cli("secrets", "set", "unused", "--host", "h.example", input="v", check=False)
    assert p.returncode and "--action" in p.stderr, p
    a.cli("secrets", "set", "stand", "--host", "other.example,127.0.0.1", "--action", "mail.*,model.generate", input=KEY + "\n")
    assert a.run("ask")["state"] == "done"


def fault_54_ssrf_no_secret_by_redirect(a, port):
    """http.get takes no redirect; an address in disguise is the one that is connected to, and that one is judged (the unit
    tests of connect try each notation)."""
    for url in ("http://0177.0.0.1:%d/", "http://2130706433:%d/", "http://[::ffff:127.0.0.1]:%d/", "http://127.1:%d/"):
        r = a.run("fetch", {"url": url % port})
        assert r["state"] == "done" or "public" in json.dumps(r) or r["state"] == "failed", r
        leaks(json.dumps(r), KEY, url)


def locked(a):
    a.cli("vault", "key", "passphrase", input=PASSPHRASE + "\n")
    assert state(a)["key"] == "passphrase" and state(a)["state"] == "open"
    assert not (a.dir / ".aios/vault/key").exists(), "the key file opens nothing any more and is gone"
    assert a.run("ask")["state"] == "done"
    signing = a.cli("vault", "key", "public").stdout
    a.stop()
    a.start()
    until(lambda: state(a)["state"] == "locked", 20)
    assert a.run("plain", {"n": 1})["result"] == "ran", "the rest goes on"
    waiting = [a.run("ask", wait=0)["run"] for _ in range(5)]
    one = until(lambda: gates(a), 20)
    time.sleep(0.5)
    assert len(gates(a)) == 1 and "aios vault unlock" in one[0]["title"], gates(a)
    assert all(a.get(f"/v1/runs/{r}")["state"] not in ("done", "failed") for r in waiting)
    why = [json.dumps(a.get(f"/v1/runs/{r}/why")) for r in waiting]
    assert any("vault is locked" in w for w in why), why
    p = a.cli("secrets", "list", check=False)
    assert p.returncode and "vault unlock" in p.stderr, p
    try:
        a.post(f"/v1/gates/{one[0]['gate']}/approve", {"shown": one[0]["shown"]})
        raise AssertionError("approved without being opened")
    except Problem as p:
        assert p.status == 422, p
    Echo.seen.clear()
    wrong(a)
    for r in waiting:
        assert run_of(a, r, "done", "failed")["state"] == "done"
    assert len(Echo.seen) == 5 and not gates(a), (Echo.seen, gates(a))
    assert a.cli("vault", "key", "public").stdout == signing, "the signing key outlives every change"
    a.cli("vault", "lock")
    again = a.run("ask", wait=0)["run"]
    until(lambda: gates(a), 20)
    a.cli("vault", "unlock", input=PASSPHRASE + "\n")
    assert run_of(a, again, "done", "failed")["state"] == "done"
    kinds = [(e["locked"], e["by"]) for e in a.events() if e["type"] == "vault.state"]
    assert kinds == [(1, "aios"), (0, "operator"), (1, "operator"), (0, "operator")], kinds


def wrong(a):
    """A wrong passphrase costs Argon2 and then time; the right one opens once that is over."""
    p = a.cli("vault", "unlock", input="wrong passphrase\n", check=False)
    assert p.returncode and "does not open" in p.stderr, p
    p = a.cli("vault", "unlock", input="wrong passphrase\n", check=False)
    assert p.returncode and ("try again in" in p.stderr or "does not open" in p.stderr), p
    until(lambda: a.cli("vault", "unlock", input=PASSPHRASE + "\n", check=False).returncode == 0, 60, 0.5)


def canaries(a, port):
    fake = a.cli("secrets", "canary", "bait").stdout.strip()
    assert fake.startswith("sk-proj-"), fake
    try:
        url = f"http://127.0.0.1:{port}/"
        for text in (f"{url}?k={fake}", f"{url}?k={fake[30:60]}", f"{url}?k=" + base64.b64encode(fake.encode()).decode().rstrip("="),
                     f"{url}?k=" + fake.encode().hex(), f"{url}?k=" + "".join(f"%{ord(c):02x}" for c in fake)):
            Echo.seen.clear()
            before = len([e for e in a.events() if e["type"] == "canary.met"])
            r = a.run("fetch", {"url": text})
            assert r["state"] == "failed" and "canary" in json.dumps(r), r
            met = [e for e in a.events() if e["type"] == "canary.met"]
            assert len(met) == before + 1 and met[-1]["name"] == "bait" and met[-1]["where"] == "arguments", met
            assert a.get("/v1/status")["frozen"], "everything outgoing is frozen"
            a.post("/v1/thaw", {"reason": "test"})
        (a.dir / "files").mkdir(exist_ok=True)
        (a.dir / "files/note.txt").write_text("found: " + fake)
        r = a.run("fetch", {"read": "note.txt"})
        assert r["state"] == "failed" and "canary" in json.dumps(r), r
        assert [e for e in a.events() if e["type"] == "canary.met"][-1]["where"] == "result"
        a.post("/v1/thaw", {"reason": "test"})
        assert "ALARM" in a.log() and fake not in a.log()
        r = a.run("fetch", {"url": url + "?harmless=" + "x" * 5000})
        assert "canary" not in json.dumps(r), r
    finally:
        a.cli("secrets", "remove", "bait")
    r = a.run("fetch", {"url": f"http://127.0.0.1:{port}/?k={fake}"})
    assert "canary" not in json.dumps(r), "removed: it is no canary any more"


def keyring(a):
    """Asked for once: a restart finds the key in the kernel; taken out of there, the passphrase is needed again."""
    p = a.cli("vault", "key", "keyring", input=PASSPHRASE + "\n", check=False)
    if p.returncode:
        assert "keyring" in p.stderr, p
        print("no keyring here: skipped")
        return
    if "could not be put" in state(a).get("why", ""):
        print("the keyring takes no key here: skipped")
        return
    a.stop()
    a.start()
    until(lambda: a.pids().get("aios-vault"), 20)
    assert state(a)["state"] == "open" and a.run("ask")["state"] == "done", state(a)
    a.cli("vault", "lock")
    a.stop()
    a.start()
    until(lambda: state(a)["state"] == "locked", 20)
    assert a.get("/v1/status")["vault_locked"]
    a.cli("vault", "unlock", input=PASSPHRASE + "\n")
    a.cli("vault", "key", "passphrase", input=PASSPHRASE + "\n")


def fault_71_key_change_killed(a):
    """The vault and aiosd are killed at random moments of many changes of keys: afterwards the old key or the new one opens it,
    and every secret is there."""
    rng = random.Random(71)
    for n in range(12):
        kind = ["file", "passphrase"][n % 2]
        started = subprocess.Popen([a.bin / "aios", "-C", a.dir, "vault", *(["key", kind] if n % 3 else ["rotate"])],
                                   stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
        started.stdin.write(PASSPHRASE + "\n")
        started.stdin.close()
        time.sleep(rng.random() * (1.2 if kind == "passphrase" else 0.05))
        vault = a.pids().get("aios-vault")
        if n % 4 == 3:
            a.kill()
            a.start()
        elif vault:
            os.kill(vault, signal.SIGKILL)
        started.wait(30)
        until(lambda: a.pids().get("aios-vault"), 20)
        until(lambda: open_it(a), 60, 0.3, "the vault opens with the old key or the new one")
        assert a.run("ask", wait=60)["state"] == "done", n
    assert json.loads(a.cli("secrets", "list", "--json").stdout)["items"][0]["name"] == "stand"


def open_it(a):
    try:
        if state(a)["state"] == "open":
            return True
    except RuntimeError:
        return False
    return a.cli("vault", "unlock", input=PASSPHRASE + "\n", check=False).returncode == 0


def fault_65_secret_in_log_core_environ_export(a):
    """Grep for the value over everything that is written and everything that can be read of the processes."""
    a.cli("backup", str(a.home / "backup"))
    (a.home / "events.json").write_text(json.dumps(a.events()))
    (a.home / "views.json").write_text(json.dumps(a.get("/v1/views/dump")))
    for value in (KEY, NEXT, PASSPHRASE):
        grep(a.home, value.encode())
    for name, pid in {**a.pids(), "aiosd": a.daemon.pid}.items():
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
        core = [line.split()[4] for line in limits.splitlines() if line.startswith("Max core file size")]
        assert core == ["1"] or core == ["0"], (name, core)
        try:
            environ = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
        except PermissionError:  # not even that, of who is not root
            environ = b""
        for value in (KEY, NEXT, PASSPHRASE):
            assert value.encode() not in environ, name
        # The others hold no secret; a user namespace that a program starts in opens it to whoever made that.
        if name.split()[0] in ("aiosd", "aios-vault", "aios-connect", "aios-door", "aios-pass"):
            dumpable(name, pid)


def grep(folder, needle):
    for path in folder.rglob("*"):
        if path.is_file() and needle in path.read_bytes():
            raise AssertionError(f"{needle[:8]}… stands in {path}")


def dumpable(name, pid):
    """As the same user without more rights: the memory cannot be opened, a debugger cannot attach."""
    probe = f"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
try:
    os.close(os.open("/proc/{pid}/mem", os.O_RDONLY))
    sys.exit("memory")
except PermissionError:
    pass
if libc.ptrace(16, {pid}, 0, 0) == 0:
    sys.exit("ptrace")
"""
    uid = os.stat(f"/proc/{pid}/exe", follow_symlinks=False).st_uid if os.getuid() else 0
    if os.getuid() == 0:  # aiosd is root's: another root without capabilities is what a user is to its own processes
        cmd = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs", sys.executable, "-c", probe]
    else:
        cmd = [sys.executable, "-c", probe]
    p = subprocess.run(cmd, capture_output=True, text=True)
    assert p.returncode == 0, (name, uid, p.stderr)


def unlocked_memory(a):
    """Where the kernel locks no memory, the operator is told: by the log and by the vault's state."""
    told = "the vault's memory is not locked"
    limits = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    assert state(a)["memory_locked"] == (told not in a.log())
    a.stop()
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, limits[1]))
    try:
        a.start()
        sandbox = until(lambda: next((p["sandbox"] for p in a.get("/v1/status")["processes"]
                                      if p["process"] == "aios-vault" and p["state"] == "up"), None), 20)
        if os.geteuid() != 0 or "userns" in sandbox:  # else root's capability locks what it likes
            assert not state(a)["memory_locked"]
            until(lambda: told in a.log(), 20, what="the note")
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, limits)
    a.stop()
    a.start()
    until(lambda: a.cli("secrets", "list", check=False).returncode == 0, 20, what="the vault")


def memory_after_a_call(a):
    """Who may read everything (root): aios-connect has forgotten the value once the call is over."""
    if os.getuid():
        return
    os.kill(a.pids()["aios-connect"], signal.SIGKILL)  # a new one, which has met nobody who sends it back
    Echo.mode = "quiet"
    for _ in range(3):
        assert a.run("ask")["state"] == "done"
    Echo.mode = "text"
    pid = a.pids()["aios-connect"]
    try:
        maps = pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines()
        mem = open(f"/proc/{pid}/mem", "rb", buffering=0)
    except PermissionError:
        return
    with mem:
        for line in maps:
            span, rights = line.split()[:2]
            if not rights.startswith("rw"):
                continue
            start, end = (int(x, 16) for x in span.split("-"))
            try:
                mem.seek(start)
                data = mem.read(end - start)
            except OSError:
                continue
            for needle in (KEY.encode(), KEY.encode()[:24], KEY.encode()[-24:]):
                at = data.find(needle)
                assert at < 0, ("aios-connect still has it", line, data[max(0, at - 200):at + 100])


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    Echo.do_GET = lambda self: self.answer(200, {"ok": True})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    with Aios(files(port)) as a:
        a.start()
        a.deploy()
        a.cli("secrets", "set", "stand", "--host", "127.0.0.1", input=KEY + "\n")
        parts = [lambda: fault_65_secret_comes_back_in_no_form(a), lambda: rotation(a), lambda: uses(a),
                 lambda: fault_54_ssrf_no_secret_by_redirect(a, port), lambda: memory_after_a_call(a),
                 lambda: unlocked_memory(a), lambda: canaries(a, port), lambda: locked(a), lambda: keyring(a), lambda: fault_71_key_change_killed(a),
                 lambda: fault_65_secret_in_log_core_environ_export(a)]
        names = ["reflected", "rotation", "uses", "ssrf", "memory", "memlock", "canaries", "locked", "keyring", "fault_71", "fault_65"]
        only = sys.argv[1:]
        for name, part in zip(names, parts):
            if not only or name in only:
                part()
                print(name, "ok", flush=True)
        a.verify()
    server.shutdown()
    print("ok")


if __name__ == "__main__":
    main()
