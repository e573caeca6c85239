// The flow that every agent's run is: ask the model, do what tools it calls, until it answers.
import { flow } from "aios";
import { actions } from "aios:actions";

const TURNS = 12;
const RESULT_MAX = 60000;

// Models want names without dots.
const toolName = (action) => action.replace(/[^a-zA-Z0-9_-]/g, "_");

const toolsOf = (definition) => (definition.tools ?? []).map((action) => ({
	action,
	name: toolName(action),
	args: actions[action]?.args ?? { type: "object" },
}));

function question(input) {
	const { agent, task, ...rest } = input;
	if (Object.keys(rest).length === 0)
		return task;
	const written = (value) => typeof value === "string" ? value : JSON.stringify(value, null, 1);
	const given = Object.entries(rest).map(([key, value]) => `## ${key}\n\n${written(value)}`);
	return `${task}\n\n${given.join("\n\n")}`;
}

const cut = (s) => (s.length > RESULT_MAX ? `${s.slice(0, RESULT_MAX)}…` : s).toWellFormed();

// What the model reads about a tool call. A failure is an answer too: the model may try something else.
async function useTool(ctx, tools, wanted) {
	const tool = tools.find((t) => t.name === wanted.name);
	if (!tool)
		return { role: "tool", id: wanted.id, content: `there is no tool ${wanted.name}`, error: true };
	try {
		const result = await ctx.call(tool.action, wanted.args ?? {});
		const content = typeof result === "string" ? result : JSON.stringify(result ?? null);
		return { role: "tool", id: wanted.id, content: cut(content) };
	} catch (e) {
		if (typeof e.code !== "string" || e.code === "cancelled")
			throw e;
		return { role: "tool", id: wanted.id, content: cut(`${e.code}: ${e.message}`), error: true };
	}
}

export default flow({ name: "agent" }, async (ctx, input) => {
	const definition = ctx.run.context?.agent ?? input.agent;
	if (definition === null || typeof definition !== "object")
		throw new TypeError("an agent's run needs its definition");
	const tools = toolsOf(definition);
	const messages = [{ role: "user", content: question(input) }];
	const limit = definition.turns ?? TURNS;
	const used = [];
	for (let turn = 1; ; turn++) {
		const answer = await ctx.call("model.generate", {
			...(definition.model ? { model: definition.model } : { tier: definition.tier ?? "quality" }),
			system: definition.instructions,
			messages,
			max_tokens: definition.max_tokens ?? 2048,
			// In its last turn it must answer with what it has.
			tools: tools.length > 0 && turn < limit ? tools.map(({ name, args }) => ({ name, args })) : undefined,
		});
		const wanted = turn < limit ? answer.tool_calls ?? [] : [];
		if (wanted.length === 0)
			return { text: answer.text ?? "", turns: turn, tools: used, model: answer.model, stop: answer.stop };
		const calls = wanted.map(({ id, name, args }) => ({ id, name, args: args ?? {} }));
		messages.push({ role: "assistant", content: answer.text || undefined, tool_calls: calls });
		for (const result of await Promise.all(wanted.map((w) => useTool(ctx, tools, w)))) {
			messages.push(result);
			used.push(wanted.find((w) => w.id === result.id).name);
		}
	}
});
