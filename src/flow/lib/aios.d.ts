// Types of the flow library, for editors. Put into a workspace as aios.d.ts by `aios init` and `aios deploy`.
declare module "aios" {
	/** What JSON can carry. Arguments and results of steps are this. */
	export type Json = null | boolean | number | string | Json[] | { [key: string]: Json | undefined };

	/** Milliseconds, or a text such as "90s", "2d", "1h30m" (ms, s, m, h, d, w). */
	export type Duration = number | string;

	/** A JSON Schema. */
	export type Schema = { [key: string]: unknown } | boolean;

	/** What a flow declares; read at `aios deploy`. */
	export interface FlowSpec {
		/** Its name: a-z, 0-9, - and _. Without it: the file's name. */
		name?: string;
		title?: string;
		description?: string;
		/** What its input must be; checked before a run starts. */
		input?: Schema;
		/**
		 * JSON Schema of what it returns, for those who call it with `shed`: closed objects, numbers, yes or no, and texts
		 * with an enum, or a pattern and a maxLength of at most 128.
		 */
		output?: object;
		/** When it starts by itself, and which events start it. */
		on?: Trigger[];
		/** What it may spend: `{ run: "0.50 USD", month: "20 USD" }`. */
		budget?: { run?: string; month?: string };
		/**
		 * How many runs with the same key may be under way: `{ key: "input.issue", limit: 1 }`. The key is an expression
		 * over `input`; without it all runs of the flow count. Those beyond the limit wait in order ("fifo"), or the newest
		 * replaces who waits and cancels the one that has run longest ("replace"), or is refused ("reject").
		 */
		concurrency?: { key?: string; limit: number; policy?: "fifo" | "replace" | "reject" };
		/** How many may start in a time, by key: "10/m", `{ limit: "10/m", key: "input.site" }`. Further ones wait. */
		rate?: string | { limit: string; key?: string };
		/** Who waits is admitted by priority, -10 to 10 (0); a level is worth a minute of waiting. */
		priority?: number;
		/** What its runs may do: action names or patterns such as "memory.*". Nothing else is allowed. */
		grants?: string[];
		/** "90d": a run that ended longer ago is forgotten, but for what memory, figures and the log have of it. Without: never. */
		retention?: string;
		/** How long a run may take: then it fails with the code "timeout", and what it waits for with it. */
		timeout?: Duration;
	}

	/** A time at which a flow starts by itself, or an event that starts it. */
	export type Trigger = Schedule | EventTrigger | { webhook: string };

	/** One of cron, every and at. The run's input is `input` with { schedule: { name, due, missed } }. */
	export interface Schedule {
		/** Five fields: minute, hour, day of the month, month, day of the week ("0 7 * * MON"); or "@daily" and the like. */
		cron?: string;
		/** An interval of a second to a year, counted from the deploy that set it: "15m". */
		every?: Duration;
		/** Once: "2027-01-01T09:00", in the zone `tz` where it names no offset itself. */
		at?: string;
		/** Time zone: "Europe/Amsterdam". Without: UTC. */
		tz?: string;
		/** Times that were missed while the machine slept: the last one (default), none, or all of them up to catchUpMax (10). */
		catchUp?: "last" | "skip" | "all";
		catchUpMax?: number;
		/** While a run of this schedule is open: no further one (default), one beside it, one after it, one instead of it. */
		overlap?: "skip" | "allow" | "queue" | "replace";
		/** "22:00-07:00": what is due then starts once, at the end. */
		quiet?: string;
		input?: { [key: string]: Json };
	}

	/** A topic (order.paid), all below one (order.*), or all (*). The run's input is `input` with { event: Event }. */
	export interface EventTrigger {
		event: string;
		input?: { [key: string]: Json };
	}

	/** What was published. */
	export interface Event<T = any> {
		topic: string;
		payload: T;
		/** When, in milliseconds. */
		at: number;
		/** Its position in the log. */
		id: number;
	}

	export type FlowFunction<Input = any, Result = any> = (ctx: Ctx, input: Input) => Promise<Result> | Result;

	/** Declares a flow. A module's default export must be what this returns. */
	export function flow<Input = any, Result = any>(spec: FlowSpec, fn: FlowFunction<Input, Result>): Flow;
	export function flow<Input = any, Result = any>(fn: FlowFunction<Input, Result>): Flow;
	export interface Flow {
		readonly " flow": never;
	}

	/** A step that failed, or that was not allowed. */
	export class StepError extends Error {
		/** A word: "denied", "invalid", "unknown_action", "budget", "failed", "timeout", "cancelled", … */
		readonly code: string;
		/** The step's number in its run. */
		readonly step: number | undefined;
		readonly action: string;
		/** The whole problem as it was recorded. */
		readonly problem: { code?: string; message?: string; [key: string]: unknown };
	}

	/** A person said no to ctx.approve, or nobody answered in time. */
	export class Denied extends StepError {
		readonly answer: "deny" | "expired";
		readonly reason: string;
		readonly by: string;
		readonly approval: number;
	}

	/** The milliseconds of "90s", "2d", "1h30m". */
	export function duration(value: Duration, what?: string): number;

	export interface CallOptions {
		/** An idempotency key of your own; without it, run and step make one. */
		key?: string;
		/** How often it is tried at most; with it, the last failure rejects instead of parking the run. */
		retry?: number | { attempts: number };
		/**
		 * How long the step may take with everything: gates, retries, waiting. Then it fails with the code "timeout" —
		 * unless it may have happened and that can be found out: then the outside, or a person, is asked.
		 */
		timeout?: Duration;
		/** Whom it is for: costs and policy see it. */
		customer?: string;
		/** The approval that ctx.approve gave: meets a rule that would ask a person again. */
		approval?: number | Approved;
		/** What ctx.verify said of a value that stands in the arguments: policy rules read it as `confidence`. */
		confidence?: number | Verdict;
		/** The call that takes it back, or null: nothing can. See ctx.rollback. */
		undo?: Undo | null;
	}

	/**
	 * A call that takes a step back. It is made by a rollback only, judged and retried like any other; where its
	 * arguments hold `{ $result: "/json/pointer" }`, what the step's result has there is filled in ("": all of it).
	 */
	export interface Undo {
		action: string;
		args?: { [key: string]: Json };
		/** How often it is tried at most. */
		retry?: number | { attempts: number };
	}

	/** What a rollback did to one step. */
	export interface Undone {
		/** The step: of this run, or of one that it ran. */
		run: number;
		step: number;
		action: string;
		/** "given_up": its undo failed, and a person said to leave it. */
		outcome: "undone" | "given_up";
		/** The action that undid it, and where that stands. */
		undo: string;
		undo_run: number;
		undo_step: number;
	}

	export interface Message {
		role: "user" | "assistant" | "tool";
		content?: string;
		tool_calls?: ToolCall[];
		/** role "tool": which call it answers. */
		id?: string;
		error?: boolean;
	}
	export interface ToolCall {
		id: string;
		name: string;
		args: { [key: string]: Json };
	}
	export interface ModelRequest<T = unknown> {
		/** A tier of aios.yaml: draft, quality, live, local. Default: quality. */
		tier?: string;
		/** One model instead of a tier: "anthropic/claude-sonnet-4-5". */
		model?: string;
		system?: string;
		/** One question; or `messages`. */
		prompt?: string;
		messages?: Message[];
		/** Default 1024. */
		max_tokens?: number;
		temperature?: number;
		tools?: { name: string; description?: string; args: Schema }[];
		/** The answer is read as JSON, checked against it (asked for once more if it fails), and given as `value`. */
		schema?: Schema;
	}
	export interface ModelAnswer<T = unknown> {
		text: string;
		tool_calls?: ToolCall[];
		/** Why it ended: "end", "length", "tools", … */
		stop: string;
		/** The model that answered. */
		model: string;
		usage: { [key: string]: number };
		/** With a schema: the answer as a value; null in a dry run that did not ask. */
		value: T;
		/** A dry run did not ask this model, since it costs: `text` is empty. */
		dry?: true;
	}

	export interface AgentAnswer {
		text: string;
		/** How many questions to the model it took. */
		turns: number;
		/** The tools that it used, in order. */
		tools: string[];
		model: string;
		stop: string;
	}

	export interface Fact<T = any> {
		key: string;
		value: T;
		version: number;
		at?: number;
	}
	export interface Written<T = any> {
		version: number;
		value: T;
		at: number;
		run: number;
		by: string;
		source: string;
	}
	export interface DocumentMeta {
		title?: string;
		source?: string;
		[key: string]: Json | undefined;
	}
	export interface Hit {
		id: string;
		kind: "fact" | "document";
		title: string;
		text: string;
		score: number;
	}
	export interface Memory {
		/** The value of a fact, or null. */
		get<T = any>(key: string): Promise<T | null>;
		/** The fact with its version, or null. */
		entry<T = any>(key: string): Promise<Fact<T> | null>;
		/**
		 * Writes a fact. With `base` (0: it must be new) it fails with code "conflict" unless that is the current
		 * version. `source`: where it comes from, for people.
		 */
		put(key: string, value: Json, options?: { base?: number; source?: string }): Promise<{ version: number }>;
		/** The values of all facts below a prefix, in key order; with `limit` one page, behind the key `after`. */
		list<T = any>(prefix: string, options?: { limit?: number; after?: string }): Promise<T[]>;
		/** The same with keys and versions. */
		entries<T = any>(prefix: string, options?: { limit?: number; after?: string }): Promise<Fact<T>[]>;
		/** All versions of a fact, with who wrote them and why. */
		history(key: string, options?: { limit?: number }): Promise<Written[]>;
		/** Full-text search over facts and documents. */
		search(query: string, options?: { limit?: number; prefix?: string }): Promise<Hit[]>;
		/** Stores a text to be found by search. */
		document(id: string, text: string, meta?: DocumentMeta): Promise<{ id: string }>;
		/** Removes a fact; its history stays. */
		forget(key: string): Promise<{ version: number }>;
	}

	export interface Session {
		get<T = any>(): Promise<T | null>;
		put(value: Json, options?: { ttl?: Duration }): Promise<null>;
	}

	export interface Question {
		title: string;
		/** What the person sees, and what the approval is bound to. */
		show: any;
		/** May it be edited before it is approved? */
		edit?: boolean;
		/** How long the question stands. Default: for ever. */
		expires?: Duration;
		/** The step's time limit: with it the question is withdrawn, and the call rejects with the code "timeout". */
		timeout?: Duration;
		/** When it expires: "deny" (the default), "approve", or go on with the value as shown ("value"). */
		onExpiry?: "deny" | "approve" | "value";
		/**
		 * Lets later calls through that would meet a gate: at most `count` calls of `action` whose `fixed` arguments
		 * equal what was approved. A list of names: any value in what was approved; an object: JSON pointers into it.
		 */
		allows?: { action: string; count: number; fixed: string[] | { [arg: string]: string | string[] } };
		/**
		 * Who may decide besides the operator: keys ("key/anna", "key/*") that are granted api.gate_approve. Nobody decides
		 * what they asked for themselves, but for the operator.
		 */
		approvers?: string | string[];
		/** How many of them must approve (1). The operator is one of them; one denial ends it, see `denials`. */
		need?: number;
		/** How many must deny it (1). */
		denials?: number;
		/** false: only the approvers decide, not the operator. */
		operator?: boolean;
		/** Nobody has answered for so long: these may decide too, and are told. */
		escalate?: { after: Duration; to: string | string[] }[];
		/** It is announced again in this interval, at most thirty times. At least a minute. */
		remind?: Duration;
		/** Names of channels (aios.yaml: notify.channels) instead of all. */
		announce?: string | string[];
		/** Its own quiet hours, "22:00-07:00" or { from, to, tz } with a time zone that is known here; false: none. */
		quiet?: false | string | { from: string; to: string; tz?: string };
		/** It is announced in the quiet hours too. */
		urgent?: boolean;
		/** It is approved with a signature: a passkey, or the operator's own shell. */
		sign?: boolean;
	}
	export interface Approved<T = any> {
		answer: "approve" | "edit" | "expired";
		/** What was shown, as edited. */
		value: T;
		/** For the option `approval` of ctx.call. */
		approval: number;
		by: string;
		reason: string;
	}

	export interface Checks {
		/** Texts that links and claims may come from (objects: their `text`, `body` or `markdown`). */
		sources?: unknown[];
		length?: { min?: number; max?: number; unit?: "words" | "characters" };
		/** Every link must be in a source, or begin with one of `allow`. */
		links?: true | { allow?: string | string[] };
		/**
		 * Every sentence with a number or a name must be found: in `texts` and `sources`, and, with `prefix` or without
		 * any text, in memory by search. `threshold`: the share of its words that one source must have (0.6); its
		 * numbers it must have all.
		 */
		claims?: true | { texts?: unknown[]; prefix?: string; limit?: number; threshold?: number };
		schema?: Schema;
		/** A second model reads the text against the sources. */
		model?: true | { tier?: string; model?: string; max_tokens?: number };
		/** Facts that must say so: each quote (8 characters or more) stands in the value of its fact. */
		citations?: { key: string; quote: string }[];
	}
	export interface CheckProblem {
		check: "length" | "links" | "claims" | "schema" | "model" | "citations";
		message: string;
		url?: string;
		claim?: string;
		support?: number;
	}
	export interface Verdict {
		ok: boolean;
		/** 0 to 1. */
		confidence: number;
		problems: CheckProblem[];
		/** How many claims were checked. */
		claims: number;
		/** With citations or a model: the step that found it, for the option `confidence` of ctx.call. */
		step?: number;
	}

	/** What a run was started with. Called, it runs another flow and gives its result. */
	export interface Run {
		/** With a `timeout` it ends, and this rejects with the code "timeout", when its time is over. */
		/**
		 * `shed`: labels that the value loses, when it fits the `output` schema that the flow declares and the operator, who
		 * sees it at a gate, says so. The run that calls must not have read the data itself.
		 */
		<Result = any>(
			flow: string, input?: Json, options?: { timeout?: Duration; shed?: ("untrusted" | "private")[] },
		): Promise<Result>;
		readonly id: number;
		readonly flow: string;
		readonly by: string;
		readonly key: string;
		readonly customer: string;
		/** Effects are only shown, not sent. */
		readonly dry: boolean;
		readonly parent?: number;
		/** After ctx.again: which generation this is (0 is the first), and the run that it follows. */
		readonly generation?: number;
		readonly previous?: number;
		/** The run whose first steps it took over. */
		readonly forked_from?: number;
		readonly context: { readonly [key: string]: any };
	}

	export interface Log {
		(...parts: unknown[]): Promise<null>;
		debug(...parts: unknown[]): Promise<null>;
		info(...parts: unknown[]): Promise<null>;
		warn(...parts: unknown[]): Promise<null>;
		error(...parts: unknown[]): Promise<null>;
	}

	/** How a run came to its end; or that it did not in time. */
	export type Ended<T = any> =
		| { state: "done"; value: T; timeout?: undefined }
		| { state: "failed" | "cancelled"; problem: { code?: string; message?: string }; timeout?: undefined }
		| { timeout: true; state?: undefined };

	/** What a signal brought; or that none came in time. */
	export type Signal<T> = { payload: T; timeout?: undefined } | { payload?: undefined; timeout: true };

	export interface Arm<T> {
		arm: number;
		value: T;
		how: string;
	}

	export interface OutcomeAbout {
		customer?: string;
		/** An outcome with the same key counts once. */
		key?: string;
		/** What it is worth, in nano-USD. */
		money?: number;
		experiment?: string;
		arm?: number;
	}

	export interface Ctx {
		readonly run: Run;
		/** Any action by name. Each call is a step: judged, recorded, done once. Rejects with StepError. */
		call<Result = any>(action: string, args?: { [key: string]: any }, options?: CallOptions): Promise<Result>;
		/** Asks a model. */
		model<T = any>(request: ModelRequest<T>): Promise<ModelAnswer<T>>;
		/** Runs an agent (agents/NAME.md). Other members of the task but `timeout` are given to it under their names. */
		agent(name: string, task: string | { task: string; [key: string]: Json }): Promise<AgentAnswer>;
		readonly memory: Memory;
		/** Short-lived context outside the log. */
		session(id: string): Session;
		/** Asks a person. Throws Denied when the answer is no, or when it expires and onExpiry is "deny". */
		approve<T = any>(question: Question): Promise<Approved<T>>;
		/** Sleeps for a time, or until a point in time. Costs nothing meanwhile. */
		sleep(how: Duration | Date | { until: Date | string | number }): Promise<null>;
		/** Waits for a signal that is sent to this run. */
		signal<T = any>(name: string, options?: { timeout?: Duration }): Promise<Signal<T>>;
		/**
		 * Waits for the next event of a topic (order.paid), of all below one (order.*), or of all (*). What was published
		 * before it began to wait is over. Needs the grant event.wait.
		 */
		event<T = any>(topic: string, options?: { timeout?: Duration }): Promise<(Event<T> & { timeout?: undefined }) | { timeout: true; payload?: undefined }>;
		/**
		 * Publishes an event: runs that wait for it go on, flows that are declared for it start. With a `key`, once. Needs the
		 * grant event.publish.
		 */
		publish(topic: string, payload?: Json, options?: { key?: string }): Promise<{ id?: number; started?: number[]; existing?: true; dry?: true }>;
		/** Starts another flow and does not wait for it; with a `key`, once. To wait: ctx.run(flow, input). */
		start(
			flow: string,
			input?: Json,
			options?: { key?: string; delay?: Duration; priority?: number },
		): Promise<{ run: number }>;
		/** Waits for the end of any run, open or ended; neither ends with the other. Needs the grant run.wait. */
		wait<T = any>(run: number | { run: number }, options?: { timeout?: Duration }): Promise<Ended<T>>;
		/** A place to roll back to. A name that is used again stands where it was used last. */
		checkpoint(name: string): Promise<null>;
		/**
		 * Undoes every step since the checkpoint (without one: every step) that has an `undo` beside it, the last begun
		 * first, those of the flows and agents that this run ran among them. What was asked for since and has not left
		 * is not sent any more. Resolves with what was undone, in that order.
		 */
		rollback(to?: string): Promise<Undone[]>;
		/**
		 * Ends this run, and begins its next generation with `state` as its input (of the flow's current version), under
		 * the same key and for whoever waits for it. For runs that live long: nothing of this one stays in memory.
		 */
		again(state?: Json): Promise<never>;
		/** Checks a text or value. */
		verify(value: unknown, checks: Checks): Promise<Verdict>;
		/** Chooses an arm: evenly, by what outcomes taught ("thompson", which still explores), or the best so far. */
		experiment: {
			<T extends Json>(name: string, arms: T[], options?: { mode?: "even" | "thompson" | "best" }): Promise<Arm<T>>;
			counts(name: string): Promise<{ n: number; wins: number; value: number }[]>;
		};
		/** Records a business result. */
		outcome(name: string, value?: number, about?: OutcomeAbout): Promise<null>;
		/** From here on calls are for this customer, unless they say otherwise; without a customer: for nobody. */
		attribute(who?: { customer?: string }): void;
		/** The time of the run's last event, in milliseconds; as Date.now(). */
		now(): number;
		/** From 0 to below 1, from the run's seed; as Math.random(). */
		random(): number;
		/** A line in the run's timeline; as console.log. */
		readonly log: Log;
	}
}
