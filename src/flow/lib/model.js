// ctx.model: one question to a model. With a schema the answer is read as JSON and checked; if it fails, asked for again.
import { StepError } from "aios:errors";
import { check } from "aios:schema";

const MAX_TOKENS = 1024;

// The first JSON value in a text: the whole of it, what stands in a fence, or from the first bracket to its end.
export function readJson(text) {
	const fenced = /```(?:json)?\s*\n([\s\S]*?)```/.exec(text);
	const from = text.search(/[[{]/);
	const to = Math.max(text.lastIndexOf("}"), text.lastIndexOf("]"));
	for (const part of [text, fenced?.[1], from >= 0 ? text.slice(from, to + 1) : undefined]) {
		try {
			if (part !== undefined)
				return { value: JSON.parse(part) };
		} catch {
			// the next way of reading it
		}
	}
	return null;
}

function argsOf(request) {
	const { prompt, schema, messages, max_tokens = MAX_TOKENS, ...rest } = request;
	if ((prompt === undefined) === (messages === undefined))
		throw new TypeError("ctx.model: pass either prompt (a text) or messages");
	if (rest.tier === undefined && rest.model === undefined)
		rest.tier = "quality";
	return { ...rest, max_tokens, messages: messages ?? [{ role: "user", content: prompt }] };
}

export async function generate(call, request) {
	const args = argsOf(request);
	const { schema } = request;
	if (schema === undefined)
		return call("model.generate", args);
	const rule = `Answer with one JSON value and nothing else. It must match this schema: ${JSON.stringify(schema)}`;
	args.system = args.system ? `${args.system}\n\n${rule}` : rule;
	let fault;
	for (let attempt = 0; attempt < 2; attempt++) {
		const answer = await call("model.generate", args);
		if (answer.dry)
			return { ...answer, value: null }; // a dry run asked nobody: there is nothing to check
		const read = readJson(answer.text ?? "");
		fault = read ? check(schema, read.value) : "the answer is not JSON";
		if (!fault)
			return { ...answer, value: read.value };
		args.messages = [...args.messages, { role: "assistant", content: answer.text ?? "" },
			{ role: "user", content: `That does not fit: ${fault}. Answer again with JSON alone.` }];
	}
	const message = `the model's answer does not match the schema: ${fault}`;
	throw new StepError({ code: "schema", message }, undefined, "model.generate");
}
