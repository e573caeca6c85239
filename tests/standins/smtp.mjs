// A mail server that is not ours: the npm package smtp-server, which must be installed in MODULES/node_modules
// (npm install --prefix MODULES smtp-server). Prints {"port": N} when it listens (on 127.0.0.1).
//
// usage: smtp.mjs --modules MODULES --log FILE.jsonl [--port N] [--auth USER:PASSWORD] [--tls none|starttls|tls
//        --key KEY.pem --cert CERT.pem] [--while-stdin]
//
// Each message that was taken is one line of the log, synced before it is confirmed: {"from", "to": [...], "data", "at_ms"}.
import { openSync, writeSync, fsyncSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const options = { port: "0", tls: "none" };
const flags = new Set();
for (let i = 2; i < process.argv.length; i++) {
	const name = process.argv[i].replace(/^--/, "");
	if (name === "while-stdin")
		flags.add(name);
	else
		options[name] = process.argv[++i];
}
if (!options.modules || !options.log) {
	console.error("usage: smtp.mjs --modules MODULES --log FILE.jsonl [...]");
	process.exit(2);
}
const { SMTPServer } = createRequire(resolve(options.modules, "package.json"))("smtp-server");
const log = openSync(options.log, "a");
const disabled = [];
if (!options.auth)
	disabled.push("AUTH");
if (options.tls !== "starttls")
	disabled.push("STARTTLS");

const server = new SMTPServer({
	secure: options.tls === "tls",
	key: options.key && readFileSync(options.key),
	cert: options.cert && readFileSync(options.cert),
	disabledCommands: disabled,
	authOptional: !options.auth,
	allowInsecureAuth: options.tls === "none",
	disableReverseLookup: true,
	logger: false,
	onAuth(auth, session, done) {
		if (`${auth.username}:${auth.password}` === options.auth)
			done(null, { user: auth.username });
		else
			done(new Error("Invalid username or password"));
	},
	onData(stream, session, done) {
		const chunks = [];
		stream.on("data", (chunk) => chunks.push(chunk));
		stream.on("end", () => {
			const { mailFrom, rcptTo } = session.envelope;
			const entry = {
				from: mailFrom.address,
				to: rcptTo.map((r) => r.address),
				data: Buffer.concat(chunks).toString("latin1"),
				at_ms: Date.now(),
			};
			writeSync(log, JSON.stringify(entry) + "\n");
			fsyncSync(log);
			done();
		});
	},
});
server.on("error", () => {}); // of a client that went away
server.listen(Number(options.port), "127.0.0.1", () => {
	console.log(JSON.stringify({ port: server.server.address().port }));
});
if (flags.has("while-stdin")) {
	process.stdin.resume();
	process.stdin.on("end", () => process.exit(0));
}
