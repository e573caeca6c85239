// What past subjects taught: a ridge regression of the (smoothed, logit) open rate on a few features of the words.

const CROPS = ("bean pea tomato potato leek lettuce radish spinach onion garlic carrot beetroot parsnip cabbage kale chard "
  + "sprout courgette cucumber pumpkin pepper salad strawberr rhubarb").split(" ");

export const FEATURES = ["bias", "figure", "crop", "question", "length", "long", "short", "first word is a figure", "commas"];

/** A subject as numbers, in the order of FEATURES; each about 0 to 1. */
export function features(subject) {
  const s = subject.toLowerCase();
  const crop = CROPS.some((c) => new RegExp(`\\b${c}`).test(s));
  return [
    1,
    /[0-9]/.test(s) ? 1 : 0,
    crop ? 1 : 0,
    s.trim().endsWith("?") ? 1 : 0,
    Math.min(s.length, 100) / 100,
    s.length > 50 ? 1 : 0,
    s.length < 14 ? 1 : 0,
    /^[0-9]/.test(s) ? 1 : 0,
    Math.min((s.match(/,/g) || []).length, 3) / 3,
  ];
}

export const rate = (row) => row.opens / row.sends;

/** Solves A x = b for a symmetric positive matrix by elimination with pivots. */
function solve(a, b) {
  const n = b.length;
  const m = a.map((row, i) => [...row, b[i]]);
  for (let c = 0; c < n; c++) {
    let p = c;
    for (let r = c + 1; r < n; r++) if (Math.abs(m[r][c]) > Math.abs(m[p][c])) p = r;
    [m[c], m[p]] = [m[p], m[c]];
    for (let r = 0; r < n; r++) {
      if (r === c) continue;
      const f = m[r][c] / m[c][c];
      for (let k = c; k <= n; k++) m[r][k] -= f * m[c][k];
    }
  }
  return m.map((row, i) => row[n] / row[i]);
}

/** Learns from [{subject, sends, opens}]; more sends weigh more. Returns the weights of FEATURES. */
export function train(history, ridge = 1) {
  const n = FEATURES.length;
  const a = Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => (i === j && i > 0 ? ridge : 0)));
  a[0][0] += 1e-6;
  const b = new Array(n).fill(0);
  for (const row of history) {
    const x = features(row.subject);
    const p = (row.opens + 1) / (row.sends + 2);
    const y = Math.log(p / (1 - p));
    const w = row.sends / 100;
    for (let i = 0; i < n; i++) {
      b[i] += w * x[i] * y;
      for (let j = 0; j < n; j++) a[i][j] += w * x[i] * x[j];
    }
  }
  return solve(a, b);
}

/** The open rate that the weights expect, 0 to 1. */
export function predict(weights, subject) {
  const z = features(subject).reduce((sum, x, i) => sum + x * weights[i], 0);
  return 1 / (1 + Math.exp(-z));
}

/** Of all pairs whose true rates differ, the share that `score` puts in the right order (ties count half): the AUC. */
export function pairwise(rows, score) {
  let right = 0, pairs = 0;
  const s = rows.map(score);
  for (let i = 0; i < rows.length; i++)
    for (let j = i + 1; j < rows.length; j++) {
      const truth = rate(rows[i]) - rate(rows[j]);
      if (truth === 0) continue;
      pairs++;
      if (s[i] === s[j]) right += 0.5;
      else if ((s[i] - s[j]) * truth > 0) right++;
    }
  return pairs ? right / pairs : 0.5;
}

/** Trains on the older two thirds, tests on the newer third; `random` is the mean of 50 random orders. */
export function evaluate(history, random) {
  const rows = [...history].sort((a, b) => (a.date < b.date ? -1 : a.date > b.date ? 1 : 0));
  const cut = Math.floor((rows.length * 2) / 3);
  const weights = train(rows.slice(0, cut));
  const held = rows.slice(cut);
  let chance = 0;
  for (let i = 0; i < 50; i++) chance += pairwise(held, () => random());
  return { trained: cut, held: held.length, learned: pairwise(held, (r) => predict(weights, r.subject)), random: chance / 50 };
}

/** Candidates, best first, with the rate that is expected of each. */
export function order(weights, candidates) {
  return [...new Set(candidates.map((c) => c.trim()))].filter((c) => c.length >= 8 && c.length <= 90)
    .map((subject) => ({ subject, expected: Math.round(predict(weights, subject) * 1000) / 1000 }))
    .sort((a, b) => b.expected - a.expected || (a.subject < b.subject ? -1 : 1));
}
