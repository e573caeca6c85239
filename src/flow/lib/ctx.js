// `ctx`: one frozen object for all runs of a realm. It holds nothing; whose step a call is, aios:native knows.
import { attribute, call as step, context, customer, inspecting, random, time } from "aios:native";
import { describe } from "aios:describe";
import { Denied, StepError, stepError } from "aios:errors";
import { generate } from "aios:model";
import { duration, instant } from "aios:time";
import { verify } from "aios:verify";

export { describe, stepError };

const OPTIONS = ["key", "retry", "timeout", "customer", "approval", "confidence", "undo"];

function optionsOf(given) {
	const ret = { customer: customer(), ...given };
	for (const key of Object.keys(ret))
		if (!OPTIONS.includes(key))
			throw new TypeError(`ctx.call: the option ${key} is unknown; there are ${OPTIONS.join(", ")}`);
	if (ret.timeout !== undefined)
		ret.timeout = duration(ret.timeout, "timeout");
	if (ret.approval !== null && typeof ret.approval === "object")
		ret.approval = ret.approval.approval;
	if (ret.confidence !== null && typeof ret.confidence === "object")
		ret.confidence = ret.confidence.step;
	if (ret.confidence !== undefined && !Number.isInteger(ret.confidence))
		throw new TypeError("ctx.call: confidence is what ctx.verify gave, with citations or a model");
	return ret;
}

function call(action, args, options) {
	if (args === undefined)
		args = {};
	if (options === undefined && customer() === undefined)
		return step(action, args, undefined);
	return step(action, args, optionsOf(options));
}

function need(value, type, what) {
	if (typeof value !== type)
		throw new TypeError(`${what} must be a ${type}`);
	return value;
}

const optional = (value, what) => value === undefined ? undefined : duration(value, what);

// --- memory ------------------------------------------------------------------------------------------------------

const PAGE = 500;

async function entries(prefix, options = {}) {
	need(prefix, "string", "ctx.memory.list: the prefix");
	if (options.limit !== undefined)
		return (await call("memory.list", { prefix, limit: options.limit, after: options.after })).items;
	const all = [];
	for (let after = options.after; ;) {
		const { items } = await call("memory.list", { prefix, limit: PAGE, after });
		for (const item of items)
			all.push(item);
		if (items.length < PAGE)
			return all;
		after = items[items.length - 1].key;
	}
}

const memory = {
	async get(key) {
		return (await call("memory.get", { key }))?.value ?? null;
	},
	entry: (key) => call("memory.get", { key }),
	put: (key, value, { base, source, ...rest } = {}) => call("memory.put", { key, value, base, source, ...rest }),
	async list(prefix, options) {
		return (await entries(prefix, options)).map((item) => item.value);
	},
	entries,
	async history(key, options) {
		return (await call("memory.history", { key, ...options })).items;
	},
	async search(query, options) {
		return (await call("memory.search", { query, ...options })).hits;
	},
	document: (id, text, meta) => call("memory.document", { id, text, meta }),
	forget: (key) => call("memory.forget", { key }),
};

const session = (id) => ({
	get: () => call("session.get", { id }),
	put: (value, { ttl } = {}) => call("session.put", { id, value, ttl_ms: optional(ttl, "ttl") }),
});

// --- waits -------------------------------------------------------------------------------------------------------

// A wait with a time limit of its own.
const limited = (timeout) => timeout === undefined ? undefined : { timeout };

const names = (v) => typeof v === "string" ? [v] : v;

// Who may decide, how many must agree, who is told and when; undefined where the question says nothing of it.
function terms({ approvers, need, denials, operator, escalate, remind, announce, quiet, urgent, sign }) {
	const said = {
		approvers: names(approvers), need, denials, operator, announce: names(announce), quiet, urgent, sign,
		escalate: escalate?.map(({ after, to }) => ({ after_ms: duration(after, "escalate: after"), to: names(to) })),
		remind_ms: optional(remind, "remind"),
	};
	return Object.values(said).some((v) => v !== undefined) ? said : undefined;
}

async function approve({ title, show, edit, expires, onExpiry, allows, timeout, ...who }) {
	const answer = await call("gate.ask", {
		title, show, edit, allows, on_expiry: onExpiry, expires_ms: optional(expires, "expires"), terms: terms(who),
	}, limited(timeout));
	const passes = answer.answer === "approve" || answer.answer === "edit" ||
		(answer.answer === "expired" && (onExpiry === "approve" || onExpiry === "value"));
	if (!passes)
		throw new Denied(answer);
	return answer;
}

function sleep(how) {
	if (how !== null && typeof how === "object" && !(how instanceof Date))
		return call("timer.sleep", { until_ms: instant(how.until, "until") });
	if (how instanceof Date)
		return call("timer.sleep", { until_ms: instant(how, "until") });
	return call("timer.sleep", { ms: duration(how, "ctx.sleep") });
}

const signal = (name, { timeout } = {}) => call("signal.wait", { name, timeout_ms: optional(timeout, "timeout") });

const event = (topic, { timeout } = {}) => call("event.wait", { topic, timeout_ms: optional(timeout, "timeout") });

const publish = (topic, payload = null, { key } = {}) => call("event.publish", { topic, payload, key });

// --- children ------------------------------------------------------------------------------------------------------

function agent(name, task) {
	const about = typeof task === "string" ? { task } : task;
	if (about === null || typeof about !== "object" || typeof about.task !== "string")
		throw new TypeError('ctx.agent: the task is a text, or an object with a task: { task: "…", notes }');
	const { timeout, ...args } = about;
	return call("agent.run", { ...args, agent: name }, limited(timeout));
}

const start = (flow, input = {}, { key, delay, priority } = {}) =>
	call("run.start", { flow, input, key, delay_ms: optional(delay, "delay"), priority });

// Of a run that went on as a further generation, it is the last one's end that counts.
async function wait(run, { timeout } = {}) {
	const limit = optional(timeout, "timeout"), until = limit === undefined ? undefined : time() + limit;
	let id = need(run !== null && typeof run === "object" ? run.run : run, "number", "ctx.wait: the run");
	for (;;) {
		const left = until === undefined ? undefined : Math.max(0, until - time());
		const ended = await call("run.wait", { run: id, timeout_ms: left });
		if (ended.next === undefined)
			return ended;
		id = ended.next;
	}
}

// --- undo ----------------------------------------------------------------------------------------------------------

const checkpoint = (name) => call("run.checkpoint", { name: need(name, "string", "ctx.checkpoint: the name") });

const rollback = (to) => call("run.rollback", to === undefined ? {} : { to: need(to, "string", "ctx.rollback: the checkpoint") });

async function again(state = {}) {
	await call("run.again", { state });
	return new Promise(() => {}); // this run has ended: nothing of it goes on
}

function frozen(v) {
	if (v !== null && typeof v === "object") {
		Object.values(v).forEach(frozen);
		Object.freeze(v);
	}
	return v;
}

function makeRun(about) {
	frozen(about);
	const run = (flow, input = {}, { timeout, shed } = {}) => call("run.call", { flow, input, shed }, limited(timeout));
	const hidden = ["name", "length", "prototype"];
	for (const [key, value] of Object.entries(about ?? {}))
		if (!hidden.includes(key))
			Object.defineProperty(run, key, { value, enumerable: true });
	Object.defineProperty(run, "context", { value: about });
	return Object.freeze(run);
}

// --- learning ------------------------------------------------------------------------------------------------------

function experiment(name, arms, { mode } = {}) {
	return call("experiment.choose", { name, arms, mode });
}
experiment.counts = async (name) => (await call("experiment.counts", { name })).arms;

const outcome = (name, value, about = {}) =>
	call("outcome.record", { ...about, name, value, customer: about.customer ?? customer() });

// --- words ---------------------------------------------------------------------------------------------------------

const shown = (v) => {
	if (typeof v === "string")
		return v;
	if (v instanceof Error)
		return v.stack ? `${v.name}: ${v.message}\n${v.stack}` : String(v);
	try {
		return JSON.stringify(v) ?? String(v);
	} catch {
		return String(v);
	}
};

const cut = (s) => (s.length > 4000 ? `${s.slice(0, 4000)}…` : s).toWellFormed();

const writer = (level) => (...parts) => {
	if (inspecting())
		return Promise.resolve(null);
	return step("log.write", { level, text: cut(parts.map(shown).join(" ")) }, undefined);
};

const log = writer("info");
log.debug = writer("debug");
log.info = log;
log.warn = writer("warning");
log.error = writer("error");

Object.defineProperty(globalThis, "console", {
	value: { log: (...p) => void log(...p), info: (...p) => void log(...p), debug: (...p) => void log.debug(...p),
		warn: (...p) => void log.warn(...p), error: (...p) => void log.error(...p) },
	enumerable: false,
});

export const ctx = {
	get run() {
		return context(makeRun);
	},
	call,
	model: (request) => generate(call, request),
	agent,
	memory,
	session,
	approve,
	sleep,
	signal,
	event,
	publish,
	start,
	wait,
	checkpoint,
	rollback,
	again,
	verify: (value, checks) => verify(ctx, value, checks),
	experiment,
	outcome,
	attribute({ customer: id } = {}) {
		attribute(id === undefined || id === null ? undefined : need(id, "string", "ctx.attribute: customer"));
	},
	now: () => time(),
	random: () => random(),
	log,
};
