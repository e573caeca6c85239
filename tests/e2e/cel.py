#!/usr/bin/env python3
"""`aios cel` as somebody types it: values, variables of every type, what is wrong with its place and a caret, cases, and hostile
input, which is refused and costs nothing. Then conditions in a policy: refused by place when they are deployed, and deciding."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True
from aios import BIN, Aios, Problem  # noqa: E402

VARS = {"args": {"amount": 501.5, "n": 3, "to": ["ada@example.org"]}, "customer": {"tier": "basic"},
        "big": {"t": "uint", "v": "18446744073709551615"}, "raw": {"t": "bytes", "v": "/w=="},
        "at": {"t": "timestamp", "v": [1767225600, 5]}, "for": {"t": "x", "v": 1}}
POLICY = """rules:
  - {{ name: small, on: test.echo, then: allow, when: '{allow}' }}
"""
FLOW = """import { flow } from "aios";
export default flow({ name: "try", grants: ["test.echo"] }, async (ctx, input) => {
  try { await ctx.call("test.echo", input); return "done"; } catch (e) { return e.code; }
});
"""


def cel(*args, stdin=None):
    p = subprocess.run([os.path.join(BIN, "aios"), "cel", *args], input=stdin, capture_output=True, text=True, timeout=60,
                       cwd="/", check=False)
    return p.returncode, p.stdout, p.stderr


def gives(want, *args):
    code, out, err = cel(*args)
    assert (code, out.rstrip("\n")) == (0, want), (args, code, out, err)


def refused(args, *words, stdin=None, code=1):
    got, out, err = cel(*args, stdin=stdin)
    assert got == code and out == "" and all(w in err for w in words), (args[0][:200], got, out[:200], err[:500])
    return err


def check_values(folder):
    path = folder / "vars.json"
    path.write_text(json.dumps({k: v for k, v in VARS.items() if k != "for"}))
    v = ("--vars", str(path))
    gives("3", "1 + 2")
    gives("-3", "-1 - 2")
    gives("true", 'args.amount > 500.0 && !(customer.tier in ["trusted"])', *v)
    gives("18446744073709551615u", "big", *v)
    gives(r'b"\xff"', "raw", *v)
    gives('timestamp("2026-01-01T00:00:00.000000005Z")', "at", *v)
    gives("1", 'at.getHours("Europe/Berlin")', *v)
    hours = [f"timestamp(0).getHours('Etc/GMT-{n % 14 + 1}') + timestamp(0).getHours('Etc/GMT+{n % 12 + 1}')" for n in range(40)]
    want = ", ".join(str(n % 14 + 1 + 23 - n % 12) for n in range(40))
    gives(f"[{want}]", f"[{', '.join(hours)}]")  # more zones than are kept at once
    gives('[1, 2.0, "a", null, optional.of(true)]', "[1, 2.0, 'a', null, optional.of(true)]")
    code, out, _ = cel("-", stdin="2 *\n 3")
    assert (code, out) == (0, "6\n"), out
    code, out, _ = cel("{'a': 1u, 'b': [b'x']}", "--json")
    assert code == 0 and json.loads(out) == {"type": "map", "value": {"a": 1, "b": ["eA=="]}, "typed": {"t": "map", "v": [
        [{"t": "string", "v": "a"}, {"t": "uint", "v": "1"}],
        [{"t": "string", "v": "b"}, {"t": "list", "v": [{"t": "bytes", "v": "eA=="}]}]]}}, out


def check_refusals(folder):
    path = folder / "vars.json"
    v = ("--vars", str(path))
    err = refused(["1 +\n  'a'"], "line 1, column 3", "int and string")
    assert err.splitlines()[1:] == ["  1 +", "    ^"], err
    err = refused(["1 == 1 &&\n 'ä' == nope"], "line 2, column 9", "nope")
    assert err.splitlines()[1:] == ["   'ä' == nope", "          ^"], err
    refused(["args.n / 0", *v], "line 1, column 8: division by zero")
    refused(["args.amount + 1", *v], "no such overload")
    refused(["args.nope", *v], "no such field: nope")
    refused(["customer.tier.x", *v], "not a map")
    refused(["size(1)"], "wrong types for size")
    refused(["foo(1)"], "there is no function foo")
    refused(["'a'.contains()"], "wrong number of arguments")
    refused(["'a'.matches('(')"], "pattern")
    refused([""], "ends too early")
    refused([], "--cases", code=2)
    refused(["1", "2"], "too much", code=2)
    refused(["1", "--cases", "x"], "cel", code=2)
    refused(["1", "--vars", str(folder / "none.json")], "none.json")
    (folder / "bad.json").write_text("[1]")
    refused(["1", "--vars", str(folder / "bad.json")], "no JSON object")
    (folder / "bad.json").write_text('{"x": {"t": "int", "v": "many"}}')
    refused(["x", "--vars", str(folder / "bad.json")], "x: not a typed value")
    code, out, _ = cel("1 / 0", "--json")
    assert code == 1 and json.loads(out) == {"error": "division by zero", "line": 1, "column": 3}, out
    err = refused(["'a\x1b[31m' +"], "line 1")
    assert "\x1b" not in err
    code, out, _ = cel("'\\u001b[31m\\u202e'")
    assert code == 0 and "\x1b" not in out and "\u202e" not in out, out


def check_hostile():
    """None of these takes long, takes much or ends in a signal."""
    refused(["-"], "longer than", stdin="1" * 1000000)
    refused(["-"], stdin="1" * 3000000)
    refused(["-"], "deep", stdin="(" * 30000 + ")" * 30000)
    refused(["-"], "deep", stdin="[" * 60000)
    refused(["-"], "deep", stdin="!" * 60000 + "true")
    refused(["-"], "deep", stdin="-" * 60000 + "x")
    refused(["-"], "deep", stdin="1" + "+1" * 30000)
    refused(["-"], "deep", stdin="x" + ".a" * 30000)
    refused(["-"], "deep", stdin="{1:" * 20000)
    refused(["-"], "deep", stdin="true?1:" * 8000 + "1")
    refused(["-"], stdin="'\\" * 30000)
    refused(["-"], stdin="\0" * 1000)
    ten = "[0,1,2,3,4,5,6,7,8,9]"
    refused([f"{ten}.all(a,{ten}.all(b,{ten}.all(c,{ten}.all(d,{ten}.all(e,{ten}.all(f,true))))))"], "too many steps")
    refused(["lists.range(100000).map(x, lists.range(100000))"], "took too many steps")
    refused(["lists.range(1000000000)"], "too large")
    big = "cel.bind(a, '" + "x" * 1000 + "', cel.bind(b, [a,a,a,a,a,a,a,a,a,a].join(), cel.bind(c, [b,b,b,b,b,b,b,b,b,b].join(), "
    refused([big + "[c,c,c,c,c,c,c,c,c,c,c,c].join())))"], "too long")
    refused([big + "c.replace('x', c))))"], "too long")
    refused([big + "'%s%s%s%s%s%s%s%s%s%s%s%s'.format([c,c,c,c,c,c,c,c,c,c,c,c]))))"], "too long")
    refused(["'%.1000000000f'.format([1.0])"], "too many digits")
    gives("false", "'" + "a" * 5000 + "'.matches('(a*)*b')")
    refused(["'" + "a" * 5000 + "'.matches('((a{0,50}){0,50}){0,50}')"], "pattern")


def check_cases(folder):
    path = folder / "cases.jsonl"
    good = {"file": "f", "name": "good", "expr": "x + 1", "vars": {"x": {"t": "int", "v": "1"}}, "want": {"t": "int", "v": "2"}}
    lines = [good, {**good, "name": "wrong", "want": {"t": "uint", "v": "2"}}, {**good, "name": "fails", "want": None, "error": True},
             {"name": "none"}, {"file": "f", "section": "s", "name": "n", "expr": "1/0", "vars": {}, "error": True}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "\nnot json\n")
    code, out, _ = cel("--cases", str(path))
    assert code == 1 and out.splitlines()[-1] == "2 passed, 4 failed", out
    assert [line.split(":")[0] for line in out.splitlines()[:-1]] == ["f/wrong", "f/fails", "none", "line 7"], out
    code, out, _ = cel("--cases", str(path), "--json")
    assert code == 1 and (json.loads(out)["passed"], json.loads(out)["failed"]) == (2, 4), out
    path.write_text(json.dumps(good) + "\n")
    assert cel("--cases", str(path))[:2] == (0, "1 passed, 0 failed\n")
    refused(["--cases", str(folder / "none")], "none")


def deploy(a, allow):
    (a.dir / "policy.yaml").write_text(POLICY.format(allow=allow))
    return a.cli("deploy", check=False)


def check_policy():
    """A condition is checked where it is deployed, and decides where it is met."""
    with Aios({"aios.yaml": "name: cel\n", "flows/try.js": FLOW, "policy.yaml": POLICY.format(allow="args.amount < 10.0")}) as a:
        a.start()
        a.deploy()
        assert a.run("try", {"amount": 5.5})["result"] == "done"
        assert a.run("try", {"amount": 50.5})["result"] != "done"
        assert a.run("try", {})["result"] != "done"  # it fails: an allow that fails allows nothing
        for bad in ("args.amount <", "nope > 1", "size(1) == 1", "\"a\" < 1", "args.x.matches(\"(\")", "principal.x == 1"):
            done = deploy(a, bad)
            assert done.returncode != 0 and "policy.yaml" in done.stdout + done.stderr, (bad, done)
        assert a.run("try", {"amount": 5.5})["result"] == "done"  # the old one still counts
        assert deploy(a, "args.?amount.orValue(0.0) < 10.0 && args.tags.exists(i, t, i == 1 && t == \"ok\")").returncode == 0
        assert a.run("try", {"tags": ["x", "ok"]})["result"] == "done"
        assert a.run("try", {"tags": ["ok", "x"]})["result"] != "done"


def main():
    with tempfile.TemporaryDirectory(prefix="aios-e2e-") as folder:
        check_values(pathlib.Path(folder))
        check_refusals(pathlib.Path(folder))
        check_cases(pathlib.Path(folder))
    check_hostile()
    try:
        check_policy()
    except Problem as e:
        print(f"FAIL: {e}")
        return 1
    print("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
