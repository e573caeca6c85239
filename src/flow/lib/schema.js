// The part of JSON Schema that answers of models are checked with. Returns the first fault as text, or null.
const TYPES = {
	object: (v) => v !== null && typeof v === "object" && !Array.isArray(v),
	array: Array.isArray,
	string: (v) => typeof v === "string",
	number: (v) => typeof v === "number",
	integer: (v) => Number.isInteger(v),
	boolean: (v) => typeof v === "boolean",
	null: (v) => v === null,
};

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

function checkString(s, v, at) {
	if (s.minLength !== undefined && v.length < s.minLength)
		return `${at} is shorter than ${s.minLength}`;
	if (s.maxLength !== undefined && v.length > s.maxLength)
		return `${at} is longer than ${s.maxLength}`;
	if (s.pattern !== undefined && !new RegExp(s.pattern, "u").test(v))
		return `${at} does not match ${s.pattern}`;
	return null;
}

function checkNumber(s, v, at) {
	if (s.minimum !== undefined && v < s.minimum)
		return `${at} is below ${s.minimum}`;
	if (s.maximum !== undefined && v > s.maximum)
		return `${at} is above ${s.maximum}`;
	return null;
}

function checkArray(s, v, at) {
	if (s.minItems !== undefined && v.length < s.minItems)
		return `${at} has fewer than ${s.minItems} items`;
	if (s.maxItems !== undefined && v.length > s.maxItems)
		return `${at} has more than ${s.maxItems} items`;
	for (let i = 0; s.items !== undefined && i < v.length; i++) {
		const fault = check(s.items, v[i], `${at}[${i}]`);
		if (fault)
			return fault;
	}
	return null;
}

function checkObject(s, v, at) {
	for (const key of s.required ?? [])
		if (!Object.hasOwn(v, key))
			return `${at}.${key} is missing`;
	for (const key of Object.keys(v)) {
		const known = s.properties !== undefined && Object.hasOwn(s.properties, key);
		if (!known && s.additionalProperties === false)
			return `${at}.${key} is not expected`;
		const rule = known ? s.properties[key] : s.additionalProperties;
		const fault = rule !== null && typeof rule === "object" ? check(rule, v[key], `${at}.${key}`) : null;
		if (fault)
			return fault;
	}
	return null;
}

export function check(s, v, at = "value") {
	if (s === true)
		return null;
	if (s === false)
		return `${at} is not expected`;
	const types = s.type === undefined ? [] : [].concat(s.type);
	if (types.length > 0 && !types.some((t) => TYPES[t]?.(v)))
		return `${at} is not of type ${types.join(" or ")}`;
	if (s.const !== undefined && !same(s.const, v))
		return `${at} is not ${JSON.stringify(s.const)}`;
	if (s.enum !== undefined && !s.enum.some((e) => same(e, v)))
		return `${at} is none of ${JSON.stringify(s.enum)}`;
	if (s.anyOf !== undefined && s.anyOf.every((one) => check(one, v, at)))
		return check(s.anyOf[0], v, at);
	if (typeof v === "string")
		return checkString(s, v, at);
	if (typeof v === "number")
		return checkNumber(s, v, at);
	if (Array.isArray(v))
		return checkArray(s, v, at);
	return TYPES.object(v) ? checkObject(s, v, at) : null;
}
