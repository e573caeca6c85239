// A step that failed or was denied rejects with a StepError; ctx.approve with a Denied.
export class StepError extends Error {
	constructor(problem, step, action) {
		const p = problem !== null && typeof problem === "object" ? problem : { message: String(problem) };
		super(typeof p.message === "string" ? p.message : `${action} failed`);
		this.name = "StepError";
		this.code = typeof p.code === "string" ? p.code : "failed";
		this.step = step;
		this.action = action;
		this.problem = p;
	}
}

export class Denied extends StepError {
	constructor(answer, step) {
		const why = answer.reason ? `: ${answer.reason}` : "";
		const what = answer.answer === "expired" ? "nobody answered in time" : "denied";
		const code = answer.answer === "expired" ? "expired" : "denied";
		super({ code, message: what + why }, step, "gate.ask");
		this.name = "Denied";
		this.answer = answer.answer;
		this.reason = answer.reason ?? "";
		this.approval = answer.approval;
		this.by = answer.by;
	}
}

export const stepError = (problem, step, action) => new StepError(problem, step, action);
