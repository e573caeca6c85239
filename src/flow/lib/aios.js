// What flows import.
import { definition } from "aios:native";
export { StepError, Denied } from "aios:errors";
export { duration } from "aios:time";

export function flow(spec, fn) {
	if (typeof spec === "function" && fn === undefined)
		[spec, fn] = [{}, spec];
	if (spec === null || typeof spec !== "object" || typeof fn !== "function")
		throw new TypeError("flow() takes what the flow declares and its function: flow({ … }, async (ctx, input) => { … })");
	return definition(spec, fn);
}
