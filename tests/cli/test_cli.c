/* The real `aios`: its table, its help, its exit codes; and what it says to the door, which is played here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "cli/cli_int.h"

enum { OUT_MAX = 1 << 18, REQUESTS_MAX = 8 };

static char out[OUT_MAX];
static char dir[64];

/* Runs `aios ARGS` in a shell; stdout and stderr into `out`. The exit code. */
static int aios(const char *fmt, ...)
{
	char args[2048], command[8192];
	const char *bin = getenv("AIOS_BIN");
	va_list ap;
	size_t n;
	FILE *p;

	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	snprintf(command, sizeof(command),
		"cd %s && unset AIOS_WORKSPACE DISPLAY WAYLAND_DISPLAY && (%s/aios %s) 2>&1 </dev/null", dir,
		bin ? bin : ".", args);
	p = popen(command, "r");
	assert_non_null(p);
	n = fread(out, 1, sizeof(out) - 1, p);
	out[n] = '\0';
	return WEXITSTATUS(pclose(p));
}

static void assert_exit(int got, int want)
{
	if (got != want)
		fail_msg("exit %d instead of %d: %s", got, want, out);
}

static void assert_out(const char *what)
{
	if (!strstr(out, what))
		fail_msg("\"%s\" is not in: %s", what, out);
}

/* --- the door
 * ---------------------------------------------------------------------------------------------------------
 */

struct fake {
	pthread_t thread;
	int fd;
	const char *answers[REQUESTS_MAX]; /* "STATUS BODY", ended by NULL */
	char *requests[REQUESTS_MAX];
	unsigned count;
};

/* One request, headers and body, into memory of its own; NULL at the end of the connection. */
static char *read_request(int fd)
{
	char *text = malloc(1 << 18), *end = NULL, *at;
	size_t have = 0, want = SIZE_MAX;
	ssize_t n;

	while (have < want && (n = recv(fd, text + have, (1 << 18) - 1 - have, 0)) > 0) {
		have += (size_t)n;
		text[have] = '\0';
		end = strstr(text, "\r\n\r\n");
		at = strcasestr(text, "Content-Length: ");
		if (end)
			want = (size_t)(end + 4 - text) + (at && at < end ? strtoul(at + 16, NULL, 10) : 0);
	}
	if (have >= want)
		return text;
	free(text);
	return NULL;
}

static void *serve(void *arg)
{
	struct fake *f = arg;

	while (f->answers[f->count]) {
		int fd = accept(f->fd, NULL, NULL);
		char *request;

		if (fd < 0)
			break;
		while (f->answers[f->count] && (request = read_request(fd))) {
			const char *answer = f->answers[f->count], *body = strchr(answer, ' ') + 1;

			f->requests[f->count++] = request;
			dprintf(fd,
				"HTTP/1.1 %.3s X\r\nContent-Type: application/json\r\nContent-Length: "
				"%zu\r\n\r\n%s",
				answer, strlen(body), body);
		}
		close(fd);
	}
	return NULL;
}

static void fake_start(struct fake *f)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	snprintf(un.sun_path, sizeof(un.sun_path), "%s/ws/.aios/run/door.sock", dir);
	unlink(un.sun_path);
	f->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(f->fd, 8), 0);
	assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
}

static void fake_stop(struct fake *f, unsigned requests)
{
	char path[256];
	unsigned i;

	shutdown(f->fd, SHUT_RDWR);
	pthread_join(f->thread, NULL);
	close(f->fd);
	snprintf(path, sizeof(path), "%s/ws/.aios/run/door.sock", dir);
	unlink(path);
	if (f->count != requests)
		fail_msg("%u requests instead of %u; %s", f->count, requests, out);
	for (i = 0; i < f->count; i++)
		free(f->requests[i]);
}

static void asked(const struct fake *f, unsigned i, const char *what)
{
	assert_true(i < f->count);
	if (!strstr(f->requests[i], what))
		fail_msg("\"%s\" is not in request %u: %s", what, i, f->requests[i]);
}

/* --- the table --- */

static void every_command_has_help(void **state)
{
	const struct cli_option *o;
	size_t i;

	(void)state;
	assert_exit(aios("--help"), 0);
	for (i = 0; cli_command_at(i); i++)
		assert_out(cli_command_at(i)->summary);
	for (i = 0; cli_command_at(i); i++) {
		const struct cli_command *cmd = cli_command_at(i);

		assert_exit(aios("%s --help", cmd->name), 0);
		assert_out("usage: aios ");
		assert_out(cmd->summary);
		assert_out("--json");
		for (o = cmd->options; o && o->name; o++)
			assert_out(o->what);
	}
	assert_exit(aios("memory --help"), 0);
	assert_out("memory history");
}

static void usage_errors(void **state)
{
	size_t i;

	(void)state;
	assert_exit(aios(""), CLI_USAGE);
	assert_exit(aios("nothing"), CLI_USAGE);
	assert_out("no command nothing");
	assert_exit(aios("memory"), CLI_USAGE);
	assert_exit(aios("memory nothing"), CLI_USAGE);
	assert_exit(aios("runs --limit"), CLI_USAGE);
	assert_exit(aios("runs --json=1"), CLI_USAGE);
	assert_exit(aios("runs -x"), CLI_USAGE);
	for (i = 0; cli_command_at(i); i++) {
		const struct cli_command *cmd = cli_command_at(i);

		if (!cmd->extra) {
			assert_exit(aios("%s --no-such-option", cmd->name), CLI_USAGE);
			assert_out("--no-such-option");
		}
		if (cmd->min > 0)
			assert_exit(aios("%s", cmd->name), CLI_USAGE);
		if (cmd->max < 4)
			assert_exit(aios("%s a b c d e", cmd->name), CLI_USAGE);
	}
	assert_exit(aios("-C ws run x --wait --detach"), CLI_USAGE);
	assert_exit(aios("-C ws settle 1"), CLI_USAGE);
	assert_exit(aios("-C ws settle 1 --send --result 1"), CLI_USAGE);
	assert_exit(aios("-C ws secrets set x"), CLI_USAGE);
	assert_exit(aios("-C ws keys add x"), CLI_USAGE);
	assert_exit(aios("-C ws costs --since soon"), CLI_USAGE);
	assert_exit(aios("completion tcsh"), CLI_USAGE);
}

static void completes(void **state)
{
	size_t i;

	(void)state;
	assert_exit(aios("completion fish"), 0);
	for (i = 0; cli_command_at(i); i++)
		assert_out(strrchr(cli_command_at(i)->name, ' ') ? strrchr(cli_command_at(i)->name, ' ') + 1
								 : cli_command_at(i)->name);
	assert_exit(aios("completion zsh"), 0);
	assert_out("bashcompinit");
	/* bash itself says what it would offer */
	assert_exit(
		aios("completion bash > c.sh; bash -c '. ./c.sh; COMP_CWORD=1; COMP_WORDS=(aios mem); _aios; "
		     "echo \"<${COMPREPLY[*]}>\"; COMP_CWORD=2; COMP_WORDS=(aios memory se); _aios; "
		     "echo \"<${COMPREPLY[*]}>\"; COMP_WORDS=(aios run --dr); _aios; echo "
		     "\"<${COMPREPLY[*]}>\"; "
		     "COMP_CWORD=3; COMP_WORDS=(aios memory put --ba); _aios; echo \"<${COMPREPLY[*]}>\"'"),
		0);
	assert_out("<memory>");
	assert_out("<search>");
	assert_out("<--dry>");
	assert_out("<--base>");
}

/* --- without a door --- */

static void makes_workspaces(void **state)
{
	(void)state;
	assert_exit(aios("init new --name 'My \"own\" letter' --json"), 0);
	assert_out("\"files\":5");
	assert_exit(aios("--version; cat new/aios.yaml"), 0);
	assert_out("name: \"My \\\"own\\\" letter\"");
	assert_exit(aios("--version; ls new new/flows"), 0);
	assert_out("policy.yaml");
	assert_out("aios.d.ts");
	assert_out("jsconfig.json");
	assert_out("hello.js");
	/* what is there stays */
	assert_exit(aios("--version; echo 'name: mine' > new/aios.yaml"), 0);
	assert_exit(aios("init new"), 0);
	assert_out("left as it is");
	assert_exit(aios("--version; cat new/aios.yaml"), 0);
	assert_out("name: mine");
	/* from an example, without what starts with a dot */
	assert_exit(aios("--version; mkdir -p new/.aios && touch new/.aios/x && mkdir -p new/lib && "
			 "echo 1 > new/lib/a.js"),
		0);
	assert_exit(aios("init copy --from new"), 0);
	assert_exit(aios("--version; ls -A copy copy/lib"), 0);
	assert_out("a.js");
	assert_null(strstr(out, ".aios\n"));
	assert_exit(aios("init copy2 --from no-such-folder"), CLI_FAILED);
}

/* --- up --- */

static void reads_the_port(void **state)
{
	static const struct {
		const char *yaml;
		int port;
	} cases[] = {
		{"name: x\ndoor: { port: 7800 }\n", 7800},
		{"door: {port: 0}", 0},
		{"door: { hosts: [a.example, b], limits: { x: 1, port: 5 }, port: 81 } # port: 82\n", 81},
		{"# door\nname: x\ndoor:   # here\n\n  # port: 1\n  hosts: [a]\n  limits:\n    port: 2\n  "
		 "port: 7801 # "
		 "that\nmail: {}\n",
			7801},
		{"door:\r\n  port: 7802\r\n", 7802},
		{"door:\n  hosts: [a]\nmail:\n  port: 25\n", -1},
		{"mail: { port: 25 }\n", -1},
		{"mail:\n  door: { port: 25 }\n", -1},
		{"doors: { port: 1 }\n", -1},
		{"door: { port: 70000 }\n", -1},
		{"door: { port: 7x }\n", -1},
		{"door: { port: }\n", -1},
		{"door: { port: 1", -1},
		{"door: { hosts: [\"a, port: 1\"], port: 2 }\n", -1}, /* not sure: nothing */
		{"door: 7\n", -1},
		{"door:\n", -1},
		{"door:", -1},
		{"", -1},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (cli_door_port(base_str_of(cases[i].yaml)) != cases[i].port)
			fail_msg("%s gave %d", cases[i].yaml, cli_door_port(base_str_of(cases[i].yaml)));
}

/* A port on which nobody listens, as far as one can know. */
static unsigned free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	close(fd);
	return ntohs(a.sin_port);
}

/* The first start listens where aios.yaml says, though nothing was deployed; also once it is changed; and from the
 * first deploy on what is deployed counts. */
static void starts_on_its_port(void **state)
{
	unsigned first = free_port(), second = free_port(), third = free_port();
	char want[3][32];

	(void)state;
	snprintf(want[0], sizeof(want[0]), "\"port\":%u,", first);
	snprintf(want[1], sizeof(want[1]), "\"port\":%u,", second);
	snprintf(want[2], sizeof(want[2]), "\"port\":%u,", third);
	assert_exit(aios("init up --name up"), 0);
	assert_exit(aios("--version; echo 'door: { port: %u }' > up/aios.yaml", first), 0);
	assert_exit(aios("-C up up --json"), 0);
	assert_out(want[0]);
	assert_exit(aios("-C up down"), 0);
	assert_exit(aios("--version; printf 'door:\\n  port: %u\\n' > up/aios.yaml", second), 0);
	assert_exit(aios("-C up up --json"), 0);
	assert_out(want[1]);
	assert_exit(aios("-C up deploy"), 0);
	assert_exit(aios("-C up down"), 0);
	assert_exit(aios("--version; echo 'door: { port: %u }' > up/aios.yaml", third), 0);
	assert_exit(aios("-C up up --json"), 0);
	assert_out(want[1]);
	assert_exit(aios("-C up down"), 0);
	assert_exit(aios("-C up up --json --port %u", third), 0);
	assert_out(want[2]);
	assert_exit(aios("-C up down"), 0);
}

static void knows_where_it_is(void **state)
{
	(void)state;
	assert_exit(aios("runs"), CLI_NO_WORKSPACE);
	assert_exit(aios("-C nowhere runs"), CLI_NO_WORKSPACE);
	assert_exit(aios("-C ws runs"), CLI_NOT_RUNNING);
	assert_out("aios up");
	assert_exit(aios("runs --workspace ws"), CLI_NOT_RUNNING);
	assert_exit(aios("-C ws down"), 0);
	assert_out("does not run");
	assert_exit(
		aios("-C ws doctor --json"), CLI_OK); /* all programs stand beside it in the build folder */
	assert_out("\"check\":\"kernel\"");
	assert_out("\"check\":\"disk sync\"");
}

/* --- with a door --- */

static void binds_what_was_shown(void **state)
{
	struct fake f = {
		.answers = {
			"200 "
			"{\"gate\":3,\"title\":\"T\",\"shown\":\"abcd\",\"show\":{\"body\":\"b\",\"n\":1}}",
			"200 {\"gate\":3,\"answer\":\"edit\"}"}};

	(void)state;
	fake_start(&f);
	assert_exit(aios("-C ws --version; printf 'new\\ntext' > edit.md; $AIOS_BIN/aios -C ws approve "
			 "3 --edit edit.md "
			 "--reason 'a b'"),
		0);
	asked(&f, 0, "GET /v1/gates/3 ");
	asked(&f, 1, "POST /v1/gates/3/approve ");
	asked(&f, 1, "\"shown\":\"abcd\"");
	asked(&f, 1, "\"value\":{\"body\":\"new\\ntext\",\"n\":1}");
	asked(&f, 1, "\"reason\":\"a b\"");
	asked(&f, 1, "Content-Type: application/json");
	fake_stop(&f, 2);
}

static void follows_a_run(void **state)
{
	struct fake f = {.answers = {"200 {\"items\":{\"flows\":[{\"flow\":\"a "
				     "b\",\"spec\":{\"input\":{\"properties\":{\"issue\":{"
				     "\"type\":\"string\"}}}}}]}}",
				 "201 {\"run\":7,\"existing\":false}",
				 "200 {\"run\":7,\"state\":\"active\",\"gates\":[]}",
				 "200 "
				 "{\"run\":7,\"state\":\"active\",\"gates\":[{\"gate\":9,\"title\":\"T\","
				 "\"state\":\"open\"}]}"}};
	struct fake g = {
		.answers = {"201 {\"run\":8}",
			"200 {\"run\":8,\"state\":\"failed\",\"value\":{\"code\":\"x\",\"message\":\"it "
			"broke\"}}"}};

	(void)state;
	fake_start(&f);
	assert_exit(aios("-C ws run 'a b' --issue 7 --n 8 --to me@example.org --name Ada --key k1"), 0);
	asked(&f, 1, "POST /v1/flows/a%20b/runs ");
	asked(&f, 1, "{\"input\":{\"to\":\"me@example.org\",\"issue\":\"7\",\"n\":8,\"name\":\"Ada\"}}");
	asked(&f, 1, "Idempotency-Key: k1");
	asked(&f, 2, "GET /v1/runs/7?wait=1 ");
	assert_out("aios approve 9");
	fake_stop(&f, 4);
	fake_start(&g);
	assert_exit(aios("-C ws run x --dry --input '{\"a\":1}'"), CLI_FAILED);
	asked(&g, 0, "{\"input\":{\"a\":1},\"dry\":true}");
	assert_out("it broke");
	fake_stop(&g, 2);
}

static void forgets_facts(void **state)
{
	struct fake f = {.answers = {"200 {\"version\":3}", "409 {\"detail\":\"it has version 3\"}"}};

	(void)state;
	fake_start(&f);
	assert_exit(aios("-C ws memory forget issues/24"), 0);
	assert_out("forgotten: version 3");
	asked(&f, 0, "PUT /v1/memory/facts/issues/24 ");
	asked(&f, 0, "{\"removed\":true,\"source\":\"cli\"}");
	assert_exit(aios("-C ws memory forget issues/24 --base 2 --source 'sent anew'"), CLI_FAILED);
	assert_out("it has version 3");
	asked(&f, 1, "/issues/24?base=2 ");
	asked(&f, 1, "\"source\":\"sent anew\"");
	fake_stop(&f, 2);
	assert_exit(aios("-C ws memory forget"), CLI_USAGE);
}

static void shows_problems(void **state)
{
	struct fake f = {.answers = {"422 {\"title\":\"t\",\"detail\":\"unexpected "
				     "token\",\"file\":\"flows/x.js\",\"line\":3,"
				     "\"column\":9}"}};
	struct fake g = {.answers = {"404 {\"detail\":\"bad \\u001b[31mtext\"}"}};

	(void)state;
	fake_start(&f);
	assert_exit(aios("-C ws deploy"), CLI_FAILED);
	assert_out("flows/x.js:3:9: unexpected token");
	asked(&f, 0, "\"files\":{\"aios.yaml\":");
	asked(&f, 0, "\"flows/hello.js\":");
	fake_stop(&f, 1);
	fake_start(&g);
	assert_exit(aios("-C ws show 1"), CLI_FAILED);
	assert_out("bad ?[31mtext");
	fake_stop(&g, 1);
}

/* What a run wrote must not steer the terminal. */
static void cleans_text(void **state)
{
	struct fake f = {
		.answers = {
			"200 {\"items\":[{\"run\":1,\"flow\":\"a\\u001b]0;x\\u0007\\u009b1m\\u202eb\\nc\","
			"\"state\":\"done\",\"cost\":1500000000}]}"}};

	(void)state;
	fake_start(&f);
	assert_exit(aios("-C ws runs"), 0);
	assert_null(strchr(out, 033));
	assert_null(strchr(out, 7));
	assert_null(strstr(out, "\xc2\x9b"));
	assert_null(strstr(out, "\xe2\x80\xae"));
	assert_out("1.50 USD");
	fake_stop(&f, 1);
}

static void seals_secrets(void **state)
{
	uint8_t public[crypto_box_PUBLICKEYBYTES], secret[crypto_box_SECRETKEYBYTES], plain[64];
	struct base_buf key, sealed;
	struct fake f = {.answers = {NULL, "200 {}"}};
	char answer[256], *at, *end;

	(void)state;
	assert_int_equal(crypto_box_keypair(public, secret), 0);
	base_buf_init(&key, 256);
	base_buf_init(&sealed, 4096);
	base_b64url_put(&key, (struct base_str){(const char *)public, sizeof(public)});
	snprintf(answer, sizeof(answer), "200 {\"public_key\":\"%.*s\"}", (int)key.len, key.ptr);
	f.answers[0] = answer;
	fake_start(&f);
	assert_exit(aios("--version; printf 'top secret\\n' | $AIOS_BIN/aios -C ws secrets set k --host "
			 "api.example.org"),
		0);
	asked(&f, 1, "PUT /v1/secrets/k ");
	asked(&f, 1, "\"host\":\"api.example.org\"");
	assert_null(strstr(f.requests[1], "secret\""));
	at = strstr(f.requests[1], "\"sealed\":\"");
	assert_non_null(at);
	end = strchr(at + 10, '"');
	assert_int_equal(base_b64_get((struct base_str){at + 10, (size_t)(end - at - 10)}, &sealed), 0);
	assert_int_equal(sealed.len, 10 + crypto_box_SEALBYTES);
	assert_int_equal(crypto_box_seal_open(plain, (uint8_t *)sealed.ptr, sealed.len, public, secret), 0);
	assert_memory_equal(plain, "top secret", 10);
	fake_stop(&f, 2);
	base_buf_done(&key);
	base_buf_done(&sealed);
}

static void prints_json(void **state)
{
	struct fake f = {.answers = {"200 {\"items\":[]}"}};
	struct fake g = {.answers = {"409 {\"detail\":\"no\"}"}};

	(void)state;
	fake_start(&f);
	assert_exit(aios("-C ws runs --json"), 0);
	assert_string_equal(out, "{\"items\":[]}\n");
	fake_stop(&f, 1);
	fake_start(&g);
	assert_exit(aios("-C ws thaw --json 2>/dev/null"), CLI_FAILED);
	assert_out("{\"detail\":\"no\"}");
	fake_stop(&g, 1);
}

static int start(void **state)
{
	(void)state;
	if (sodium_init() < 0)
		return -1;
	strcpy(dir, "/tmp/cli-test-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	return aios("init ws --name test && mkdir -p ws/.aios/run && chmod 700 ws/.aios");
}

static int stop(void **state)
{
	char command[256];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_command_has_help),
		cmocka_unit_test(usage_errors),
		cmocka_unit_test(completes),
		cmocka_unit_test(makes_workspaces),
		cmocka_unit_test(reads_the_port),
		cmocka_unit_test(starts_on_its_port),
		cmocka_unit_test(knows_where_it_is),
		cmocka_unit_test(binds_what_was_shown),
		cmocka_unit_test(follows_a_run),
		cmocka_unit_test(forgets_facts),
		cmocka_unit_test(shows_problems),
		cmocka_unit_test(cleans_text),
		cmocka_unit_test(seals_secrets),
		cmocka_unit_test(prints_json),
	};

	return cmocka_run_group_tests_name("cli", tests, start, stop);
}
