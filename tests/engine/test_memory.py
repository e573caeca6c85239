#!/usr/bin/env python3
"""aiosd finds no memory, once, at one allocation after the other: it goes on, or it ends with a message; after the next start
everything finishes, and what happened outside happened once.

usage: test_memory.py [--tries N] [--seed N]
"""
import argparse
import os
import pathlib
import random
import signal
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from aios import Aios, Ledger, Problem  # noqa: E402

FLOW = """import { flow } from "aios";
export default flow({ name: "once_each", grants: ["test.*", "memory.*"] }, async (ctx, input) => {
  for (let i = 0; i < 4; i++)
    await ctx.call(i % 2 ? "test.idempotent" : "test.lookup", { value: `${input.id}:${i}` });
  await ctx.memory.put(`done/${input.id}`, input.id);
  return input.id;
});
"""
POLICY = "rules:\n  - { on: \"test.*\", then: allow }\n"


def one(aios, name, wait):
    return aios.post(f"/v1/flows/once_each/runs?wait={wait}", {"input": {"id": name}}, timeout=wait + 10,
                     headers={"Idempotency-Key": name})


def start(aios, nth):
    """With the nth allocation failing; whether it came up."""
    try:
        aios.start({"LD_PRELOAD": os.environ["FAILALLOC_LIB"], "FAILALLOC": str(nth)})
        return True
    except (RuntimeError, TimeoutError):
        return False


def ended_cleanly(aios):
    """Nothing but an exit or an assertion, and a line that says why."""
    code = aios.daemon.poll()
    if code is None:
        return None
    assert code in (1, -signal.SIGABRT), f"aiosd ended with {code}: {aios.log()[-2000:]}"
    text = aios.log().lower()
    assert "memory" in text or "broken invariant" in text, text[-2000:]
    return code


def attempt(aios, ledger, nth):
    up = start(aios, nth)
    for i in range(3):
        if not up or aios.daemon.poll() is not None:
            break
        try:
            one(aios, f"{nth}-{i}", 5)
        except (OSError, Problem, ValueError):
            pass
        except Exception:  # http.client: the answer broke off
            pass
    ended = ended_cleanly(aios)
    if ended is None:
        aios.stop()
    aios.daemon = None
    aios.start()
    for i in range(3):
        r = one(aios, f"{nth}-{i}", 30)
        assert r["state"] == "done" and r["result"] == f"{nth}-{i}", r
    happened = [e["value"] for e in ledger.entries() if e["value"].startswith(f"{nth}-")]
    assert sorted(happened) == sorted(f"{nth}-{i}:{k}" for i in range(3) for k in range(4)), happened
    assert aios.stop() == 0
    (aios.home / "aiosd.log").unlink()
    return ended


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--tries", type=int, default=16)
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    rng = random.Random(args.seed)
    ended = 0
    ledger = None
    with Aios({"policy.yaml": POLICY, "flows/once_each.js": FLOW}) as aios:
        ledger = Ledger(str(aios.home / "ledger.jsonl"))
        try:
            (aios.dir / "aios.yaml").write_text(f"name: memory\ntest: {{ ledger: \"127.0.0.1:{ledger.port}\" }}\n")
            aios.start()
            aios.deploy()
            aios.stop()
            for _ in range(args.tries):
                ended += attempt(aios, ledger, int(2 ** rng.uniform(3, 13.5))) is not None
            aios.start()
            aios.verify()
        finally:
            ledger.stop()
    print(f"{args.tries} allocations failed: aiosd ended {ended} times with a message, {args.tries - ended} times it went on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
