import { duration } from "aios:time";

// What flow({…}, fn) may declare. Checked when a flow is deployed, not at every start of a run.
const MEMBERS = {
	name: (v) => typeof v === "string" && /^[a-z][a-z0-9_-]{0,63}$/.test(v)
		? null : "must be a word of a-z, 0-9, - and _",
	title: text,
	description: text,
	input: object,
	output: object,
	on: (v) => list(v) ?? v.map(trigger).find((fault) => fault) ?? null,
	budget: object,
	concurrency: (v) => object(v) ?? (Number.isInteger(v.limit) && v.limit > 0 ? null : "needs a limit, such as 1"),
	grants: (v) => list(v) ?? (v.every((g) => !text(g)) ? null : "must be a list of action names"),
	rate: (v) => typeof v === "string" ? null : object(v),
	priority: (v) => Number.isInteger(v) && Math.abs(v) <= 10 ? null : "must be a whole number from -10 to 10",
	retention: text,
	timeout: (v) => { duration(v, "flow(): timeout"); return null; },
};

function text(v) {
	return typeof v === "string" && v.length > 0 ? null : "must be text";
}

function object(v) {
	return v !== null && typeof v === "object" && !Array.isArray(v) ? null : "must be an object";
}

function list(v) {
	return Array.isArray(v) ? null : "must be a list";
}

function trigger(t) {
	const fault = object(t);
	if (fault)
		return `has a trigger that ${fault}`;
	return ["cron", "every", "at", "webhook", "event"].some((k) => typeof t[k] === "string" || typeof t.every === "number")
		? null : 'has a trigger without cron, every, at or event, such as { cron: "0 7 * * MON" }';
}

export function describe(spec, entry, interpreter) {
	const ret = { name: /([^/]*?)(\.[a-z]+)?$/.exec(entry)[1], ...spec };
	for (const key of Object.keys(ret)) {
		if (!Object.hasOwn(MEMBERS, key))
			throw new TypeError(`flow(): ${key} is unknown; it has ${Object.keys(MEMBERS).join(", ")}`);
		const fault = MEMBERS[key](ret[key]);
		if (fault)
			throw new TypeError(`flow(): ${key} ${fault}`);
	}
	if (ret.timeout !== undefined)
		ret.timeout = duration(ret.timeout, "timeout");
	return { ...ret, interpreter };
}
