// ctx.verify: is a draft what it should be? Checks of form, of links, and of claims against what is known.
import { check as checkSchema } from "aios:schema";
import { readJson } from "aios:model";

const STOP = new Set(`a about after all also an and any are as at be because been but by can could do does for from had
	has have he her his how if in into is it its just like more most my no not of on one only or other our out over
	she so some such than that the their them then there these they this those to too up us was we were what when
	which who will with would you your`.split(/\s+/));

const MAX_CLAIMS = 200;

// Words without their commonest endings, so that "costs" finds "cost".
function words(text) {
	return (text.toLowerCase().match(/[\p{L}\p{N}]+(?:[.,]\d+)*/gu) ?? [])
		.filter((w) => !STOP.has(w))
		.map((w) => w.length > 4 ? w.replace(/(?:ies|ing|ed|es|s)$/u, "") : w);
}

const numbers = (text) => (text.match(/\d+(?:[.,]\d+)*/g) ?? []).map((n) => n.replace(/,/g, ""));

const strip = (markdown) => markdown
	.replace(/```[\s\S]*?```/g, " ")
	.replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
	.replace(/https?:\/\/\S+/g, " ")
	.replace(/^\s{0,3}(?:#{1,6}\s+.*|[-*_]{3,}\s*)$/gm, "\n")
	.replace(/^\s*(?:[-*+]|\d+[.)])\s+/gm, "\n")
	.replace(/[*_`>]/g, "");

const sentences = (text) => text
	.split(/\n\s*\n|(?<=[.!?])["')\]]*\s+(?=["'(\p{Lu}\d])|\n(?=\s*\n)/u)
	.map((s) => s.replace(/\s+/g, " ").trim())
	.filter((s) => s.length > 0);

// A sentence claims something when it has a number, or a name that does not only begin it.
const isClaim = (s) => /\d/.test(s) || /[\p{Ll},;:]\s+["'(]?\p{Lu}\p{L}+/u.test(s);

const urls = (text) => [...new Set((text.match(/https?:\/\/[^\s<>()"'\]]+/g) ?? [])
	.map((u) => u.replace(/[.,;:!?]+$/, "")))];

const textOf = (v) => typeof v === "string" ? v
	: v === null || typeof v !== "object" ? String(v)
	: typeof v.text === "string" ? v.text
	: typeof v.body === "string" ? v.body
	: typeof v.markdown === "string" ? v.markdown : JSON.stringify(v);

// Sources by word and number, so that a claim looks only at those that share a word with it.
function index(texts) {
	const byWord = new Map();
	const known = texts.map((text, i) => {
		for (const w of new Set(words(text)))
			byWord.has(w) ? byWord.get(w).push(i) : byWord.set(w, [i]);
		return new Set(numbers(text));
	});
	return { byWord, numbers: known };
}

// How much of the claim's words one source has, at best, from 0 to 1. A source that lacks one of its numbers has nothing.
function support(claim, { byWord, numbers: known }) {
	const found = new Map();
	for (const w of claim.words)
		for (const i of byWord.get(w) ?? [])
			found.set(i, (found.get(i) ?? 0) + 1);
	let best = 0;
	for (const [i, n] of found)
		if (n > best && claim.numbers.every((number) => known[i].has(number)))
			best = n;
	return claim.words.length === 0 ? 1 : best / claim.words.length;
}

function checkLength(text, { min = 0, max = Infinity, unit = "words" }) {
	const n = unit === "words" ? (text.match(/\S+/g) ?? []).length : [...text].length;
	if (n >= min && n <= max)
		return [];
	const wanted = n < min ? `at least ${min}` : `at most ${max}`;
	return [{ check: "length", message: `it has ${n} ${unit}, not ${wanted}` }];
}

function checkLinks(text, rule, sources) {
	const allow = rule === true ? [] : [].concat(rule.allow ?? []);
	const known = new Set(sources.flatMap((s) => urls(s)));
	return urls(text).filter((u) => !known.has(u) && !allow.some((prefix) => u.startsWith(prefix)))
		.map((url) => ({ check: "links", message: `${url} is in no source`, url }));
}

async function findSources(ctx, claim, rule) {
	const hits = await ctx.memory.search(claim.query, { limit: rule.limit ?? 5, prefix: rule.prefix });
	return index(hits.map((h) => `${h.title ?? ""}\n${h.text ?? ""}`));
}

async function checkClaims(ctx, text, rule, sources) {
	const given = index(sources);
	const search = rule.prefix !== undefined || sources.length === 0;
	const threshold = rule.threshold ?? 0.6;
	const claims = sentences(strip(text)).filter(isClaim).slice(0, MAX_CLAIMS)
		.map((s) => ({ text: s, words: [...new Set(words(s))], numbers: numbers(s) }))
		.map((claim) => ({ ...claim, query: claim.words.slice(0, 24).join(" ") }));
	const problems = [];
	for (const claim of claims) {
		let best = support(claim, given);
		if (best < threshold && search && claim.query.length > 0)
			best = Math.max(best, support(claim, await findSources(ctx, claim, rule)));
		if (best < threshold)
			problems.push({
				check: "claims", message: `no source has: ${claim.text}`, claim: claim.text,
				support: Math.round(best * 100) / 100,
			});
	}
	return { total: claims.length, problems };
}

// The core knows these words too: a confidence counts only where a model was asked in them (core/verify.c).
const SYSTEM = "You check a text against its sources. Answer with JSON alone: " +
	'{"confidence": 0 to 1, "problems": ["…"]}.';

// One form for all spellings of a value: what the core hashes.
const canonical = (v) => v === null || typeof v !== "object" ? JSON.stringify(v)
	: Array.isArray(v) ? `[${v.map((x) => canonical(x ?? null)).join(",")}]`
	: `{${Object.keys(v).filter((k) => v[k] !== undefined).sort()
		.map((k) => `${JSON.stringify(k)}:${canonical(v[k])}`).join(",")}}`;

// What the evidence is worth is found outside of the flow, in a step: its number is the handle that a call carries.
async function record(ctx, value, checks, second) {
	const found = await ctx.call("verify.check", {
		value, schema: checks.schema, citations: checks.citations, model: second?.args,
	});
	return { confidence: found.confidence / 1000, step: found.step, findings: found.findings };
}

// A second model reads the draft. One that cannot answer in the form asked for says nothing.
async function askModel(ctx, text, rule, sources) {
	const args = {
		...(rule.model === undefined ? { tier: rule.tier ?? "quality" } : { model: rule.model }),
		max_tokens: rule.max_tokens ?? 800, system: SYSTEM,
		messages: [{ role: "user", content: `SOURCES\n${sources.join("\n---\n").slice(0, 60000)}\n\nTEXT\n${text}` }],
	};
	const answer = await ctx.call("model.generate", args);
	const read = readJson(answer.text ?? "")?.value;
	const confidence = typeof read?.confidence === "number" ? Math.min(1, Math.max(0, read.confidence)) : null;
	const problems = confidence === null || !Array.isArray(read.problems) ? [] : read.problems;
	return { args, confidence, problems: problems.map((p) => ({ check: "model", message: String(p) })) };
}

export async function verify(ctx, value, checks = {}) {
	const text = textOf(value);
	const claims = checks.claims === true ? {} : checks.claims;
	const sources = [].concat(checks.sources ?? [], claims?.texts ?? []).map(textOf);
	const problems = [];
	let confidence = 1;
	const weigh = (found, of) => {
		problems.push(...found);
		if (found.length > 0)
			confidence *= of > 0 ? Math.max(0, 1 - found.length / of) : 0.5;
	};
	if (checks.schema !== undefined) {
		const fault = checkSchema(checks.schema, value);
		weigh(fault ? [{ check: "schema", message: fault }] : [], 0);
	}
	if (checks.length !== undefined)
		weigh(checkLength(text, checks.length), 0);
	if (checks.links)
		weigh(checkLinks(text, checks.links, sources), urls(text).length);
	let claimed = 0;
	if (claims) {
		const found = await checkClaims(ctx, text, claims, sources);
		claimed = found.total;
		weigh(found.problems, found.total);
	}
	let second;
	if (checks.model) {
		const all = value !== null && typeof value === "object" ? canonical(value) : text;
		second = await askModel(ctx, all, checks.model === true ? {} : checks.model, sources);
		problems.push(...second.problems);
		if (second.confidence !== null)
			confidence *= second.confidence;
	}
	const verdict = {
		ok: problems.length === 0, confidence: Math.round(confidence * 1000) / 1000, problems, claims: claimed,
	};
	// What is so short could stand in any call.
	if ((checks.citations === undefined && !checks.model) || canonical(value).length < 16)
		return verdict;
	const proven = await record(ctx, value, checks, second);
	for (const f of proven.findings)
		if (f.check === "citations" && f.worth < 1000)
			problems.push({ check: "citations", message: "not every citation is in what is known" });
	return {
		...verdict, ok: problems.length === 0, confidence: Math.min(verdict.confidence, proven.confidence),
		step: proven.step,
	};
}
