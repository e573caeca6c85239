// A first flow: it writes a greeting, shows it to you, and remembers what you approved.
import { flow } from "aios";

export default flow({
  name: "hello",
  input: { type: "object", properties: { name: { type: "string" } } },
  grants: ["memory.*", "gate.ask"],
}, async (ctx, input) => {
  const text = `Hello ${input.name || "world"}`;
  const { value } = await ctx.approve({ title: "A greeting", show: text, edit: true, expires: "2d" });
  await ctx.memory.put("greetings/last", { text: value });
  return { text: value };
});
