#!/usr/bin/env python3
"""A real browser with an authenticator of its own: it signs in by a link, registers a passkey on /security, signs out, signs in
with the passkey, and approves a gate that wants a signature with it. Exit code 77 where there is no Chromium."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from aios import Aios, until  # noqa: E402

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-headless-shell", "google-chrome"))), None)


ASKS = """
import { flow } from "aios";
export default flow({ name: "asks", grants: ["gate.ask"] }, async (ctx, input) => {
  const { answer, value } = await ctx.approve({ title: "Pay 900?", show: { to: "printer", n: input.n }, sign: true });
  return { answer, value };
});
"""


class Page:
    """Chromium over its debugging pipe: messages end with a zero byte."""

    def __init__(self, folder):
        down, self.to = os.pipe()
        self.back, up = os.pipe()
        os.set_inheritable(down, True)
        os.set_inheritable(up, True)
        # The descriptors must be 3 and 4.
        line = f"exec 3<&{down} 4>&{up}; exec {BROWSER} --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage " \
               f"--remote-debugging-pipe --no-first-run --user-data-dir={folder} about:blank"
        self.process = subprocess.Popen(["bash", "-c", line], pass_fds=(down, up), stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, env={**os.environ, "HOME": folder})
        os.close(down)
        os.close(up)
        self.rest, self.next, self.session = b"", 0, None
        target = next(t for t in until(lambda: [t for t in self.do("Target.getTargets")["targetInfos"] if t["type"] == "page"],
                                       60, what="a page"))
        self.session = self.do("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]

    def do(self, method, **params):
        self.next += 1
        message = {"id": self.next, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                got = os.read(self.back, 1 << 16)
                if not got:
                    raise RuntimeError("the browser has ended")
                self.rest += got
            one, self.rest = self.rest.split(b"\0", 1)
            answer = json.loads(one)
            if answer.get("id") == self.next:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def js(self, text):
        r = self.do("Runtime.evaluate", expression=text, returnByValue=True, userGesture=True)
        return r["result"].get("value")

    def wait(self, text, seconds=60):
        return until(lambda: self.quiet(text), seconds, 0.2, text)

    def quiet(self, text):
        try:
            return self.js(text)
        except RuntimeError:
            return None  # between two pages

    def go(self, url):
        self.do("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def close(self):
        self.process.kill()
        self.process.wait()


def decide(a, p, home):
    """The form signs with the passkey; a form of another gate's challenge, and one whose answer is changed, decide nothing."""
    runs = [a.post("/v1/flows/asks/runs", {"input": {"n": n}})["run"] for n in range(2)]
    gates = {g["run"]: g["gate"] for g in until(
        lambda: (lambda g: g if len(g) == 2 else None)(a.get("/v1/gates")["items"]), 20, what="the gates")}
    mine, other = gates[runs[0]], gates[runs[1]]

    def press():
        p.js("document.querySelector('form[data-passkey=decide] [data-sign]').click()")

    def opened(gate):
        p.go(f"{home}/gates/{gate}")
        p.wait("!!document.querySelector('form[data-passkey=decide]')")
        return p.js("document.querySelector('form[data-passkey=decide]').dataset.challenge")

    foreign = opened(other)
    assert opened(mine) != foreign
    # A page that was tampered with: what is signed is another gate's approval, or nothing of what is sent.
    for change in (f"f.dataset.challenge = '{foreign}'", "f.querySelector('[data-sign]').value = 'edit'",
                   "f.elements.namedItem('shown').value = '0'.repeat(64)", f"f.action = '/gates/{other}'"):
        opened(mine)
        p.js(f"window.before = 1; f = document.querySelector('form[data-passkey=decide]'); {change}")
        press()
        p.wait("!window.before && document.readyState === 'complete'")
        for gate in (mine, other):
            assert a.get(f"/v1/gates/{gate}")["state"] == "open", (change, p.js("document.body.innerText"))
    opened(mine)
    press()
    until(lambda: a.get(f"/v1/gates/{mine}").get("answer") == "approve", 60, what="the decision")
    assert a.get(f"/v1/runs/{runs[0]}?wait=20") and a.get(f"/v1/runs/{runs[0]}/value")["value"]["answer"] == "approve"
    assert a.get(f"/v1/gates/{other}")["state"] == "open"
    decided, = [e for e in a.get("/v1/events?limit=1000")["items"] if e["type"] == "gate.decided"]
    assert (decided["gate"], decided["by"], decided["how"]) == (mine, "operator", "passkey"), decided


def main():
    if not BROWSER:
        print("no Chromium here: install the package chromium")
        return 77
    with Aios({"aios.yaml": "name: Desk\nworkers: 1\n", "policy.yaml": "rules: []\n", "flows/asks.js": ASKS}) as a, \
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as t:
        a.start()
        a.deploy()
        p = Page(t)
        try:
            p.do("WebAuthn.enable")
            p.do("WebAuthn.addVirtualAuthenticator", options={
                "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
                "isUserVerified": True, "automaticPresenceSimulation": True})
            home = f"http://localhost:{a.port}"
            p.go(a.post("/v1/sessions")["url"])
            p.js("document.querySelector('button.go').click()")
            p.wait("location.pathname === '/' && document.readyState === 'complete'")
            p.go(home + "/security")
            p.wait("!!document.querySelector('form[data-passkey=register]')")
            p.js("document.querySelector('form[data-passkey=register] input[name=name]').value = 'desk'")
            p.js("document.querySelector('form[data-passkey=register] button').click()")
            p.wait("document.body.textContent.includes('passkey/desk') || "
                   "document.querySelector('[role=status]').textContent")
            found = a.get("/v1/sign-in")["credentials"]
            assert [c["id"] for c in found] == ["passkey/desk"], (found, p.js("document.body.innerText"))
            p.js("document.querySelector('button[value=sign_out]').click()")
            p.wait("location.pathname === '/sign-in' && document.readyState === 'complete'")
            assert a.get("/v1/sign-in")["sessions"] == []
            p.js("document.querySelector('form[data-passkey=sign-in] button').click()")
            p.wait("location.pathname === '/' && document.readyState === 'complete' || "
                   "document.querySelector('[role=status]')?.textContent")
            sessions = a.get("/v1/sign-in")["sessions"]
            assert [s["credential"] for s in sessions] == ["passkey/desk"], (sessions, p.js("document.body.innerText"))
            decide(a, p, home)
        finally:
            p.close()
    print("ok: a link, a passkey registered, signed out, signed in with it, a gate approved with it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
