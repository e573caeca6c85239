"""What judging costs: bench/cel_bench, beside the same decision written by hand in C, in the same run."""
import json
import os
import statistics
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.environ.get("AIOS_BIN") or os.path.join(TOP, "build")
# (figure, what it is, target in ns, how many decisions by hand it is compared with, at most so many times those)
ROWS = [("eval_ns", "condition, bound", 200, 1, 6), ("bind_eval_ns", "condition with binding", 200, 1, 8),
        ("policy_spread_ns", "100 rules over 20 kinds of actions", 5000, 5, 12),
        ("policy_all_ns", "100 rules, each asked", 5000, 100, 4)]


def measure(repeat=5):
    """The median of some runs; every ratio is of one run."""
    runs = [json.loads(subprocess.run([os.path.join(BIN, "bench/cel_bench")], check=True, stdout=subprocess.PIPE,
                                      text=True).stdout) for _ in range(repeat)]
    out = {k: statistics.median(r[k] for r in runs) for k in runs[0] if k != "sum"}
    for figure, _, _, times, _ in ROWS:
        out[figure.replace("_ns", "_ratio")] = statistics.median(r[figure] / (times * r["hand_ns"]) for r in runs)
    return out


def report(r):
    """Prints; True if every target is met."""
    good = True
    print(f"by hand, in C                       {r['hand_ns']:>7.0f} ns = 1x")
    for figure, what, target, times, most in ROWS:
        ratio = r[figure.replace("_ns", "_ratio")]
        met = r[figure] < target and ratio < most
        good &= met
        print(f"{what:<35} {r[figure]:>7.0f} ns = {ratio:.1f}x of {times} by hand   target {target} ns, {most}x: "
              f"{'met' if met else 'MISSED'}")
    print(f"compiling the condition             {r['compile_ns']:>7.0f} ns")
    return good
