#!/usr/bin/env python3
"""Signing in to the console through the real aiosd: links, passkeys, a password with a code; sessions; everything that must
be refused, and that an answer never says why."""
import base64
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from aios import BIN, Aios, Problem, until  # noqa: E402

PASSKEY = BIN / "tests/pass/passkey"
ALGS = (-7, -8, -257)


def config(**sign_in):
    return {"aios.yaml": "name: Desk\nworkers: 1\nsign_in: " + json.dumps(sign_in) + "\n",
            "policy.yaml": "rules: []\n"}


class Browser:
    """Cookies, and what a browser says of itself."""

    def __init__(self, aios, host="localhost"):
        self.aios, self.cookies, self.host = aios, {}, f"{host}:{aios.port}"

    def ask(self, method, path, body=None, kind=None, headers=None, origin=True):
        c = http.client.HTTPConnection("127.0.0.1", self.aios.port, timeout=60)
        head = {"Host": self.host, "User-Agent": "Test/1 <b>"}
        if method != "GET" and origin:
            head.update({"Origin": f"http://{self.host}", "Sec-Fetch-Site": "same-origin"})
        if kind:
            head["Content-Type"] = kind
        if self.cookies:
            head["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        c.request(method, path, body, {**head, **(headers or {})})
        r = c.getresponse()
        self.headers, self.status, self.text = r.headers, r.status, r.read().decode()
        c.close()
        for line in r.headers.get_all("Set-Cookie") or []:
            name, value = line.split(";")[0].split("=", 1)
            self.cookies[name] = value
            self.set_cookie = line
            if not value:
                del self.cookies[name]
        return self

    def get(self, path):
        return self.ask("GET", path)

    def form(self, path, **fields):
        body = "&".join(f"{k}={''.join(f'%{b:02x}' for b in str(v).encode())}" for k, v in fields.items())
        return self.ask("POST", path, body, "application/x-www-form-urlencoded")

    def json(self, path, value, method="POST"):
        self.ask(method, path, json.dumps(value), "application/json")
        self.value = json.loads(self.text)
        return self

    def signed_in(self):
        return self.get("/v1/status").status == 200

    def csrf(self):
        return re.search(r'name="csrf" value="([0-9a-f]+)"', self.get("/security").text)[1]

    def by_link(self):
        url = self.aios.post("/v1/sessions")["url"]
        token = url.split("token=")[1]
        return self.form("/sign-in", token=token)

    # --- passkeys

    def origin(self):
        return f"http://{self.host}"

    def register(self, key, name, counter=0, **wrong):
        o = self.json("/v1/sign-in/passkeys/challenge", {}).value
        if self.status != 200:
            return self
        a = key.act("create", o["rp_id"], self.origin(), o["challenge"], counter)
        return self.json("/v1/sign-in/passkeys", {"name": name, "challenge": o["challenge"], **a, **wrong})

    def assertion(self, key, counter=0, flags=5, kind="webauthn.get", origin=None, rp=None, challenge=None):
        o = self.json("/sign-in/passkey/challenge", {}).value
        a = key.act("get", rp or o["rp_id"], origin or self.origin(), challenge or o["challenge"], counter, flags, kind)
        return {"challenge": o["challenge"], **a}

    def by_passkey(self, key, **how):
        return self.json("/sign-in/passkey", self.assertion(key, **how))


class Key:
    def __init__(self, folder, alg):
        self.file = str(pathlib.Path(folder) / f"key{alg}{time.monotonic_ns()}")
        subprocess.run([PASSKEY, "make", str(alg), self.file], check=True)

    def act(self, what, rp, origin, challenge, counter=0, flags=5, kind=None):
        out = subprocess.run([PASSKEY, what, self.file, rp, origin, challenge, str(counter), str(flags),
                              kind or f"webauthn.{what}"], check=True, capture_output=True)
        return json.loads(out.stdout)


def code_of(secret, at, digest="sha1"):
    key = base64.b32decode(secret)
    mac = hmac.new(key, struct.pack(">Q", int(at) // 30), digest).digest()
    n = mac[-1] & 15
    return f"{(struct.unpack('>I', mac[n:n + 4])[0] & 0x7fffffff) % 1000000:06d}"


def aios_cli(a, *args, text="", **env):
    return subprocess.run([BIN / "aios", *args], cwd=a.dir, input=text, capture_output=True, text=True,
                          env={**os.environ, "XDG_STATE_HOME": str(a.home / "state"), **env})


class Links(unittest.TestCase):
    def test_a_link_signs_in_once_and_a_get_never(self):
        with Aios(config()) as a:
            a.start()
            a.deploy()
            b = Browser(a)
            token = a.post("/v1/sessions")["url"].split("token=")[1]
            for _ in range(3):  # a mail scanner follows it, a browser shows it twice
                page = b.get(f"/sign-in?token={token}")
                self.assertEqual(page.status, 200)
                self.assertNotIn("Set-Cookie", page.headers)
            self.assertIn('<button class="go" autofocus>Sign in</button>', page.text)
            self.assertFalse(b.signed_in())
            self.assertEqual(b.form("/sign-in", token=token).status, 303)
            for word in ("HttpOnly", "SameSite=Strict", "Path=/"):
                self.assertIn(word, b.set_cookie)
            self.assertTrue(b.signed_in())
            # Used, and a guessed one: the same answer.
            other = Browser(a)
            self.assertEqual(other.form("/sign-in", token=token).status, 403)
            used = other.text
            self.assertEqual(other.form("/sign-in", token="x" * 43).status, 403)
            self.assertEqual(other.text, used)
            self.assertFalse(other.signed_in())
            # Neither token nor link stands in the log; the hash of the one does.
            log = json.dumps(a.get("/v1/events?limit=1000"))
            self.assertNotIn(token, log)
            self.assertNotIn(b.cookies["aios_session"], log)
            self.assertIn("session.opened", log)
            self.assertIn("sign.in_failed", log)

    def test_links_can_be_turned_off(self):
        with Aios(config(link=False)) as a:
            a.start()
            token = a.post("/v1/sessions")["url"].split("token=")[1]
            a.deploy()
            with self.assertRaises(Problem):
                a.post("/v1/sessions")
            self.assertEqual(Browser(a).form("/sign-in", token=token).status, 403)


class Sessions(unittest.TestCase):
    def test_fault_58_session_fixation(self):
        """What an attacker put into the browser before is not what counts after."""
        with Aios(config()) as a:
            a.start()
            b = Browser(a)
            b.cookies["aios_session"] = planted = "A" * 43
            self.assertEqual(b.by_link().status, 303)
            self.assertNotEqual(b.cookies["aios_session"], planted)
            first = b.cookies["aios_session"]
            attacker = Browser(a)
            attacker.cookies["aios_session"] = planted
            self.assertFalse(attacker.signed_in())
            # Signing in anew makes a new token too, and the old one is of no session any more.
            self.assertEqual(b.by_link().status, 303)
            attacker.cookies["aios_session"] = first
            self.assertFalse(attacker.signed_in())
            self.assertTrue(b.signed_in())
            self.assertEqual(len(a.get("/v1/sign-in")["sessions"]), 1)

    def test_a_restart_keeps_sessions_and_a_revocation_is_at_once(self):
        with Aios(config()) as a:
            a.start()
            one, two = Browser(a), Browser(a)
            one.by_link()
            two.by_link()
            a.stop()
            a.start()
            one.host = two.host = f"localhost:{a.port}"
            self.assertTrue(one.signed_in() and two.signed_in())
            a.kill()
            a.start()
            one.host = two.host = f"localhost:{a.port}"
            self.assertTrue(one.signed_in() and two.signed_in())
            # A stream of the browser ends with its session.
            c = http.client.HTTPConnection("127.0.0.1", a.port, timeout=30)
            c.request("GET", "/v1/events", headers={"Host": one.host, "Accept": "text/event-stream",
                                                    "Cookie": f"aios_session={one.cookies['aios_session']}"})
            stream = c.getresponse()
            self.assertEqual(stream.status, 200)
            sessions = a.get("/v1/sign-in")["sessions"]
            self.assertEqual(len(sessions), 2)
            self.assertEqual({s["agent"] for s in sessions}, {"Test/1 <b>"})
            page = one.get("/security").text
            self.assertIn("this browser", page)
            self.assertIn("Test/1 &lt;b&gt;", page)
            self.assertNotIn("<b>", page)
            a.post("/v1/sign-in/sessions/all/revoke")
            stream.read()  # to its end
            c.close()
            self.assertFalse(one.signed_in() or two.signed_in())
            self.assertEqual(a.get("/v1/sign-in")["sessions"], [])

    def test_the_page_revokes(self):
        with Aios(config()) as a:
            a.start()
            one, two = Browser(a), Browser(a)
            one.by_link()
            two.by_link()
            listed = json.loads(one.get("/v1/sign-in").text)["sessions"]
            other = next(s["id"] for s in listed if not s["current"])
            self.assertEqual(one.form("/security", csrf="0" * 64, answer="revoke", id=other).status, 403)
            self.assertTrue(two.signed_in())
            self.assertEqual(one.form("/security", csrf=two.csrf(), answer="revoke", id=other).status, 403)
            self.assertEqual(one.form("/security", csrf=one.csrf(), answer="revoke", id=other).status, 303)
            self.assertFalse(two.signed_in())
            self.assertEqual(one.form("/security", csrf=one.csrf(), answer="sign_out").status, 303)
            self.assertFalse(one.signed_in())

    def test_rotation_idle_and_absolute(self):
        """With the shortest lives: another token each quarter of a minute in use, the end after a minute without."""
        with Aios(config(session={"idle": "1m", "absolute": "1h"})) as a:
            a.start()
            a.deploy()
            b, old = Browser(a), Browser(a)
            b.by_link()
            s = a.get("/v1/sign-in")["sessions"][0]
            self.assertEqual(s["until_ms"] - s["opened_ms"], 3600000)
            self.assertIn("Max-Age=3600", b.set_cookie)
            old.cookies = dict(b.cookies)
            until(lambda: b.signed_in() and b.cookies != old.cookies, 120, 1, "another token")
            self.assertTrue(old.signed_in())  # what was on its way still counts, and gets no third token
            self.assertNotIn("Set-Cookie", old.headers)
            now = a.get("/v1/sign-in")["sessions"]
            self.assertEqual([x["until_ms"] for x in now], [s["until_ms"]])  # the end stays where it was
            time.sleep(61)
            self.assertFalse(b.signed_in())
            self.assertFalse(old.signed_in())
            closed = [e for e in a.get("/v1/events?limit=1000")["items"] if e["type"] == "session.closed"]
            self.assertEqual([e["reason"] for e in closed], ["not used for too long"])

    def test_an_old_session_changes_nothing(self):
        """Who finds a browser open, or steals its cookie, adds no way in, takes none away, and opens no other session."""
        with Aios(config(session={"idle": "1m", "absolute": "1h"})) as a, tempfile.TemporaryDirectory() as t:
            a.start()
            a.deploy()
            b = Browser(a)
            b.by_link()
            self.assertEqual(b.json("/v1/sessions", {}).status, 403)  # not even a new one
            key, other = Key(t, -7), Key(t, -7)
            self.assertEqual(b.register(key, "phone").status, 201, b.text)
            options = b.json("/v1/sign-in/passkeys/challenge", {}).value
            act = other.act("create", options["rp_id"], b.origin(), options["challenge"])
            opened = a.get("/v1/sign-in")["sessions"][0]["opened_ms"]
            until(lambda: b.signed_in() and time.time() * 1000 - opened > 61000, 120, 5, "an old session that is in use")
            for method, path, body in (("POST", "/v1/sign-in/passkeys/challenge", {}),
                                       ("POST", "/v1/sign-in/passkeys",
                                        {"name": "mallory", "challenge": options["challenge"], **act}),
                                       ("DELETE", "/v1/sign-in/credentials/passkey/phone", None),
                                       ("PUT", "/v1/sign-in/password", {"sealed": "AAAA"}),
                                       ("PUT", "/v1/sign-in/totp", {"sealed": "AAAA", "code": "123456"})):
                if body is None:
                    b.ask(method, path)
                else:
                    b.json(path, body, method)
                self.assertEqual((b.status, json.loads(b.text)["code"]), (403, "sign_in_again"), path)
            self.assertEqual(b.form("/security", csrf=b.csrf(), answer="remove", id="passkey/phone").status, 403)
            self.assertIn("sign in anew", b.text)
            self.assertEqual([c["id"] for c in a.get("/v1/sign-in")["credentials"]], ["passkey/phone"])
            self.assertEqual(b.by_passkey(key).status, 200, b.text)
            self.assertEqual(b.register(other, "desk").status, 201, b.text)
            self.assertEqual(b.form("/security", csrf=b.csrf(), answer="remove", id="passkey/desk").status, 303)

    def test_only_the_operator(self):
        """A key that may do everything still is not the operator."""
        with Aios(config()) as a:
            a.start()
            a.deploy()
            key = a.post("/v1/keys", {"name": "ci", "grants": ["api.*"]})["key"]
            b = Browser(a)
            head = {"Authorization": f"Bearer {key}"}
            for method, path, body in (("GET", "/v1/sign-in", None), ("POST", "/v1/sign-in/sessions/all/revoke", {}),
                                       ("POST", "/v1/sign-in/passkeys/challenge", {}),
                                       ("DELETE", "/v1/sign-in/credentials/password", None),
                                       ("PUT", "/v1/sign-in/password", {"sealed": "AAAA"}),
                                       ("PUT", "/v1/sign-in/totp", {"sealed": "AAAA", "code": "1"}),
                                       ("POST", "/v1/sessions", {}), ("GET", "/security", None)):
                b.ask(method, path, json.dumps(body) if body is not None else None,
                      "application/json" if body is not None else None, head)
                self.assertEqual(b.status, 403, path)
            # And a browser that another site drives does nothing.
            b.by_link()
            b.ask("POST", "/v1/sign-in/sessions/all/revoke", "{}", "application/json",
                  {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"})
            self.assertEqual(b.status, 403)
            b.ask("POST", "/v1/sign-in/sessions/all/revoke", "{}", "text/plain")
            self.assertEqual(b.status, 415)
            self.assertTrue(b.signed_in())


class Passkeys(unittest.TestCase):
    def test_all_algorithms(self):
        with Aios(config()) as a, tempfile.TemporaryDirectory() as t:
            a.start()
            b = Browser(a)
            b.by_link()
            for alg in ALGS:
                key = Key(t, alg)
                self.assertEqual(b.register(key, f"key {-alg}", 1).status, 201, b.text)
                self.assertEqual(b.register(key, "again", 1).status, 409)  # the same one
                new = Browser(a)
                self.assertEqual(new.by_passkey(key, counter=2).status, 200, new.text)
                self.assertTrue(new.signed_in())
                self.assertEqual(a.get("/v1/sign-in")["sessions"][-1]["how"] in ("passkey", "link"), True)
            a.stop()
            a.start()
            new = Browser(a)
            self.assertEqual(new.by_passkey(key, counter=3).status, 200, new.text)
            # Removed: its sessions end with it, and it opens nothing any more.
            aios = a.get("/v1/sign-in")
            self.assertEqual(len(aios["credentials"]), 3)
            a.ask("DELETE", "/v1/sign-in/credentials/passkey/key%20257")
            self.assertFalse(new.signed_in())
            self.assertEqual(Browser(a).by_passkey(key, counter=4).status, 403)

    def test_what_is_refused(self):
        with Aios(config()) as a, tempfile.TemporaryDirectory() as t:
            a.start()
            b = Browser(a)
            b.by_link()
            key, stranger = Key(t, -7), Key(t, -7)
            self.assertEqual(b.register(key, "phone", 5).status, 201)
            new = Browser(a)
            said = set()

            def refused(**how):
                k = how.pop("key", key)
                new.by_passkey(k, **how)
                until(lambda: new.status != 429 or new.by_passkey(k, **how).status != 429, 20)
                self.assertEqual(new.status, 403, how)
                said.add(new.text)
                self.assertFalse(new.signed_in())

            refused(counter=6, origin="http://localhost:1")
            refused(counter=6, origin="https://evil.example")
            refused(counter=6, rp="evil.example")
            refused(counter=6, flags=1)  # no user verification
            refused(counter=6, flags=4)  # nobody there
            refused(counter=6, kind="webauthn.create")
            refused(counter=6, challenge="QUFB" * 11)
            refused(counter=6, key=stranger)
            # The counter stands still, or goes back: a copy. It is in the log and on the page.
            self.assertEqual(new.by_passkey(key, counter=6).status, 200, new.text)
            new = Browser(a)
            refused(counter=6)
            refused(counter=5)
            self.assertIn("refused_ms", a.get("/v1/sign-in")["credentials"][0])
            self.assertIn("there may be a copy", b.get("/security").text)
            self.assertIn("counter did not go up", a.log())
            # An assertion counts once; a challenge of another kind, of nobody, or one that was made up never.
            once = new.assertion(key, counter=10)
            self.assertEqual(new.json("/sign-in/passkey", once).status, 200)
            new = Browser(a)
            for wrong in (once, {**once, "challenge": "AAAA"}, {k: v for k, v in once.items() if k != "challenge"},
                          {**once, "signature": "%%%"}, {**once, "id": ""}, {}):
                new.json("/sign-in/passkey", wrong)
                until(lambda: new.status != 429 or new.json("/sign-in/passkey", wrong).status != 429, 20)
                self.assertEqual(new.status, 403)
                said.add(new.text)
            register = b.json("/v1/sign-in/passkeys/challenge", {}).value["challenge"]
            act = key.act("get", "localhost", b.origin(), register, 11)
            new.json("/sign-in/passkey", {"challenge": register, **act})
            self.assertIn(new.status, (403, 429))
            self.assertFalse(new.signed_in())
            self.assertEqual(len(said), 1, said)  # whatever was wrong

    def test_registering_is_for_who_is_signed_in_and_once(self):
        with Aios(config()) as a, tempfile.TemporaryDirectory() as t:
            a.start()
            nobody = Browser(a)
            self.assertEqual(nobody.json("/v1/sign-in/passkeys/challenge", {}).status, 401)
            self.assertEqual(nobody.json("/v1/sign-in/passkeys", {}).status, 401)
            b, other = Browser(a), Browser(a)
            b.by_link()
            other.by_link()
            key = Key(t, -8)
            o = b.json("/v1/sign-in/passkeys/challenge", {}).value
            act = {"challenge": o["challenge"], **key.act("create", "localhost", b.origin(), o["challenge"])}
            self.assertEqual(other.json("/v1/sign-in/passkeys", {"name": "x", **act}).status, 422)  # another session's
            self.assertEqual(b.json("/v1/sign-in/passkeys", {"name": "", **act}).status, 400)
            self.assertEqual(b.json("/v1/sign-in/passkeys", {"name": "x", **act}).status, 422)  # used up
            before = b.cookies["aios_session"]
            self.assertEqual(b.register(key, "mine").status, 201)
            self.assertNotEqual(b.cookies["aios_session"], before)
            self.assertTrue(b.signed_in())
            # By address, where no browser has passkeys.
            plain = Browser(a, "127.0.0.1")
            self.assertEqual(plain.json("/sign-in/passkey/challenge", {}).status, 403)
            self.assertIn("localhost", plain.value["detail"])
            # Cross-site: a page of another origin cannot have one made here.
            b.ask("POST", "/v1/sign-in/passkeys/challenge", "{}", "application/json",
                  {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"})
            self.assertEqual(b.status, 403)


ASKS = """
import { flow } from "aios";
export default flow({ name: "asks", grants: ["gate.ask"] }, async (ctx, input) => {
  const { answer, by, value } = await ctx.approve({ title: "Pay 900?", show: { to: input.to }, sign: true, ...input.how });
  return { answer, by, value };
});
"""


class Decisions(unittest.TestCase):
    """A gate whose terms say sign: the signature is over this gate, what it shows, and its approval; nothing else is."""

    def gate(self, a, to="printer", **how):
        run = a.post("/v1/flows/asks/runs", {"input": {"to": to, "how": how}})["run"]
        until(lambda: [g for g in a.get("/v1/gates")["items"] if g["run"] == run], 20, what="the gate")
        return run, next(g["gate"] for g in a.get("/v1/gates")["items"] if g["run"] == run)

    def shown(self, b, gate):
        """What stands in the form of the page."""
        page = b.get(f"/gates/{gate}").text
        form = re.search(r'<form method="post" data-passkey="decide" data-challenge="([^"]+)" data-rp="([^"]+)" '
                         r'action="/gates/%d">.*?</form>' % gate, page, re.S)
        self.assertIsNotNone(form, page)
        return {"challenge": form[1], "rp": form[2], "csrf": re.search(r'name="csrf" value="(\w+)"', form[0])[1],
                "shown": re.search(r'name="shown" value="(\w+)"', form[0])[1]}

    def sign(self, b, key, form, counter, **how):
        return {"challenge": form["challenge"],
                **key.act("get", form["rp"], how.pop("origin", b.origin()), form["challenge"], counter, **how)}

    def decide(self, b, gate, form, assertion, answer="approve", **fields):
        b.form(f"/gates/{gate}", csrf=form["csrf"], shown=form["shown"], answer=answer,
               assertion=json.dumps(assertion) if assertion is not None else "", **fields)
        return b.status

    def is_open(self, a, *gates):
        for gate in gates:
            g = a.get(f"/v1/gates/{gate}")
            self.assertEqual((g["state"], g["votes"]), ("open", []))

    def test_a_passkey_decides_what_it_signed_and_nothing_else(self):
        with Aios({**config(), "flows/asks.js": ASKS}) as a, tempfile.TemporaryDirectory() as t:
            a.start()
            a.deploy()
            b = Browser(a)
            b.by_link()
            key, stranger = Key(t, -7), Key(t, -7)
            self.assertEqual(b.register(key, "phone", 1).status, 201, b.text)
            run, gate = self.gate(a)
            _, other = self.gate(a)  # shows the same
            form, foreign = self.shown(b, gate), self.shown(b, other)
            self.assertEqual(form["shown"], foreign["shown"])
            self.assertNotEqual(form["challenge"], foreign["challenge"])
            # Without a signature, in the browser and by the API of its session.
            self.assertEqual(self.decide(b, gate, form, None), 403)
            self.assertEqual(b.json(f"/v1/gates/{gate}/approve", {"shown": form["shown"]}).status, 403)
            # Signed for another gate; for a challenge of signing in; by a stranger's key; without finger or PIN; at another
            # origin; with a flipped bit; as a registration.
            wrong = [self.sign(b, key, foreign, 2), b.assertion(key, 2), self.sign(b, stranger, form, 2),
                     self.sign(b, key, form, 2, flags=1), self.sign(b, key, form, 2, origin="http://localhost:1"),
                     self.sign(b, key, form, 2, kind="webauthn.create")]
            good = self.sign(b, key, form, 2)
            flipped = "B" if good["signature"][20] == "A" else "A"
            wrong.append({**good, "signature": good["signature"][:20] + flipped + good["signature"][21:]})
            wrong.append({**good, "id": "AAAA"})
            wrong.append({})
            said = set()
            for i, one in enumerate(wrong):
                self.assertEqual(self.decide(b, gate, form, one), 403, i)
                b.json(f"/v1/gates/{gate}/approve", {"shown": form["shown"], "assertion": one})
                self.assertEqual((b.status, b.value["code"]), (403, "signature"), i)
                said.add(b.text)
            self.assertEqual(len(said), 1, said)
            self.is_open(a, gate, other)
            # The answer or the value changed behind the signature, another hash, another gate's address, an old form.
            edited = {"to": "mallory"}
            self.assertEqual(self.decide(b, gate, form, good, "edit", value=json.dumps(edited)), 403)
            for more in ({"value": edited}, {"result": edited}):
                b.json(f"/v1/gates/{gate}/approve", {"shown": form["shown"], "assertion": good, **more})
                self.assertEqual((b.status, b.value["code"]), (422, "not_editable"))
            b.json(f"/v1/gates/{gate}/approve", {"shown": "0" * 64, "assertion": good})
            self.assertEqual(b.status, 403)
            b.json(f"/v1/gates/{other}/approve", {"shown": form["shown"], "assertion": good})
            self.assertEqual(b.status, 403)
            self.assertEqual(self.decide(b, gate, {**form, "csrf": "0" * 64}, good), 403)
            # A key is nobody's passkey, also with a signature that is right.
            anna = a.post("/v1/keys", {"name": "anna", "grants": ["api.gate_approve", "api.gate"]})["key"]
            b.ask("POST", f"/v1/gates/{gate}/approve", json.dumps({"shown": form["shown"], "assertion": good}),
                  "application/json", {"Authorization": f"Bearer {anna}", "Cookie": ""})
            self.assertIn(b.status, (401, 403))
            self.is_open(a, gate, other)
            # As it is meant: once. What was signed stands in the log, and opens nothing else.
            self.assertEqual(self.decide(b, gate, form, good, reason="looked at"), 303, b.text)
            self.assertEqual(a.get(f"/v1/runs/{run}/value")["value"]["value"], {"to": "printer"})
            self.assertIn(self.decide(b, gate, form, good), (403, 409))
            self.assertEqual(self.decide(b, other, foreign, good), 403)
            new = Browser(a)
            new.json("/sign-in/passkey", good)
            self.assertIn(new.status, (403, 429))
            self.assertFalse(new.signed_in())
            event, = [e for e in a.get("/v1/events?limit=1000")["items"] if e["type"] == "gate.decided"]
            self.assertEqual((event["gate"], event["by"], event["how"]), (gate, "operator", "passkey"))
            self.assertGreater(event["proof"]["bytes"], len(good["signature"]))
            self.is_open(a, other)
            # A denial needs no signature: it lets nothing through; a signed approval that is sent as one is one.
            last = self.sign(b, key, foreign, 20)
            self.assertEqual(self.decide(b, other, foreign, last, "deny"), 303)
            self.assertIn(b.json(f"/v1/gates/{other}/approve", {"shown": foreign["shown"], "assertion": last}).status, (403, 409))

    def test_signatures_elsewhere_and_without_the_session(self):
        with Aios({**config(), "flows/asks.js": ASKS}) as a, tempfile.TemporaryDirectory() as t:
            a.start()
            a.deploy()
            b = Browser(a)
            b.by_link()
            key = Key(t, -8)
            self.assertEqual(b.register(key, "phone").status, 201, b.text)
            _, gate = self.gate(a)
            form = self.shown(b, gate)
            signed = self.sign(b, key, form, 0)
            # The same gate in another workspace is another one.
            with Aios({**config(), "flows/asks.js": ASKS}) as twin:
                twin.start()
                twin.deploy()
                c = Browser(twin)
                c.by_link()
                _, same = self.gate(twin)
                self.assertEqual(same, gate)
                self.assertNotEqual(self.shown(c, same)["challenge"], form["challenge"])
                # Cookies know no ports: what the one console gave counts at its own alone.
                c.cookies = dict(b.cookies)
                self.assertFalse(c.signed_in())
            # Signed out: the signature alone is no session.
            out = dict(b.cookies)
            a.post("/v1/sign-in/sessions/all/revoke")
            b.cookies = out
            self.assertEqual(self.decide(b, gate, form, signed), 401)
            self.assertEqual(b.json(f"/v1/gates/{gate}/approve", {"shown": form["shown"], "assertion": signed}).status, 401)
            self.is_open(a, gate)
            # A passkey that was removed signs nothing.
            b = Browser(a)
            b.by_link()
            a.ask("DELETE", "/v1/sign-in/credentials/passkey/phone")
            self.assertEqual(b.json(f"/v1/gates/{gate}/approve", {"shown": form["shown"], "assertion": signed}).status, 403)
            self.is_open(a, gate)

    def test_who_waits_is_revoked(self):
        """An answer that a session or a key waits for is not given to it when it has been revoked meanwhile."""
        with Aios({**config(), "flows/asks.js": ASKS}) as a:
            a.start()
            a.deploy()
            b = Browser(a)
            b.by_link()
            run, gate = self.gate(a, sign=False)
            key = a.post("/v1/keys", {"name": "ci", "grants": ["api.run", "api.events"]})["key"]
            heads = [{"Cookie": f"aios_session={b.cookies['aios_session']}"}, {"Authorization": f"Bearer {key}"}]
            waits, streams = [], []
            for head in heads:
                for path, to in ((f"/v1/runs/{run}?wait=60", waits), ("/v1/events?stream=1", streams)):
                    c = http.client.HTTPConnection("127.0.0.1", a.port, timeout=60)
                    c.request("GET", path, headers={"Host": b.host, **head, **(
                        {"Accept": "text/event-stream"} if to is streams else {})})
                    to.append(c)
            streams = [c.getresponse() for c in streams]
            self.assertEqual([r.status for r in streams], [200, 200])
            time.sleep(0.5)  # the waits are there
            a.post("/v1/sign-in/sessions/all/revoke")
            a.post("/v1/keys/ci/revoke")
            for r in streams:
                r.read()  # to its end
            a.post(f"/v1/gates/{gate}/approve", {"shown": a.get(f"/v1/gates/{gate}")["shown"]})
            for c in waits:
                r = c.getresponse()
                text = r.read().decode()
                self.assertEqual(r.status, 401, text)
                self.assertNotIn("printer", text)


class Passwords(unittest.TestCase):
    """The command line sets them, the page takes them, aios-pass checks them."""

    WORD = "correct horse battery staple"

    def totp(self, a, *args, wrong=False):
        p = subprocess.Popen([BIN / "aios", "sign-in", "totp", *args], cwd=a.dir, stdin=subprocess.PIPE, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        secret = None
        while not secret:
            secret = re.search(r"secret=([A-Z2-7]+)", p.stderr.readline())
        secret = secret[1]
        digest = "sha256" if args else "sha1"
        out, err = p.communicate("000000" if wrong else code_of(secret, time.time(), digest))
        return p.returncode, secret, out + err

    def try_word(self, b, password, code=""):
        b.form("/sign-in", password=password, code=code)
        return b.status

    def test_password_and_code(self):
        with Aios(config(password=True)) as a:
            a.start()
            a.deploy()
            b = Browser(a)
            self.assertIn('type="password"', b.get("/sign-in").text)
            # Nothing is set up: as wrong as any other.
            self.assertEqual(self.try_word(b, self.WORD, "123456"), 403)
            said = b.text
            self.assertEqual(aios_cli(a, "sign-in", "password", text="short").returncode, 1)
            done = aios_cli(a, "sign-in", "password", text=self.WORD)
            self.assertEqual(done.returncode, 0, done.stderr)
            code, _, text = self.totp(a, wrong=True)
            self.assertEqual(code, 1, text)
            self.assertNotIn("totp", [c["id"] for c in a.get("/v1/sign-in")["credentials"]])
            code, secret, text = self.totp(a)
            self.assertEqual(code, 0, text)
            self.assertEqual(self.totp(a)[0], 1)  # there is one
            now = code_of(secret, time.time())
            for password, given in ((self.WORD, "000000"), ("wrong horse battery", now), ("", now), (self.WORD, "")):
                self.assertEqual(self.try_word(b, password, given), 403)
                self.assertEqual(b.text, said)
            a.stop()
            a.start()
            b = Browser(a)
            until(lambda: self.try_word(b, self.WORD, code_of(secret, time.time())) != 429, 30)
            self.assertEqual(b.status, 303, b.text)
            self.assertTrue(b.signed_in())
            # The same code again, in its own half minute: refused.
            again = Browser(a)
            until(lambda: self.try_word(again, self.WORD, code_of(secret, time.time() - 30)) != 429, 30)
            self.assertEqual(again.status, 403)
            self.assertFalse(again.signed_in())
            # Neither the password nor its hash nor the secret stands in the log, in a reply, or among the notes.
            everything = json.dumps(a.get("/v1/events?limit=1000")) + json.dumps(a.get("/v1/sign-in")) + a.log()
            for word in (self.WORD, "argon2", secret, now):
                self.assertNotIn(word, everything)
            # A new password ends what the old one opened.
            self.assertEqual(aios_cli(a, "sign-in", "password", text="another horse battery").returncode, 0)
            self.assertFalse(b.signed_in())
            self.assertEqual(aios_cli(a, "sign-in", "password", "--remove").returncode, 0)
            self.assertEqual(aios_cli(a, "sign-in", "totp", "--remove").returncode, 0)
            self.assertEqual(a.get("/v1/sign-in")["credentials"], [])

    def test_without_codes_and_turned_off(self):
        with Aios(config(password=True, totp="optional")) as a:
            a.start()
            a.deploy()
            self.assertEqual(aios_cli(a, "sign-in", "password", text=self.WORD).returncode, 0)
            b = Browser(a)
            self.assertEqual(self.try_word(b, self.WORD), 303, b.text)
            code, secret, text = self.totp(a, "--sha256")
            self.assertEqual(code, 0, text)
            self.assertFalse(b.signed_in())  # the way to sign in has changed
            self.assertEqual(self.try_word(b, self.WORD), 403)
            self.assertEqual(self.try_word(b, self.WORD, code_of(secret, time.time(), "sha256")), 303, b.text)
            (a.dir / "aios.yaml").write_text("name: Desk\n")
            a.deploy()
            self.assertEqual(self.try_word(Browser(a), self.WORD, code_of(secret, time.time() + 30, "sha256")), 403)

    def test_fault_59_brute_force(self):
        """10,000 attempts: a handful is looked at, the rest costs nothing, and says so in the same words; the operator comes in
        by a link and a passkey all the while."""
        with Aios({**config(password=True, totp="off")}) as a, tempfile.TemporaryDirectory() as t:
            a.start()
            a.deploy()
            self.assertEqual(aios_cli(a, "sign-in", "password", text=self.WORD).returncode, 0)
            b = Browser(a)
            b.by_link()
            key = Key(t, -7)
            self.assertEqual(b.register(key, "phone").status, 201)
            c = http.client.HTTPConnection("127.0.0.1", a.port, timeout=60)
            head = {"Host": b.host, "Origin": b.origin(), "Content-Type": "application/x-www-form-urlencoded"}
            seen = {}
            for i in range(10000):
                c.request("POST", "/sign-in", f"password=guess{i}guess{i}", head)
                r = c.getresponse()
                text = r.read().decode()
                if r.status == 429:
                    self.assertGreaterEqual(int(r.getheader("Retry-After")), 1)
                seen.setdefault(r.status, set()).add(text)
            c.close()
            self.assertEqual({s: len(texts) for s, texts in seen.items()}, {403: 1, 429: 1})
            looked_at = sum(f["count"] for f in a.get("/v1/sign-in")["failures"] if f["how"] == "password")
            self.assertLess(looked_at, 20)
            self.assertGreaterEqual(looked_at, 5)
            # Not even the right one, for now; and a restart forgives nothing.
            self.assertEqual(self.try_word(Browser(a), self.WORD), 429)
            a.kill()
            a.start()
            self.assertEqual(self.try_word(Browser(a), self.WORD), 429)
            self.assertEqual(Browser(a).by_link().status, 303)
            self.assertEqual(Browser(a).by_passkey(key).status, 200)

    def test_a_locked_vault_says_so(self):
        with Aios(config(password=True, totp="off")) as a, tempfile.TemporaryDirectory() as t:
            a.start()
            a.deploy()
            self.assertEqual(aios_cli(a, "sign-in", "password", text=self.WORD).returncode, 0)
            b = Browser(a)
            b.by_link()
            key = Key(t, -7)
            self.assertEqual(b.register(key, "phone").status, 201)
            if aios_cli(a, "vault", "lock").returncode != 0:
                self.skipTest("this vault cannot be locked")
            self.assertEqual(self.try_word(Browser(a), self.WORD), 503)
            self.assertEqual(Browser(a).by_link().status, 303)
            self.assertEqual(Browser(a).by_passkey(key).status, 200)


if __name__ == "__main__":
    unittest.main(verbosity=2)
