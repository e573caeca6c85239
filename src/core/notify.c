/* What aios.yaml says about announcements (notify) and signatures (gates), beyond its schema. */
#include <errno.h>
#include <string.h>

#include "base/money.h"
#include "core/core_int.h"
#include "core/plan.h"

static bool has(struct base_jv v, const char *member)
{
	return base_jv_str(base_jv_get(v, member)).len > 0;
}

/* In the clear only to this machine: titles, and secrets. */
static bool is_safe(struct base_str url)
{
	static const char *const near[] = {
		"http://localhost:", "http://localhost/", "http://127.0.0.1:", "http://127.0.0.1/"};

	if (base_str_starts(url, BASE_STR("https://")))
		return true;
	for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++)
		if (base_str_starts(url, base_str_of(near[i])))
			return true;
	return false;
}

static int lacks(struct base_str name, const char *what, struct base_err *err)
{
	return base_err_set(
		err, -EINVAL, "aios.yaml: notify.channels.%.*s needs %s", BASE_STR_ARG(name), what);
}

static int check_channel(struct base_str name, struct base_jv v, struct base_err *err)
{
	struct base_str kind = base_jv_str(base_jv_get(v, "kind")), url = base_jv_str(base_jv_get(v, "url")),
			to = base_jv_str(base_jv_get(v, "to"));

	if (to.len && !base_str_is(to, "operator") && !base_str_starts(to, BASE_STR("key/")))
		return base_err_set(err, -EINVAL,
			"aios.yaml: notify.channels.%.*s.to is operator or key/NAME, whom it reaches",
			BASE_STR_ARG(name));
	if (url.len && !is_safe(url))
		return lacks(name, "an https:// url (http:// only to this machine)", err);
	if (base_str_is(kind, "mail"))
		return has(v, "address") ? 0 : lacks(name, "an address", err);
	if (base_str_is(kind, "ntfy"))
		return url.len && has(v, "topic") ? 0 : lacks(name, "a url and a topic", err);
	if (base_str_is(kind, "telegram"))
		return has(v, "chat") && has(v, "secret")
			       ? 0
			       : lacks(name, "a chat, and the secret of its bot", err);
	return url.len && has(v, "secret") ? 0 : lacks(name, "a url, and a secret to sign with", err);
}

static int check_quiet(struct base_jv quiet, struct base_err *err)
{
	struct base_str tz = base_jv_str(base_jv_get(quiet, "tz"));
	int from = core_minutes_of(base_jv_str(base_jv_get(quiet, "from"))),
	    to = core_minutes_of(base_jv_str(base_jv_get(quiet, "to")));

	if (base_jv_kind(quiet) == BASE_JSON_NONE)
		return 0;
	if (from < 0 || to < 0 || from == to)
		return base_err_set(err, -EINVAL,
			"aios.yaml: notify.quiet: two times of the day such as {from: \"22:00\", to: "
			"\"07:00\"}");
	if (tz.len && !core_zone_name_valid(tz))
		return base_err_set(
			err, -EINVAL, "aios.yaml: notify.quiet.tz is no time zone: %.*s", BASE_STR_ARG(tz));
	return 0;
}

/* The door refuses a Host that it does not know: a link there would lead nowhere. */
static int check_base(struct base_jv root, struct base_str base, struct base_err *err)
{
	struct base_jv hosts = base_jv_get(base_jv_get(root, "door"), "hosts"), v;
	struct base_str none, rest, host, port;
	struct base_jv_iter it = {0};

	if (!base.len)
		return 0;
	rest = base_str_sub(base, base_str_starts(base, BASE_STR("https://")) ? 8 : 7, base.len);
	(void)base_str_cut(rest, ':', &host, &port);
	if (base_str_is(host, "localhost") || base_str_is(host, "127.0.0.1"))
		return 0;
	while (base_jv_next(hosts, &it, &none, &v))
		if (base_str_eq(base_jv_str(v), host) || base_str_eq(base_jv_str(v), rest))
			return 0;
	return base_err_set(err, -EINVAL,
		"aios.yaml: notify.base leads to %.*s: add it to door.hosts, or the door refuses its links",
		BASE_STR_ARG(host));
}

int core_notify_check(struct base_jv root, struct base_err *err)
{
	static const char *const times[] = {"link_life", "remind"};
	struct base_jv notify = base_jv_get(root, "notify"), v;
	struct base_jv_iter it = {0};
	struct base_str name;
	int64_t n;

	v = base_jv_get(base_jv_get(root, "gates"), "sign_above");
	if (base_jv_kind(v) != BASE_JSON_NONE && base_money_parse(base_jv_str(v), &n, NULL) < 0)
		return base_err_set(
			err, -EINVAL, "aios.yaml: gates.sign_above is not an amount such as \"100 USD\"");
	for (size_t i = 0; i < 2; i++) {
		v = base_jv_get(notify, times[i]);
		if (base_jv_kind(v) != BASE_JSON_NONE &&
			(base_duration_parse(base_jv_str(v), &n, NULL) < 0 || n < 60000))
			return base_err_set(err, -EINVAL,
				"aios.yaml: notify.%s is a time of at least a minute, such as \"4h\"",
				times[i]);
	}
	if (check_base(root, base_jv_str(base_jv_get(notify, "base")), err) < 0)
		return -EINVAL;
	if (check_quiet(base_jv_get(notify, "quiet"), err) < 0)
		return -EINVAL;
	while (base_jv_next(base_jv_get(notify, "channels"), &it, &name, &v))
		if (check_channel(name, v, err) < 0)
			return -EINVAL;
	return 0;
}
