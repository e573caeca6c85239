const UNITS = { ms: 1, s: 1000, m: 60000, h: 3600000, d: 86400000, w: 604800000 };

// Milliseconds of a number, or of a text such as "90s", "2d" or "1h30m".
export function duration(value, what) {
	if (typeof value === "number" && Number.isFinite(value) && value >= 0)
		return Math.round(value);
	if (typeof value === "string" && /^(\s*\d+(\.\d+)?\s*(ms|s|m|h|d|w))+\s*$/.test(value)) {
		let sum = 0;
		for (const [, n, , unit] of value.matchAll(/(\d+(\.\d+)?)\s*(ms|s|m|h|d|w)/g))
			sum += Number(n) * UNITS[unit];
		return Math.round(sum);
	}
	throw new TypeError(`${what} must be milliseconds or a text such as "90s", "2d", "1h30m"`);
}

// A point in time as milliseconds: a Date, an ISO text, or milliseconds.
export function instant(value, what) {
	const ms = value instanceof Date ? value.getTime() : typeof value === "string" ? Date.parse(value) : value;
	if (typeof ms !== "number" || !Number.isFinite(ms))
		throw new TypeError(`${what} must be a Date, a text such as "2026-05-01T09:00Z", or milliseconds`);
	return Math.round(ms);
}
