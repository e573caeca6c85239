#!/usr/bin/env python3
"""The network door through a real aiosd: TLS with certificate files, addresses, a proxy before it, hostile texts on its pages,
in the log and on a terminal."""
import html.parser
import http.client
import http.server
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import sys
import threading
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import Aios, Problem, until  # noqa: E402

FLOW = """import { flow } from "aios";
export default flow({ name: "odd", grants: ["gate.ask"] }, async (ctx, input) => {
  ctx.log(input.text);
  const { answer } = await ctx.approve({ title: input.text, show: { [input.text]: input.text, deep: [input.text] }, edit: true });
  if (answer !== "never") throw new Error(input.text);
});
"""
FILES = {"aios.yaml": "name: door\n", "policy.yaml": "rules:\n  - on: \"*\"\n    then: allow\n", "flows/odd.js": FLOW}


def certificate(folder, name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                    f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},DNS:localhost", "-keyout", folder / f"{name}.key", "-out",
                    folder / f"{name}.pem"], check=True, capture_output=True)
    os.chmod(folder / f"{name}.key", 0o600)


def trusting(path):
    return ssl.create_default_context(cafile=path)


def tls(aios, pem, method, path, headers=None, body=None):
    c = http.client.HTTPSConnection("localhost", aios.port, context=trusting(pem), timeout=20)
    c.request(method, path, body, headers or {})
    r = c.getresponse()
    text = r.read().decode()
    c.close()
    return r.status, r.headers, text


def stays_shut(aios, text):
    """The network door does not open and aiosd says why; the operator's own is how it is put right."""
    aios.start()
    assert "the network door stays shut" in aios.log() and text in aios.log(), aios.log()[-1500:]
    assert len([p for p in aios.get("/v1/status")["processes"] if p["process"].startswith("aios-door")]) == 1


def reconfigure(aios, text):
    (aios.dir / "aios.yaml").write_text("name: door\n" + text)
    aios.deploy()
    aios.stop()


def speaks_tls(aios):
    aios.start()
    for listen in ("0.0.0.0", "::", "192.0.2.1", "::ffff:127.0.0.1"):  # plain HTTP never leaves this machine
        (aios.dir / "aios.yaml").write_text(f'name: door\ndoor: {{ listen: "{listen}" }}\n')
        try:
            aios.deploy()
            raise AssertionError(f"{listen} without TLS was taken")
        except Problem as p:
            assert p.status == 422 and "TLS" in str(p.body), p
    certificate(aios.dir, "aios.test")
    certificate(aios.dir, "other.test")
    pem = aios.dir / "aios.test.pem"
    config = 'door: {{ listen: "{}", hosts: [aios.test], tls: {{ cert: {}, key: {} }} }}\n'
    reconfigure(aios, config.format("127.0.0.1", "aios.test.pem", "none.key"))
    stays_shut(aios, "door.tls: cannot read")
    os.chmod(aios.dir / "aios.test.key", 0o644)
    reconfigure(aios, config.format("127.0.0.1", "aios.test.pem", "aios.test.key"))
    stays_shut(aios, "chmod 600")
    aios.stop()
    os.chmod(aios.dir / "aios.test.key", 0o600)
    aios.start()
    until(lambda: works(lambda: tls(aios, pem, "GET", "/v1/health")), 20, what="TLS")
    status, head, _ = tls(aios, pem, "GET", "/v1/health")
    assert status == 200 and head["Strict-Transport-Security"].startswith("max-age="), head
    key = aios.post("/v1/keys", {"name": "k", "grants": ["api.flows"]})["key"]
    assert tls(aios, pem, "GET", "/v1/flows", {"Authorization": f"Bearer {key}"})[0] == 200
    assert tls(aios, pem, "GET", "/v1/flows", {"Host": "evil.example", "Authorization": f"Bearer {key}"})[0] == 421
    old_versions(aios)
    plain(aios)
    cookie(aios, pem)
    # Another certificate: with the next start.
    (aios.dir / "aios.test.pem").write_bytes((aios.dir / "other.test.pem").read_bytes())
    (aios.dir / "aios.test.key").write_bytes((aios.dir / "other.test.key").read_bytes())
    aios.stop()
    aios.start()
    until(lambda: works(lambda: tls(aios, aios.dir / "other.test.pem", "GET", "/v1/health")), 20, what="the new certificate")
    assert "PRIVATE KEY" not in json.dumps(aios.events()) + aios.log() + json.dumps(aios.get("/v1/status"))
    reconfigure(aios, "")


def works(call):
    try:
        return call()[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def old_versions(aios):
    for version, good in (("-tls1", False), ("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)):
        p = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{aios.port}", version, "-cipher", "ALL:@SECLEVEL=0"],
                           input="", text=True, capture_output=True, timeout=30)
        assert ("BEGIN CERTIFICATE" in p.stdout) == good, (version, p.stdout[-500:], p.stderr[-500:])
    weak = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{aios.port}", "-tls1_2", "-cipher", "AES128-SHA:AES256-SHA256:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"],
                          input="", text=True, capture_output=True, timeout=30)
    assert "BEGIN CERTIFICATE" not in weak.stdout, weak.stdout


def plain(aios):
    """HTTP without TLS at a port that speaks it: no answer, and nobody else is harmed."""
    with socket.create_connection(("127.0.0.1", aios.port), 10) as s:
        s.settimeout(20)
        s.sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            assert b"200 OK" not in s.recv(4096)
        except ConnectionResetError:
            pass


def cookie(aios, pem):
    url = urllib.parse.urlsplit(aios.post("/v1/sessions", {})["url"])
    assert (url.scheme, url.hostname, url.port) == ("https", "aios.test", aios.port), url
    status, head, text = tls(aios, pem, "GET", f"{url.path}?{url.query}")
    assert status == 200 and head["Set-Cookie"] is None  # it only shows
    form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"https://localhost:{aios.port}"}
    status, head, text = tls(aios, pem, "POST", url.path, form, url.query)
    made = head["Set-Cookie"]
    assert made.startswith("__Host-aios=") and "; Secure" in made and "Path=/" in made and "HttpOnly" in made and "Domain" not in made, made
    value = made.split(";")[0]
    assert tls(aios, pem, "GET", "/", {"Cookie": value})[0] == 200
    assert tls(aios, pem, "GET", "/", {"Cookie": value.replace("__Host-aios", "aios_session")})[0] == 401
    assert tls(aios, pem, "GET", "/", {"Cookie": f"{value}; {value}"})[0] == 400


class Proxy(http.server.BaseHTTPRequestHandler):
    """What docs/operations.md asks of a proxy: TLS in front, the Host as it came, who asked in X-Forwarded-For."""
    protocol_version = "HTTP/1.1"
    port = 0

    def log_message(self, *args):
        pass

    def do_GET(self):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        head = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
        came = head.get("X-Forwarded-For", "")
        head["X-Forwarded-For"] = (came + ", " if came else "") + self.headers.get("X-Test-From", self.client_address[0])
        c.request(self.command, self.path, None, head)
        r = c.getresponse()
        body = r.read()
        self.send_response(r.status)
        for k, v in r.getheaders():
            if k.lower() not in ("connection", "date"):
                self.send_header(k, v)
        self.end_headers()
        self.wfile.write(body)
        c.close()


def behind_a_proxy(aios):
    aios.start()
    reconfigure(aios, "door: { proxies: [127.0.0.1], hosts: [aios.test], rates: { address: { per_second: 1, burst: 4 } } }\n")
    aios.start()
    certificate(aios.dir, "aios.test")
    pem = aios.dir / "aios.test.pem"
    Proxy.port = aios.port
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, aios.dir / "aios.test.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def through(path, headers=None):
        c = http.client.HTTPSConnection("localhost", server.server_address[1], context=trusting(pem), timeout=20)
        c.request("GET", path, None, {"Host": "aios.test", **(headers or {})})
        r = c.getresponse()
        text = r.read().decode()
        c.close()
        return r.status, r.headers, text
    status, head, _ = through("/v1/health")
    assert status == 200 and "Strict-Transport-Security" in head
    url = urllib.parse.urlsplit(aios.post("/v1/sessions", {})["url"])
    assert (url.scheme, url.hostname, url.port) == ("https", "aios.test", None), url
    # The limit is that of who asked, not the proxy's; what the client claims itself does not count.
    got = [through("/v1/health", {"X-Test-From": "203.0.113.5", "X-Forwarded-For": f"198.51.100.{i}"}) for i in range(8)]
    assert [g[0] for g in got][:4] == [200] * 4 and got[-1][0] == 429 and int(got[-1][1]["Retry-After"]) >= 1, [g[0] for g in got]
    assert through("/v1/health", {"X-Test-From": "203.0.113.6"})[0] == 200
    server.shutdown()
    reconfigure(aios, "")


# --- 57

CORPUS = ["<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "'><svg/onload=alert(1)>", "</title><script>alert(1)</script>",
          "</textarea><script>alert(1)</script>", "</style><script>1</script>", "<!--<script>", "javascript:alert(1)", "{{constructor}}",
          "<a href=\"javascript:alert(1)\">x</a>", "&lt;script&gt;alert(1)&lt;/script&gt;", "\u2028<script>\u2029", "<iframe srcdoc='<script>'>",
          "<math><mi//xlink:href=\"data:x,<script>alert(1)</script>\">", "\"style=\"x:expression(alert(1))", "<plaintext>", "<base href=//evil.example>",
          "<form action=//evil.example>", "<meta http-equiv=refresh content=0;url=//evil.example>", "` onclick=alert(1) ", "\u202egpj.exe", "]]><script>"]


class Dom(html.parser.HTMLParser):
    """Every element and attribute that a browser would make of a page."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.attrs, self.text = set(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attrs += [(tag, k, v) for k, v in attrs]

    def handle_data(self, data):
        self.text.append(data)


def fault_57_names_on_pages(aios):
    aios.start()
    pages = {}
    for text in ["harmless"] + CORPUS:
        run = aios.post("/v1/flows/odd/runs", {"input": {"text": text}, "customer": text})["run"]
        gate = until(lambda run=run: next((g for g in aios.get("/v1/gates")["items"] if g["run"] == run), None), 20)["gate"]
        for path in (f"/gates/{gate}", f"/runs/{run}", "/"):
            page = aios.get(path)
            dom = Dom()
            dom.feed(page)
            kind = path.split("/")[1]
            if text == "harmless":
                pages[kind] = dom.tags
            assert dom.tags <= pages[kind] | {"del", "details", "summary"}, (path, text, dom.tags - pages[kind])
            assert not dom.tags & {"script", "iframe", "img", "math", "base", "object", "embed"}, (path, text, dom.tags)
            for tag, name, value in dom.attrs:
                assert not name.startswith("on") and name != "srcdoc" and name != "style", (path, text, tag, name)
                if name in ("href", "src", "action"):
                    assert re.match(r"/|#|[a-z0-9/]*$", value or ""), (path, text, tag, name, value)
            if kind == "gates":
                shown = "".join(dom.text) + "".join(v or "" for _, _, v in dom.attrs)
                assert text in shown or text.replace("\u2028", " ") in shown or any(ord(ch) > 127 for ch in text), (path, text)


# --- 66

EVIL = "tidy\r\n2026-01-01T00:00:00.000Z info aiosd: all is well\x1b[2J\x1b]0;owned\x07\x9b31m\x00\x08\u202e"


def fault_66_logs_and_terminals(aios):
    run = aios.post("/v1/flows/odd/runs", {"input": {"text": EVIL.replace("\x00", "")}, "customer": EVIL.replace("\x00", "")})["run"]
    gate = until(lambda: next((g for g in aios.get("/v1/gates")["items"] if g["run"] == run), None), 20)
    aios.post(f"/v1/gates/{gate['gate']}/deny", {"shown": gate["shown"], "reason": EVIL.replace("\x00", "")})
    until(lambda: aios.get(f"/v1/runs/{run}")["state"] == "failed", 20)
    key = aios.post("/v1/keys", {"name": "k66", "grants": ["api.flows"]})["key"]
    for name in (EVIL, "a\nb"):  # a name that would break a line is none
        try:
            aios.post("/v1/keys", {"name": name, "grants": ["api.run"]})
            raise AssertionError("taken")
        except Exception as e:  # noqa: BLE001
            assert getattr(e, "status", 0) == 400, e
    c = http.client.HTTPConnection("127.0.0.1", aios.port, timeout=20)
    c.request("POST", "/v1/flows/" + urllib.parse.quote(EVIL) + "/runs", "{}", {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
    r = c.getresponse()
    text = r.read().decode()
    assert r.status in (400, 403, 404) and "\x1b" not in text, (r.status, text)
    for words in (["gates"], ["show", str(run)], ["runs"], ["gates", "--decided"], ["why", str(run)], ["log", "tail"], ["keys", "list"]):
        out = aios.cli(*words, check=False)
        for ch in out.stdout + out.stderr:
            assert ch in "\n\t" or (ord(ch) >= 32 and ord(ch) != 127 and not 0x80 <= ord(ch) < 0xa0), (words, hex(ord(ch)))
        assert "\ninfo" not in out.stdout and "\n2026-01-01T00:00:00.000Z info" not in out.stdout, words
    for line in aios.log().split("\n"):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", line) and not line.startswith("2026-01-01T00:00:00.000Z"), line


def main():
    with Aios(FILES) as aios:
        first(aios)
        for part in (speaks_tls, behind_a_proxy, fault_57_names_on_pages, fault_66_logs_and_terminals):
            part(aios)
            print(f"{part.__name__}: ok", flush=True)
        aios.verify()
        assert aios.stop() == 0
    print("ok")


def first(aios):
    aios.start()
    aios.deploy()
    url = urllib.parse.urlsplit(aios.post("/v1/sessions", {})["url"])
    assert (url.scheme, url.hostname) == ("http", "localhost"), url  # a name, so that passkeys work
    aios.stop()


if __name__ == "__main__":
    main()
